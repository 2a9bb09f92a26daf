package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

// completionTimeout bounds how long a pressed Tab key waits for the agent.
const completionTimeout = 2 * time.Second

// completeVolumes offers the names of volumes, or the ids of those without one, for the first most arguments; most < 0
// means for all. What goes wrong offers nothing: nobody can read an error behind a Tab key.
func (c *cli) completeVolumes(most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if most >= 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		c.useEnvironment(cmd.Root())
		volumes, _ := c.client().Volumes(ctx, client.VolumeFilter{})
		var names []cobra.Completion
		for _, v := range volumes {
			if !v.Temporary() {
				names = append(names, completion(v))
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeBackends offers the back ends of this node.
func (c *cli) completeBackends(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	c.useEnvironment(cmd.Root())
	backends, _ := c.client().Backends(ctx)
	var names []cobra.Completion
	for _, b := range backends {
		names = append(names, cobra.CompletionWithDesc(printable(b.Name), printable(b.Driver)))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeSections offers the sections of the running agent's configuration.
func (c *cli) completeSections(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	c.useEnvironment(cmd.Root())
	settings, _ := c.client().Config(ctx, "")
	var names []cobra.Completion
	for _, s := range settings {
		if name := printable(s.Section); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completion is the word for a volume, with what a shell may show beside it.
func completion(v client.Volume) cobra.Completion {
	word := v.DisplayName()
	if word == "" {
		word = v.ID
	}
	return cobra.CompletionWithDesc(printable(word), v.Status+", "+size(v.Bytes()))
}
