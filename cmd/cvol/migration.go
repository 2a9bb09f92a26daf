package main

import (
	"context"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

func (c *cli) migrationCommand() *cobra.Command {
	command := group(&cobra.Command{
		Use:   "migration",
		Short: "List, watch, abort and resolve migrations",
		Long: `Commands on migrations. A migration is named by its id, or by its volume: then the volume's last migration is
meant.`,
		Example: `  cvol migration list --active
  cvol migration wait db`,
	})
	command.AddCommand(
		c.migrationListCommand(), c.migrationShowCommand(), c.migrationWaitCommand(),
		c.migrationAbortCommand(), c.migrationResolveCommand(),
	)
	return command
}

// findMigration finds a migration by its own id, or by the id or name of its volume.
func (c *cli) findMigration(ctx context.Context, name string) (client.Migration, error) {
	if uuid.Validate(name) == nil {
		m, err := c.client().Migration(ctx, name)
		if err == nil || !client.IsNotFound(err) {
			return m, err
		}
	}
	v, err := c.client().Volume(ctx, name)
	if client.IsNotFound(err) {
		return client.Migration{}, client.NewError(404, "Neither a migration nor a volume of that id or name could be found.")
	}
	if err != nil {
		return client.Migration{}, err
	}
	return c.newestMigration(ctx, v)
}
