package main

import (
	"context"
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
standard output. Any NBD client takes the URI: qemu, nbdinfo, nbdcopy, nbd-client. If the volume is at
another node it is the URI over TCP, which needs a client certificate.`,
		Example: `  qemu-img info "$(cvol export --read-only db)"
  nbdcopy "$(cvol export db)" db.img`,
		Args:              arguments(1, 1),
		ValidArgsFunction: c.completeVolumes(1),
	}
	command.Flags().BoolVar(&readOnly, "read-only", false, "allow reading alone")
	command.RunE = func(cmd *cobra.Command, args []string) error {
		v, a, err := c.expose(cmd.Context(), args[0], readOnly, (*client.Client).Export)
		if err != nil {
			return fmt.Errorf("export volume %s: %w", args[0], err)
		}
		if c.json {
			return c.printJSON(client.AttachmentAnswer{Attachment: a})
		}
		c.printf("%s", c.reachable(cmd.Context(), v.Owner, a))
		return nil
	}
	return command
}

// expose makes an attachment of a volume in one of the client's ways.
func (c *cli) expose(ctx context.Context, name string, readOnly bool,
	make func(*client.Client, context.Context, string, bool) (client.Attachment, error),
) (client.Volume, client.Attachment, error) {
	v, err := c.client().Volume(ctx, name)
	if err != nil {
		return v, client.Attachment{}, err
	}
	a, err := make(c.client(), ctx, v.ID, readOnly)
	if err != nil {
		err = c.inUse(v, err)
	}
	return v, a, err
}

// reachable is the URI that works on this node. The unix socket is that of the volume's owner.
func (c *cli) reachable(ctx context.Context, owner string, a client.Attachment) string {
	version, err := c.client().Version(ctx)
	switch {
	case err != nil || owner == "" || owner == version.Node:
		return a.URI
	case a.TCPURI == "":
		c.notef("the volume is at node %s: the URI works there alone, its agent does not serve NBD over TCP", owner)
		return a.URI
	}
	c.notef("the volume is at node %s: the URI needs a client certificate (cvol pki issue --client)", owner)
	return a.TCPURI
}
