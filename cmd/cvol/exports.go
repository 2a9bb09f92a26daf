package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

func (c *cli) exportsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "exports",
		Short: "List what is served over NBD now, and to whom",
		Long: `List what the NBD servers of this node and of its peers serve now: the exports of attachments, and those that
volumes are copied through when they migrate to the node. CLIENTS are the connections that are open; READ and
WRITTEN count since the export began. With --json each client is there too, with what it did. If a peer does not
answer, its exports are missing: the exit code is then 3.`,
		Example: `  cvol exports
  cvol exports --json | jq '.exports[].clients'`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := c.client().ServedExports(cmd.Context())
			var partial *client.PartialError
			if err != nil && !errors.As(err, &partial) {
				return fmt.Errorf("list exports: %w", err)
			}
			if err := c.showExports(all); err != nil {
				return err
			}
			if err != nil {
				return fmt.Errorf("list all exports: %w", err)
			}
			return nil
		},
	}
}

func (c *cli) showExports(all []client.ServedExport) error {
	if c.json {
		return c.printJSON(client.ServedExportsAnswer{Exports: all})
	}
	rows := make([][]string, len(all))
	for i, e := range all {
		mode := "read-write"
		if e.ReadOnly {
			mode = "read-only"
		}
		rows[i] = []string{
			e.Name, e.Node, e.Kind, e.VolumeID, mode, strconv.Itoa(len(e.Clients)),
			size(int64(e.BytesRead)), size(int64(e.BytesWritten)),
		}
	}
	c.table([]string{"EXPORT", "NODE", "FOR", "VOLUME", "MODE", "CLIENTS", "READ", "WRITTEN"}, rows)
	return nil
}
