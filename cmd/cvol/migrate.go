package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

func (c *cli) migrateCommand() *cobra.Command {
	var force, lock optionalWord
	var limit limitFlags
	var wait bool
	var timeout time.Duration
	command := &cobra.Command{
		Use:   "migrate VOLUME HOST",
		Short: "Migrate a volume to another back end or node",
		Long: `Migrate a volume to HOST (node@backend#pool), with the flags and the meaning of "cinder migrate". The copy is
read back and compared before the source is deleted; it goes on by itself after a restart of either agent.

Without --wait, cvol ends as soon as the migration is accepted. With --wait it shows how far the migration is
until it is over; Ctrl-C ends the watching, never the migration.

An unlocked migration can be aborted, and is ended by whoever attaches, extends or deletes the volume. A locked
one keeps the volume in status "maintenance", refuses all that, and cannot be aborted.

With --rate, --iops and --class the copy has limits of its own instead of the configured ones; while it runs,
"cvol throttle migration" changes them.`,
		Example: `  cvol migrate db nodeB@ssd#ssd
  cvol migrate --lock-volume --wait db nodeB@ssd#ssd
  cvol migrate --force-host-copy True --wait --timeout 2h db nodeB@ssd#ssd`,
		Args:              arguments(2, 2),
		ValidArgsFunction: c.completeVolumes(1),
	}
	flags := command.Flags()
	flags.Var(&force, "force-host-copy", "copy the bytes even if the driver could move the volume by itself")
	flags.Var(&lock, "lock-volume", "keep all other commands away from the volume meanwhile")
	limit.add(command)
	limit.addClass(command)
	flags.BoolVar(&wait, "wait", false, "watch the migration until it is over")
	flags.DurationVar(&timeout, "timeout", 0, "with --wait: stop watching after this `TIME` (90s, 2h; 0 is never)")
	command.RunE = func(cmd *cobra.Command, args []string) error {
		if timeout != 0 && !wait {
			return usage(cmd, "--timeout needs --wait")
		}
		own, err := limit.change(cmd)
		if err != nil {
			return err
		}
		m, err := c.startMigration(cmd.Context(), args[0], client.MigrateVolume{
			Host: args[1], ForceHostCopy: client.Bool(force), LockVolume: client.Bool(lock),
			BytesPerSecond: own.BytesPerSecond, IOPS: own.IOPS, TransferClass: own.TransferClass,
		})
		if err != nil {
			return fmt.Errorf("migrate volume %s to %s: %w", args[0], args[1], err)
		}
		if wait {
			return c.watchMigration(cmd.Context(), m, timeout)
		}
		return c.accepted(m)
	}
	return command
}

// errNameless: what answers is no agent, or an old one.
var errNameless = errors.New("it was accepted, but how it goes is not known: the answer does not name the migration")

// startMigration asks for the migration and returns just that one: an older one of the volume would tell of another copy.
func (c *cli) startMigration(ctx context.Context, name string, m client.MigrateVolume) (client.Migration, error) {
	v, err := c.client().Volume(ctx, name)
	if err != nil {
		return client.Migration{}, err
	}
	id, err := c.client().MigrateVolume(ctx, v.ID, m)
	if err != nil {
		return client.Migration{}, c.inUse(v, err)
	}
	if id == "" {
		return client.Migration{}, errNameless
	}
	accepted, err := c.client().Migration(ctx, id)
	if err != nil {
		return accepted, fmt.Errorf("it was accepted, but how it goes is not known: %w", err)
	}
	return accepted, nil
}

// accepted tells that the migration is under way.
func (c *cli) accepted(m client.Migration) error {
	if c.json {
		return c.printJSON(client.MigrationAnswer{Migration: m})
	}
	c.printf("Request to migrate volume %s has been accepted.", m.VolumeID)
	c.notef("watch it: cvol migration wait %s", m.ID)
	return nil
}

// newestMigration is the last migration of a volume. Its owner has a half of that, so a list without the owner's part will
// not do; one without the part of others will.
func (c *cli) newestMigration(ctx context.Context, v client.Volume) (client.Migration, error) {
	volumeID := v.ID
	all, err := c.client().Migrations(ctx, client.MigrationFilter{VolumeID: volumeID})
	var partial *client.PartialError
	if err != nil && (!errors.As(err, &partial) || slices.Contains(partial.Nodes, v.Owner) || len(all) == 0) {
		return client.Migration{}, err
	}
	all = slices.DeleteFunc(all, func(m client.Migration) bool { return m.VolumeID != volumeID })
	if len(all) == 0 {
		return client.Migration{}, client.NewError(404, fmt.Sprintf("Volume %s has no migration.", volumeID))
	}
	newest := slices.MaxFunc(all, func(a, b client.Migration) int { return a.CreatedAt.Compare(b.CreatedAt) })
	// An agent that is source and target at once has two halves of one migration: the source's leads.
	for _, m := range all {
		if m.ID == newest.ID && m.Role == client.RoleSource {
			return m, nil
		}
	}
	return newest, nil
}
