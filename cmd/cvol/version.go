package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
	"github.com/cvold/cvold/internal/version"
)

// versionLine is cvol's own version.
func versionLine() string { return fmt.Sprintf("cvol %s (%s)", version.Version(), version.Commit()) }

// versions is what version --json prints: cvol's own build, and the agent's answer, null if it does not answer.
type versions struct {
	Client version.Info    `json:"client"`
	Agent  *client.Version `json:"agent"`
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the versions of cvol and of the agent",
		Long: `Show which cvol this is, and which cvold answers at the socket. cvol --version shows the former alone and asks
nobody.`,
		Example: `  cvol version`,
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			own := versions{Client: version.Get()}
			v, err := c.client().Version(cmd.Context())
			if err == nil {
				own.Agent = &v
			}
			if err := c.showVersions(own); err != nil {
				return err
			}
			if err != nil {
				return fmt.Errorf("ask the agent's version: %w", err)
			}
			return nil
		},
	}
}

func (c *cli) showVersions(v versions) error {
	if c.json {
		return c.printJSON(v)
	}
	c.printf("%s", versionLine())
	if v.Agent != nil {
		c.printf("cvold %s (%s) on node %s, API %s", v.Agent.Version, v.Agent.Commit, v.Agent.Node, v.Agent.API)
	}
	return nil
}
