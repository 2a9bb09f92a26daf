package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

func (c *cli) manifestCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "manifest VOLUME",
		Short: "Show what a volume held when it was migrated",
		Long: `Show the manifest that the volume's last migration left: the root of all chunk digests, how they were made,
and how the copy was verified before the source was deleted. The class says what was read back:

  device-direct     the target's medium, past its caches
  server-readback   what the target's NBD server answered
  cached            what the target's node answered, maybe from its cache

Two volumes with the same root (and algorithm) held the same bytes.`,
		Example:           `  cvol manifest db`,
		Args:              arguments(1, 1),
		ValidArgsFunction: c.completeVolumes(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := c.client().Volume(cmd.Context(), args[0])
			if err != nil {
				return fmt.Errorf("show manifest of volume %s: %w", args[0], err)
			}
			m, err := c.client().Manifest(cmd.Context(), v.ID)
			if err != nil {
				return fmt.Errorf("show manifest of volume %s: %w", args[0], err)
			}
			return c.showManifest(m)
		},
	}
}

func (c *cli) showManifest(m client.Manifest) error {
	if c.json {
		return c.printJSON(client.ManifestAnswer{Manifest: m})
	}
	c.fields([]field{
		{"root", m.Root},
		{"algorithm", m.Algorithm},
		{"class", m.Class},
		{"volume", m.VolumeID},
		{"migration", m.MigrationID},
		{"volume size", exactSize(m.VolumeSize)},
		{"chunk size", exactSize(m.ChunkSize)},
		{"created", local(m.CreatedAt)},
	})
	return nil
}
