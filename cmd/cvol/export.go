package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

func (c *cli) exportCommand() *cobra.Command {
	var readOnly bool
	command := &cobra.Command{
		Use:   "export VOLUME",
		Short: "Serve a volume over NBD",
		Long: `Serve a volume over NBD until cvol unexport, also after restarts of the agent, and print its NBD URI alone on
standard output. Any NBD client takes the URI: qemu, nbdinfo, nbdcopy, nbd-client.`,
		Example: `  qemu-img info "$(cvol export --read-only db)"
  nbdcopy "$(cvol export db)" db.img`,
		Args:              arguments(1, 1),
		ValidArgsFunction: c.completeVolumes(1),
	}
	command.Flags().BoolVar(&readOnly, "read-only", false, "allow reading alone")
	command.RunE = func(cmd *cobra.Command, args []string) error {
		v, err := c.client().Volume(cmd.Context(), args[0])
		if err != nil {
			return fmt.Errorf("export volume %s: %w", args[0], err)
		}
		a, err := c.client().Export(cmd.Context(), v.ID, readOnly)
		if err != nil {
			return fmt.Errorf("export volume %s: %w", args[0], err)
		}
		if c.json {
			return c.printJSON(client.AttachmentAnswer{Attachment: a})
		}
		c.printf("%s", a.URI)
		return nil
	}
	return command
}
