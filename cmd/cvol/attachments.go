package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

func (c *cli) attachmentsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "attachments [VOLUME]",
		Short: "List who may use volumes, over NBD and as block devices",
		Long: `List the attachments, of one volume or of all: each is an NBD export of its NODE. The URI is for clients on
that node; TCP is for others, over TLS, if its agent listens there. DEVICE is the block device of NODE that
cvol attach has made. If a peer does not answer, its attachments are missing: the exit code is then 3.`,
		Example:           `  cvol attachments db`,
		Args:              arguments(0, 1),
		ValidArgsFunction: c.completeVolumes(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			volumeID := ""
			if len(args) > 0 {
				v, err := c.client().Volume(cmd.Context(), args[0])
				if err != nil {
					return fmt.Errorf("list attachments of volume %s: %w", args[0], err)
				}
				volumeID = v.ID
			}
			all, err := c.client().Attachments(cmd.Context(), volumeID)
			var partial *client.PartialError
			if err != nil && !errors.As(err, &partial) {
				return fmt.Errorf("list attachments: %w", err)
			}
			if err := c.showAttachments(all); err != nil {
				return err
			}
			if err != nil {
				return fmt.Errorf("list all attachments: %w", err)
			}
			return nil
		},
	}
}

func (c *cli) showAttachments(all []client.Attachment) error {
	if c.json {
		return c.printJSON(client.AttachmentsAnswer{Attachments: all})
	}
	rows := make([][]string, len(all))
	for i, a := range all {
		mode := "read-write"
		if a.ReadOnly {
			mode = "read-only"
		}
		rows[i] = []string{a.ID, a.VolumeID, a.Node, mode, a.Device, local(a.CreatedAt), a.URI, a.TCPURI}
	}
	c.table([]string{"ID", "VOLUME", "NODE", "MODE", "DEVICE", "CREATED", "URI", "TCP"}, rows)
	for _, a := range all {
		if a.Trouble != "" {
			c.notef("attachment %s of volume %s: %s", a.ID, a.VolumeID, a.Trouble)
		}
	}
	return nil
}
