package main

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

func (c *cli) detachCommand() *cobra.Command {
	var force bool
	command := &cobra.Command{
		Use:   "detach VOLUME|ATTACHMENT|DEVICE",
		Short: "Take the block device of a volume away",
		Long: `End what cvol attach began: the device is flushed, then it is taken away. While it is mounted, or another
program has it for itself, that is refused. A volume with just one attachment may be named itself; DEVICE is
a path on this machine, /dev/nbdN or a link to it.

With --force nothing is asked and nothing is flushed: what programs and file systems have not written is lost,
and they get errors.`,
		Example: `  umount /mnt && cvol detach db
  cvol detach /dev/nbd0`,
		Args:              arguments(1, 1),
		ValidArgsFunction: c.completeVolumes(1),
	}
	command.Flags().BoolVar(&force, "force", false, "detach it though it is in use, without a flush")
	command.RunE = func(cmd *cobra.Command, args []string) error {
		a, err := c.findDevice(cmd, args[0])
		if err == nil && force {
			err = c.client().Detach(cmd.Context(), a.ID)
		} else if err == nil {
			err = c.client().Unexport(cmd.Context(), a.ID)
		}
		if err != nil {
			return fmt.Errorf("detach %s: %w", args[0], err)
		}
		if !c.json {
			c.printf("%s of volume %s is detached.", a.Device, a.VolumeID)
		}
		return nil
	}
	return command
}

// findDevice finds the attachment of a block device: by its path, or as findAttachment does.
func (c *cli) findDevice(cmd *cobra.Command, name string) (client.Attachment, error) {
	a, err := c.findPath(cmd, name)
	if err != nil || a.ID != "" {
		return a, err
	}
	if a, err = c.findAttachment(cmd, name); err != nil {
		return a, err
	}
	if a.Device == "" {
		return a, usage(cmd, "attachment %s is no block device: cvol unexport ends it", a.ID)
	}
	return a, nil
}

// findPath finds the attachment of a path below /dev, which may be a link; none for another name.
func (c *cli) findPath(cmd *cobra.Command, name string) (client.Attachment, error) {
	if !filepath.IsAbs(name) {
		return client.Attachment{}, nil
	}
	path, err := filepath.EvalSymlinks(name)
	if err != nil {
		path = name
	}
	version, err := c.client().Version(cmd.Context())
	if err != nil {
		return client.Attachment{}, err
	}
	all, err := c.client().Attachments(cmd.Context(), "")
	if i := slices.IndexFunc(all, func(a client.Attachment) bool { return a.Node == version.Node && a.Device == path }); i >= 0 {
		return all[i], nil
	}
	if err != nil {
		return client.Attachment{}, err
	}
	return client.Attachment{}, client.NewError(404, fmt.Sprintf("No volume is attached as %s.", path))
}
