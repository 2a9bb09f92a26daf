package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

func (c *cli) servicesCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "services",
		Short: "List the services of all nodes, enable and disable them",
		Long: `List the services of this node and of its peers: each back end is one, NODE@BACKEND, as in OpenStack Cinder. A
service is up if its back end answers; a node whose agent does not answer is listed as down. A disabled service
keeps what it has, and takes no new volumes and no migrations.`,
		Example: `  cvol services
  cvol services disable nodeA@ssd --reason maintenance`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			services, err := c.client().Services(cmd.Context())
			if err != nil {
				return fmt.Errorf("list services: %w", err)
			}
			if c.json {
				return c.printJSON(client.ServicesAnswer{Services: services})
			}
			rows := make([][]string, len(services))
			for i, s := range services {
				rows[i] = []string{s.Host, s.Status, s.State, local(s.UpdatedAt.Time), deref(s.DisabledReason)}
			}
			c.table([]string{"SERVICE", "STATUS", "STATE", "UPDATED", "DISABLED REASON"}, rows)
			return nil
		},
	}
	command.AddCommand(c.servicesEnableCommand(), c.servicesDisableCommand())
	return command
}

func (c *cli) servicesEnableCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "enable SERVICE",
		Short:   "Let a service take volumes again",
		Long:    `Let a service take new volumes and migrations again. SERVICE is NODE@BACKEND.`,
		Example: `  cvol services enable nodeA@ssd`,
		Args:    arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.client().EnableService(cmd.Context(), args[0]); err != nil {
				return fmt.Errorf("enable service %s: %w", args[0], err)
			}
			if !c.json {
				c.printf("Service %s is enabled.", args[0])
			}
			return nil
		},
	}
}

func (c *cli) servicesDisableCommand() *cobra.Command {
	var reason string
	command := &cobra.Command{
		Use:     "disable SERVICE",
		Short:   "Keep new volumes and migrations from a service",
		Long:    `Keep new volumes and migrations from a service. What it has stays and works. SERVICE is NODE@BACKEND.`,
		Example: `  cvol services disable nodeA@ssd --reason maintenance`,
		Args:    arguments(1, 1),
	}
	command.Flags().StringVar(&reason, "reason", "", "a `TEXT` on why, shown to others")
	command.RunE = func(cmd *cobra.Command, args []string) error {
		if err := c.client().DisableService(cmd.Context(), args[0], reason); err != nil {
			return fmt.Errorf("disable service %s: %w", args[0], err)
		}
		if !c.json {
			c.printf("Service %s is disabled.", args[0])
		}
		return nil
	}
	return command
}
