package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

func (c *cli) retypeCommand() *cobra.Command {
	policies := []string{client.RetypeNever, client.RetypeOnDemand}
	var policy string
	command := &cobra.Command{
		Use:   "retype VOLUME TYPE",
		Short: "Give a volume another type",
		Long: `Give a volume another volume type. Its back end must have what the type asks for: no byte is moved. If it has
not, the command is refused and says what is missing; on-demand, with which Cinder migrates the volume then,
does not do so here: migrate a volume without a type to such a back end, and retype it there.`,
		Example: `  cvol retype db fast`,
		Args:    arguments(2, 2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return c.completeVolumes(1)(cmd, args, word)
			}
			return c.completeTypes(cmd, args[1:], word)
		},
	}
	command.Flags().StringVar(&policy, "migration-policy", client.RetypeNever, "`POLICY`: never or on-demand")
	_ = command.RegisterFlagCompletionFunc("migration-policy", cobra.FixedCompletions(policies, cobra.ShellCompDirectiveNoFileComp))
	command.RunE = func(cmd *cobra.Command, args []string) error {
		if !slices.Contains(policies, policy) {
			return usage(cmd, "the migration policy %q is neither never nor on-demand", policy)
		}
		v, err := c.client().Volume(cmd.Context(), args[0])
		if err == nil {
			err = c.client().RetypeVolume(cmd.Context(), v.ID, args[1], policy)
		}
		if err != nil {
			return fmt.Errorf("retype volume %s: %w", args[0], err)
		}
		if !c.json {
			c.printf("Volume %s has the type %s.", args[0], args[1])
		}
		return nil
	}
	return command
}
