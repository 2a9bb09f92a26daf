package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

func (c *cli) typeCommand() *cobra.Command {
	command := group(&cobra.Command{
		Use:   "type",
		Short: "Keep volume types and their extra specs",
		Long: `Commands on volume types. A type says by its extra specs what its volumes ask of a back end, as in OpenStack
Cinder: volume_backend_name chooses back ends by that option of their configuration, other keys without a
scope are compared with what "cvol pools --detail" shows.

Types are kept by each agent for itself. A volume with a type migrates only to an agent that has a type of
the same name with the same extra specs: make a type on all nodes.`,
		Example: `  cvol type create fast volume_backend_name=ssd
  cvol create --type fast --name db 20`,
	})
	command.AddCommand(
		c.typeListCommand(), c.typeShowCommand(), c.typeCreateCommand(),
		c.typeSetCommand(), c.typeUnsetCommand(), c.typeDeleteCommand(),
	)
	return command
}

// completeTypes offers the names of types for the first argument.
func (c *cli) completeTypes(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	c.useEnvironment(cmd.Root())
	types, _ := c.client().VolumeTypes(ctx)
	var names []cobra.Completion
	for _, t := range types {
		names = append(names, cobra.CompletionWithDesc(printable(t.Name), joinPairs(t.Specs())))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (c *cli) typeListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the volume types",
		Long:    `List the volume types of this agent, the newest first. Extra specs are shown to administrators only.`,
		Example: `  cvol type list`,
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			types, err := c.client().VolumeTypes(cmd.Context())
			if err != nil {
				return fmt.Errorf("list volume types: %w", err)
			}
			if c.json {
				return c.printJSON(client.VolumeTypesAnswer{VolumeTypes: types})
			}
			rows := make([][]string, len(types))
			for i, t := range types {
				rows[i] = []string{t.ID, t.Name, deref(t.Description), joinPairs(t.Specs())}
			}
			c.table([]string{"ID", "NAME", "DESCRIPTION", "EXTRA SPECS"}, rows)
			return nil
		},
	}
}

func (c *cli) typeShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "show TYPE",
		Short:             "Show a volume type",
		Long:              `Show a volume type, one field a line. TYPE is an id or a name.`,
		Example:           `  cvol type show fast`,
		Args:              arguments(1, 1),
		ValidArgsFunction: c.completeTypes,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := c.client().VolumeType(cmd.Context(), args[0])
			if err != nil {
				return fmt.Errorf("show volume type %s: %w", args[0], err)
			}
			return c.showType(t)
		},
	}
}

// showType prints one type.
func (c *cli) showType(t client.VolumeType) error {
	if c.json {
		return c.printJSON(client.VolumeTypeAnswer{VolumeType: t})
	}
	c.fields([]field{
		{"id", t.ID},
		{"name", t.Name},
		{"description", deref(t.Description)},
		{"extra specs", joinPairs(t.Specs())},
	})
	return nil
}

func (c *cli) typeCreateCommand() *cobra.Command {
	var description string
	command := &cobra.Command{
		Use:   "create NAME [KEY=VALUE...]",
		Short: "Make a volume type",
		Long: `Make a volume type with these extra specs, and show it. Types of one name have one id on all nodes.

A value may begin with one of Cinder's operators: "<is> True", "<in> x", "<or> a <or> b", "s== x", "= 10" (at
least 10). Keys with a scope (qos:…) are words to the driver and choose nothing.`,
		Example: `  cvol type create fast volume_backend_name=ssd`,
		Args:    arguments(1, -1),
	}
	command.Flags().StringVar(&description, "description", "", "a `TEXT` about it")
	command.RunE = func(cmd *cobra.Command, args []string) error {
		specs, err := parsePairs(args[1:])
		if err != nil {
			return usage(cmd, "%v", err)
		}
		t, err := c.client().CreateVolumeType(cmd.Context(), client.CreateVolumeType{
			Name: args[0], Description: nullable(description), ExtraSpecs: specs,
		})
		if err != nil {
			return fmt.Errorf("create volume type: %w", err)
		}
		return c.showType(t)
	}
	return command
}

func (c *cli) typeDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "delete TYPE",
		Short:             "Delete a volume type",
		Long:              `Delete a volume type that no volume has.`,
		Example:           `  cvol type delete fast`,
		Args:              arguments(1, 1),
		ValidArgsFunction: c.completeTypes,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := c.client().VolumeType(cmd.Context(), args[0])
			if err == nil {
				err = c.client().DeleteVolumeType(cmd.Context(), t.ID)
			}
			if err != nil {
				return fmt.Errorf("delete volume type %s: %w", args[0], err)
			}
			if !c.json {
				c.printf("Volume type %s is deleted.", args[0])
			}
			return nil
		},
	}
}
