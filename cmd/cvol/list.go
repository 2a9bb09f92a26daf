package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

func (c *cli) listCommand() *cobra.Command {
	var filter client.VolumeFilter
	command := &cobra.Command{
		Use:   "list",
		Short: "List the volumes",
		Long: `List the volumes of this node and of its peers, one a line. The column MIGRATION is Cinder's migration_status;
it and HOST are shown to administrators only. If a peer does not answer, its volumes are missing: the exit code
is then 3.`,
		Example: `  cvol list --status error
  cvol list --json | jq -r '.volumes[].id'`,
		Args: arguments(0, 0),
	}
	command.Flags().StringVar(&filter.Status, "status", "", "only volumes with this `STATUS`: available, in-use, error, …")
	command.Flags().StringVar(&filter.Name, "name", "", "only volumes with this `NAME`")
	command.RunE = func(cmd *cobra.Command, _ []string) error {
		volumes, err := c.client().Volumes(cmd.Context(), filter)
		var partial *client.PartialError
		if err != nil && !errors.As(err, &partial) {
			return fmt.Errorf("list volumes: %w", err)
		}
		if err := c.showVolumes(volumes); err != nil {
			return err
		}
		if err != nil {
			return fmt.Errorf("list all volumes: %w", err)
		}
		return nil
	}
	return command
}

func (c *cli) showVolumes(volumes []client.Volume) error {
	if c.json {
		return c.printJSON(client.VolumesAnswer{Volumes: volumes})
	}
	rows := make([][]string, len(volumes))
	for i, v := range volumes {
		rows[i] = []string{
			v.ID, v.DisplayName(), v.Status, size(v.Bytes()), deref(v.VolumeType), v.Location(), v.Migration(),
		}
	}
	c.table([]string{"ID", "NAME", "STATUS", "SIZE", "TYPE", "HOST", "MIGRATION"}, rows)
	return nil
}

// deref is what a nullable string says.
func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
