package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

// errFailed is an agent that says that it cannot serve volumes.
var errFailed = errors.New("serve volumes: the agent says that it has failed")

func (c *cli) healthCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "health",
		Short: "Ask whether the agent can serve volumes",
		Long: `Ask the agent whether it can serve volumes: its catalog and its back ends are looked at. It is ok, degraded if
some back ends do not answer, or failed if the catalog or all of them do not. The exit code is 0 unless it has
failed (1) or cannot be reached (3).`,
		Example: `  cvol health`,
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := c.client().Health(cmd.Context())
			if err != nil {
				return fmt.Errorf("ask for the agent's health: %w", err)
			}
			if err := c.showHealth(h); err != nil {
				return err
			}
			if h.Status == client.HealthFailed {
				return errFailed
			}
			return nil
		},
	}
}

func (c *cli) showHealth(h client.Health) error {
	if c.json {
		return c.printJSON(h)
	}
	all := []field{{"status", h.Status}}
	for _, check := range h.Checks {
		all = append(all, field{check.Name, state(check.Message, check.OK)})
	}
	c.fields(all)
	return nil
}
