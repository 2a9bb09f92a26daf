package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

func (c *cli) migrationWaitCommand() *cobra.Command {
	var timeout time.Duration
	command := &cobra.Command{
		Use:   "wait MIGRATION|VOLUME",
		Short: "Watch a migration until it is over",
		Long: `Watch a migration until it is over: a bar on a terminal, else a line for each change of phase. A line about the
result ends it. The exit code is 0 if the volume is at its target, 7 if the migration failed, 8 if the time of
--timeout was over first. Ctrl-C ends the watching, never the migration.`,
		Example:           `  cvol migration wait --timeout 30m db`,
		Args:              arguments(1, 1),
		ValidArgsFunction: c.completeVolumes(1),
	}
	command.Flags().DurationVar(&timeout, "timeout", 0, "stop watching after this `TIME` (90s, 2h; 0 is never)")
	command.RunE = func(cmd *cobra.Command, args []string) error {
		m, err := c.findMigration(cmd.Context(), args[0])
		if err != nil {
			return fmt.Errorf("watch migration %s: %w", args[0], err)
		}
		return c.watchMigration(cmd.Context(), m, timeout)
	}
	return command
}
