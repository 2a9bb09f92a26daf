package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

func (c *cli) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the agent's back ends, peers and warnings",
		Long: `Show how the agent of this node is: since when it runs, which back ends it serves and how full they are, which
other agents it knows and whether they answer, and what the operator should see to.`,
		Example: `  cvol status
  cvol status --json | jq -r '.warnings[]'`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := c.client().Status(cmd.Context())
			if err != nil {
				return fmt.Errorf("show status: %w", err)
			}
			if c.json {
				return c.printJSON(s)
			}
			c.showStatus(s)
			return nil
		},
	}
}

func (c *cli) showStatus(s client.Status) {
	c.fields([]field{
		{"node", s.Node},
		{"store", s.StoreID},
		{"started", local(s.StartedAt)},
		{"nbd", strings.Join(s.NBD.Addresses, ", ")},
		{"view", s.View},
	})
	c.showBackends(s.Backends)
	c.showPeers(s.Peers)
	for _, warning := range s.Warnings {
		c.printf("WARNING: %s", warning)
	}
}

func (c *cli) showBackends(backends []client.BackendStatus) {
	rows := make([][]string, len(backends))
	for i, b := range backends {
		total, free := size(b.TotalBytes), size(b.FreeBytes)
		if b.Error != "" {
			total, free = "", ""
		}
		rows[i] = []string{b.Host, b.BackendName, b.Driver, total, free, state(b.Error, true)}
	}
	_, _ = fmt.Fprintln(c.stdout)
	c.table([]string{"HOST", "BACKEND NAME", "DRIVER", "TOTAL", "FREE", "STATE"}, rows)
	_, _ = fmt.Fprintln(c.stdout)
}

func (c *cli) showPeers(peers []client.PeerStatus) {
	if len(peers) == 0 {
		return
	}
	rows := make([][]string, len(peers))
	for i, p := range peers {
		rows[i] = []string{p.Node, p.Address, state(p.Error, p.Reachable)}
	}
	c.table([]string{"PEER", "ADDRESS", "STATE"}, rows)
	_, _ = fmt.Fprintln(c.stdout)
}

// state is "ok", or why not.
func state(why string, ok bool) string {
	switch {
	case why != "":
		return "error: " + why
	case !ok:
		return "error: not reachable"
	}
	return "ok"
}
