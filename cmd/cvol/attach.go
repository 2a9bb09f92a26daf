package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

func (c *cli) attachCommand() *cobra.Command {
	var readOnly bool
	command := &cobra.Command{
		Use:   "attach VOLUME",
		Short: "Make a volume a block device of this machine",
		Long: `Make a volume a block device of this machine until cvol detach, and print its path, /dev/nbdN, alone on
standard output. It is an NBD export, too. When the agent restarts, what uses the device waits for it; when
the machine does, the device is made anew, and may have another N. Its name that stays is
/dev/disk/by-id/cvold-ID, with the volume's id, where udev has cvold's rule.

The volume must be at this node. The kernel needs its NBD client: modprobe nbd.`,
		Example: `  mkfs.ext4 "$(cvol attach db)"
  mount "$(cvol attach --read-only db)" /mnt`,
		Args:              arguments(1, 1),
		ValidArgsFunction: c.completeVolumes(1),
	}
	command.Flags().BoolVar(&readOnly, "read-only", false, "allow reading alone")
	command.RunE = func(cmd *cobra.Command, args []string) error {
		_, a, err := c.expose(cmd.Context(), args[0], readOnly, (*client.Client).Attach)
		if err != nil {
			return fmt.Errorf("attach volume %s: %w", args[0], err)
		}
		if c.json {
			return c.printJSON(client.AttachmentAnswer{Attachment: a})
		}
		c.printf("%s", a.Device)
		return nil
	}
	return command
}
