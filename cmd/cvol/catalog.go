package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/internal/durable"
)

func (c *cli) catalogCommand() *cobra.Command {
	command := group(&cobra.Command{
		Use:     "catalog",
		Short:   "Back the agent's catalog up, or rebuild it",
		Long:    `Commands on the catalog of this node: the agent's records of its volumes, types, attachments and migrations.`,
		Example: `  cvol catalog backup /backup/cvold.db`,
	})
	command.AddCommand(c.catalogBackupCommand(), c.catalogRebuildCommand())
	return command
}

func (c *cli) catalogBackupCommand() *cobra.Command {
	var force bool
	command := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write a copy of the catalog to a file",
		Long: `Write a copy of this node's catalog, as it is now, to FILE, with the mode 0600; "-" is standard output. The
agent goes on meanwhile. A FILE that exists is replaced with --force only, and then whole or not at all.

It holds the records, not the bytes of volumes. To put it back: stop the agent, keep the present file for
inquiry, copy FILE to cvold.db in the state directory, start the agent. It then asks all its peers what they
own before it serves anything, for volumes may have moved since: all of them have to be reachable.`,
		Example: `  cvol catalog backup /backup/cvold.db
  cvol catalog backup - | zstd > cvold.db.zst`,
		Args: arguments(1, 1),
	}
	command.Flags().BoolVar(&force, "force", false, "replace FILE if it exists")
	command.RunE = func(cmd *cobra.Command, args []string) error {
		n, err := c.backup(cmd.Context(), args[0], force)
		if err != nil {
			return fmt.Errorf("back the catalog up to %s: %w", args[0], err)
		}
		switch {
		case args[0] == "-": // standard output has the catalog
			return nil
		case c.json:
			return c.printJSON(map[string]any{"file": args[0], "size_bytes": n})
		}
		c.printf("The catalog is in %s, %s.", args[0], size(n))
		return nil
	}
	return command
}

func (c *cli) backup(ctx context.Context, path string, force bool) (n int64, err error) {
	if path == "-" {
		return c.client().BackupCatalog(ctx, c.stdout)
	}
	info, err := os.Lstat(path)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return 0, errors.New("it is no regular file")
	case err == nil && !force:
		return 0, errors.New("it exists already: name another file, or replace it with --force")
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return 0, err
	}
	err = durable.WriteFile(path, 0o600, func(w io.Writer) error {
		n, err = c.client().BackupCatalog(ctx, w)
		return err
	})
	return n, err
}
