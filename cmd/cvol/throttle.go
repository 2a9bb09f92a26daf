package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

func (c *cli) throttleCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "throttle",
		Short: "Show and change the limits of copies",
		Long: `Show what slows copies down on this node and on its peers, in bytes and operations (chunks) a second: the limit
of all copies that leave a node, that of each back end, that of the copies of class "background", which is found
from how fast the node's exports are answered, and each migration's own. PASSED is what a limit has let through,
WAITED how long copies have waited at it, all together. If a peer does not answer, its limits are missing: the
exit code is then 3.

The commands below change limits of this node, and of migrations of any node, while copies run. What is set for
a migration stays until its end; the node and its back ends have what is configured again when the agent
restarts.`,
		Example: `  cvol throttle
  cvol throttle node --rate 400M`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := c.client().Limits(cmd.Context())
			var partial *client.PartialError
			if err != nil && !errors.As(err, &partial) {
				return fmt.Errorf("list limits: %w", err)
			}
			if c.json {
				if err := c.printJSON(client.LimitsAnswer{Limits: all}); err != nil {
					return err
				}
			} else {
				c.limitTable(all)
			}
			if err != nil {
				return fmt.Errorf("list all limits: %w", err)
			}
			return nil
		},
	}
	command.AddCommand(c.throttleNodeCommand(), c.throttleBackendCommand(), c.throttleMigrationCommand())
	return command
}

func (c *cli) throttleNodeCommand() *cobra.Command {
	var limit limitFlags
	command := &cobra.Command{
		Use:   "node",
		Short: "Limit all copies that leave this node",
		Long: `Limit all copies that leave this node together, until the agent restarts: then node_transfer_rate and
node_transfer_iops of its configuration count again.`,
		Example: `  cvol throttle node --rate 400M --iops 500
  cvol throttle node --rate 0                # no limit`,
		Args: arguments(0, 0),
	}
	limit.add(command)
	command.RunE = func(cmd *cobra.Command, _ []string) error {
		return c.changeLimit(cmd, &limit, "the node", c.client().LimitNode)
	}
	return command
}

func (c *cli) throttleBackendCommand() *cobra.Command {
	var limit limitFlags
	command := &cobra.Command{
		Use:   "backend NAME",
		Short: "Limit all copies of a back end",
		Long: `Limit all copies that leave this node from a back end together, and those to it that stay within the node, until
the agent restarts: then volume_copy_bps_limit and volume_copy_iops_limit of its configuration count again. NAME
is the section of the configuration, or NODE@BACKEND#POOL.`,
		Example:           `  cvol throttle backend ssd --rate 100M`,
		Args:              arguments(1, 1),
		ValidArgsFunction: c.completeBackends,
	}
	limit.add(command)
	command.RunE = func(cmd *cobra.Command, args []string) error {
		return c.changeLimit(cmd, &limit, "back end "+args[0], func(ctx context.Context, change client.LimitChange) (client.Limit, error) {
			return c.client().LimitBackend(ctx, args[0], change)
		})
	}
	return command
}

func (c *cli) throttleMigrationCommand() *cobra.Command {
	var limit limitFlags
	command := &cobra.Command{
		Use:   "migration MIGRATION|VOLUME",
		Short: "Limit the copy of a migration, or change its class",
		Long: `Limit the copy of a migration, until its end and over restarts of the agent. A copy of class "background" goes
slower while reads and writes of its node's exports are slow (background_latency in the configuration), and
faster again when they are not.`,
		Example: `  cvol throttle migration db --rate 50M
  cvol throttle migration db --class background --rate 0`,
		Args:              arguments(1, 1),
		ValidArgsFunction: c.completeVolumes(1),
	}
	limit.add(command)
	limit.addClass(command)
	command.RunE = func(cmd *cobra.Command, args []string) error {
		return c.changeLimit(cmd, &limit, "migration "+args[0], func(ctx context.Context, change client.LimitChange) (client.Limit, error) {
			m, err := c.findMigration(ctx, args[0])
			if err != nil {
				return client.Limit{}, err
			}
			return c.client().LimitMigration(ctx, m.ID, change)
		})
	}
	return command
}

// changeLimit asks for the change that the flags say, and shows the limit as it is then.
func (c *cli) changeLimit(cmd *cobra.Command, flags *limitFlags, what string, ask func(context.Context, client.LimitChange) (client.Limit, error)) error {
	change, err := flags.change(cmd)
	if err != nil {
		return err
	}
	if change == (client.LimitChange{}) {
		return usage(cmd, "nothing to change: name --rate or another flag")
	}
	limit, err := ask(cmd.Context(), change)
	if err != nil {
		return fmt.Errorf("limit %s: %w", what, err)
	}
	if c.json {
		return c.printJSON(client.LimitAnswer{Limit: limit})
	}
	c.limitTable([]client.Limit{limit})
	return nil
}

func (c *cli) limitTable(all []client.Limit) {
	rows := make([][]string, len(all))
	for i, l := range all {
		bytes, operations := "none", "none"
		if l.BytesPerSecond > 0 {
			bytes = rate(float64(l.BytesPerSecond))
		}
		if l.IOPS > 0 {
			operations = strconv.FormatInt(l.IOPS, 10)
		}
		waited := took(time.Duration(l.WaitedSeconds * float64(time.Second)))
		volume := cmp.Or(l.VolumeName, l.VolumeID)
		rows[i] = []string{l.Node, l.Kind, l.Name, volume, l.TransferClass, bytes, operations, size(l.PassedBytes), waited}
	}
	c.table([]string{"NODE", "LIMIT", "NAME", "VOLUME", "CLASS", "RATE", "IOPS", "PASSED", "WAITED"}, rows)
}

// limitFlags are those of a change of a limit.
type limitFlags struct {
	rate, class string
	iops        int64
}

func (l *limitFlags) add(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVar(&l.rate, "rate", "", "at most `BYTES` a second (1048576, 100M, 1.5G; 0 is no limit)")
	flags.Int64Var(&l.iops, "iops", 0, "at most `N` operations a second, each a chunk of 1 MiB (0 is no limit)")
}

func (l *limitFlags) addClass(command *cobra.Command) {
	command.Flags().StringVar(&l.class, "class", "", "the `CLASS` of the copy: normal or background")
	classes := []cobra.Completion{client.TransferNormal, client.TransferBackground}
	_ = command.RegisterFlagCompletionFunc("class", cobra.FixedCompletions(classes, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
}

// change is what the flags that were given come to.
func (l *limitFlags) change(cmd *cobra.Command) (client.LimitChange, error) {
	var change client.LimitChange
	if cmd.Flags().Changed("rate") {
		bytes, err := parseRate(l.rate)
		if err != nil {
			return change, usage(cmd, "--rate: %v", err)
		}
		change.BytesPerSecond = &bytes
	}
	if cmd.Flags().Changed("iops") {
		if l.iops < 0 {
			return change, usage(cmd, "--iops: %d is below 0, which is no limit", l.iops)
		}
		change.IOPS = &l.iops
	}
	if change.TransferClass = l.class; l.class != "" && l.class != client.TransferNormal && l.class != client.TransferBackground {
		return change, usage(cmd, "--class: %q is none: use %s or %s", l.class, client.TransferNormal, client.TransferBackground)
	}
	return change, nil
}
