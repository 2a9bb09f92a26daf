package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

func (c *cli) migrationListCommand() *cobra.Command {
	var active bool
	command := &cobra.Command{
		Use:   "list",
		Short: "List the migrations",
		Long: `List the migrations of this node and of its peers, those that are over included, the newest first. DONE is the
part of the volume that is verified on the target. If a peer does not answer, its migrations are missing: the
exit code is then 3.`,
		Example: `  cvol migration list --active`,
		Args:    arguments(0, 0),
	}
	command.Flags().BoolVar(&active, "active", false, "leave out those that are over")
	command.RunE = func(cmd *cobra.Command, _ []string) error {
		all, err := c.client().Migrations(cmd.Context(), client.MigrationFilter{Active: active})
		var partial *client.PartialError
		if err != nil && !errors.As(err, &partial) {
			return fmt.Errorf("list migrations: %w", err)
		}
		if err := c.showMigrations(all); err != nil {
			return err
		}
		if err != nil {
			return fmt.Errorf("list all migrations: %w", err)
		}
		return nil
	}
	return command
}

func (c *cli) showMigrations(all []client.Migration) error {
	if c.json {
		return c.printJSON(client.MigrationsAnswer{Migrations: all})
	}
	rows := make([][]string, len(all))
	for i, m := range all {
		rows[i] = []string{
			m.ID, volumeOf(m), m.Role, m.State, percent(m.Progress), m.SourceHost, m.TargetHost, local(m.CreatedAt),
		}
	}
	c.table([]string{"ID", "VOLUME", "ROLE", "STATE", "DONE", "SOURCE", "TARGET", "CREATED"}, rows)
	return nil
}

// volumeOf is the volume's name, or its id if it has none.
func volumeOf(m client.Migration) string {
	if m.VolumeName != "" {
		return m.VolumeName
	}
	return m.VolumeID
}

// percent is the verified part, rounded down: 100 % means all.
func percent(p client.Progress) string {
	if p.TotalBytes <= 0 {
		return ""
	}
	return fmt.Sprintf("%d%%", int64(float64(p.VerifiedBytes)/float64(p.TotalBytes)*100))
}
