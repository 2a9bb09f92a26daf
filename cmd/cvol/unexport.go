package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

func (c *cli) unexportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "unexport VOLUME|ATTACHMENT",
		Short: "Stop serving a volume over NBD",
		Long: `End an attachment: its requests in flight are finished, then its connections are closed. A volume with just one
attachment may be named itself; see cvol attachments for the ids.`,
		Example:           `  cvol unexport db`,
		Args:              arguments(1, 1),
		ValidArgsFunction: c.completeVolumes(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.findAttachment(cmd, args[0])
			if err == nil {
				err = c.client().Unexport(cmd.Context(), a.ID)
			}
			if err != nil {
				return fmt.Errorf("unexport %s: %w", args[0], err)
			}
			if !c.json {
				c.printf("Attachment %s of volume %s has ended.", a.ID, a.VolumeID)
			}
			return nil
		},
	}
}

// findAttachment finds an attachment by its id, or as the only one of a volume.
func (c *cli) findAttachment(cmd *cobra.Command, name string) (client.Attachment, error) {
	all, err := c.client().Attachments(cmd.Context(), "")
	var partial *client.PartialError
	if err != nil && !errors.As(err, &partial) {
		return client.Attachment{}, err
	}
	if i := slices.IndexFunc(all, func(a client.Attachment) bool { return a.ID == name }); i >= 0 {
		return all[i], nil
	}
	all, err = c.attachmentsOf(cmd.Context(), name)
	switch {
	case client.IsNotFound(err) && partial != nil:
		return client.Attachment{}, partial
	case err != nil:
		return client.Attachment{}, err
	case len(all) == 0:
		return client.Attachment{}, client.NewError(404, fmt.Sprintf("Volume %s has no attachment.", name))
	case len(all) > 1:
		return client.Attachment{}, usage(cmd, "volume %s has several attachments, name one: %s", name, joinIDs(all))
	}
	return all[0], nil
}

// attachmentsOf asks the owner of the volume with this id or name.
func (c *cli) attachmentsOf(ctx context.Context, name string) ([]client.Attachment, error) {
	v, err := c.client().Volume(ctx, name)
	if client.IsNotFound(err) {
		return nil, client.NewError(404, "Neither an attachment nor a volume of that id or name could be found.")
	}
	if err != nil {
		return nil, err
	}
	return c.client().Attachments(ctx, v.ID)
}

func joinIDs(all []client.Attachment) string {
	ids := make([]string, len(all))
	for i, a := range all {
		ids[i] = a.ID
	}
	return strings.Join(ids, ", ")
}
