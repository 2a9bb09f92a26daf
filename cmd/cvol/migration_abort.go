package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (c *cli) migrationAbortCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "abort MIGRATION|VOLUME",
		Short: "Abort a migration",
		Long: `End a migration: the target is removed, the volume stays where it is and gets back the status it had. The agent
answers before it is done: see with cvol migration wait.

A locked migration cannot be aborted, nor can one that passed the point of no return: then the volume belongs to
the target, and migrating back is the way.`,
		Example:           `  cvol migration abort db`,
		Args:              arguments(1, 1),
		ValidArgsFunction: c.completeVolumes(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := c.findMigration(cmd.Context(), args[0])
			if err == nil {
				err = c.client().AbortMigration(cmd.Context(), m.ID)
			}
			if err != nil {
				return fmt.Errorf("abort migration %s: %w", args[0], err)
			}
			if !c.json {
				c.printf("Request to abort migration %s has been accepted.", m.ID)
			}
			return nil
		},
	}
}
