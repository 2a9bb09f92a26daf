package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

func (c *cli) manifestCommand() *cobra.Command {
	var file bool
	command := &cobra.Command{
		Use:   "manifest VOLUME",
		Short: "Show what a volume held when it was migrated",
		Long: `Show the manifest that the volume's last migration left: the root of all chunk digests, how they were made,
and how the copy was verified before the source was deleted. The class says what was read back:

  device-direct     the target's medium, past its caches
  server-readback   what the target's NBD server answered
  cached            what the target's node answered, maybe from its cache

Two volumes with the same root (and algorithm and chunk size) held the same bytes.

With --file it shows a manifest in a file, such as "cvol checksum --manifest" writes, when all of it was found
to be whole; no agent is asked.`,
		Example: `  cvol manifest db
  cvol manifest --file db.manifest`,
		Args:              arguments(1, 1),
		ValidArgsFunction: c.completeVolumes(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if file {
				return c.showManifestFile(args[0])
			}
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
	command.Flags().BoolVar(&file, "file", false, "VOLUME is the path of a manifest's file")
	return command
}

func (c *cli) showManifestFile(path string) error {
	h, root, err := readManifest(path)
	if err != nil {
		return fmt.Errorf("show manifest: %w", err)
	}
	return c.showManifest(client.Manifest{
		VolumeID: h.VolumeID, Root: root.String(), Algorithm: h.Algorithm.String(), ChunkSize: h.ChunkSize,
		VolumeSize: h.VolumeSize, Class: h.Class.String(), CreatedAt: h.Created,
	})
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
