package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

func (c *cli) showCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show VOLUME",
		Short: "Show a volume",
		Long:  `Show all that the agent tells of a volume, one field a line. VOLUME is an id or a name.`,
		Example: `  cvol show db
  cvol show --json db | jq -r .volume.status`,
		Args:              arguments(1, 1),
		ValidArgsFunction: c.completeVolumes(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := c.client().Volume(cmd.Context(), args[0])
			if err != nil {
				return fmt.Errorf("show volume %s: %w", args[0], err)
			}
			return c.showVolume(v)
		},
	}
}

// showVolume prints one volume.
func (c *cli) showVolume(v client.Volume) error {
	if c.json {
		return c.printJSON(client.VolumeAnswer{Volume: v})
	}
	c.fields([]field{
		{"id", v.ID},
		{"name", v.DisplayName()},
		{"description", deref(v.Description)},
		{"status", v.Status},
		{"reason", v.StatusReason},
		{"size", exactSize(v.Bytes())},
		{"type", deref(v.VolumeType)},
		{"host", v.Location()},
		{"owner", v.Owner},
		{"migration status", v.Migration()},
		{"attachments", attachmentIDs(v.Attachments)},
		{"metadata", joinPairs(v.Metadata)},
		{"created", local(v.CreatedAt.Time)},
		{"updated", local(v.UpdatedAt.Time)},
	})
	return nil
}

func attachmentIDs(attachments []client.VolumeAttachment) string {
	ids := make([]string, len(attachments))
	for i, a := range attachments {
		ids[i] = a.AttachmentID
	}
	return strings.Join(ids, ", ")
}

// joinPairs writes KEY=VALUE words, ordered.
func joinPairs(pairs map[string]string) string {
	words := make([]string, 0, len(pairs))
	for _, key := range slices.Sorted(maps.Keys(pairs)) {
		words = append(words, key+"="+pairs[key])
	}
	return strings.Join(words, ", ")
}
