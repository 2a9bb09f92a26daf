package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

func (c *cli) transfersCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "transfers",
		Short: "List the copies that run now",
		Long: `List the copies that run now on this node and on its peers, each under the id of the migration that it is for.
DONE is the part of the volume that is verified on the target; RATE is over the last seconds. If a peer does not
answer, its transfers are missing: the exit code is then 3.`,
		Example: `  cvol transfers`,
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := c.client().Transfers(cmd.Context())
			var partial *client.PartialError
			if err != nil && !errors.As(err, &partial) {
				return fmt.Errorf("list transfers: %w", err)
			}
			if err := c.showTransfers(all); err != nil {
				return err
			}
			if err != nil {
				return fmt.Errorf("list all transfers: %w", err)
			}
			return nil
		},
	}
}

func (c *cli) showTransfers(all []client.Transfer) error {
	if c.json {
		return c.printJSON(client.TransfersAnswer{Transfers: all})
	}
	rows := make([][]string, len(all))
	for i, t := range all {
		name, left := t.VolumeName, ""
		if name == "" {
			name = t.VolumeID
		}
		if t.Progress.ETASeconds > 0 {
			left = took(time.Duration(t.Progress.ETASeconds * float64(time.Second)))
		}
		rows[i] = []string{t.ID, name, t.SourceHost, t.TargetHost, percent(t.Progress), rate(t.Progress.BytesPerSecond), left}
	}
	c.table([]string{"ID", "VOLUME", "SOURCE", "TARGET", "DONE", "RATE", "LEFT"}, rows)
	return nil
}
