package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

func (c *cli) migrationShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "show MIGRATION|VOLUME",
		Short:             "Show a migration and its history",
		Long:              `Show where a migration stands, how far its copy is, and what happened so far.`,
		Example:           `  cvol migration show db`,
		Args:              arguments(1, 1),
		ValidArgsFunction: c.completeVolumes(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := c.findMigration(cmd.Context(), args[0])
			if err != nil {
				return fmt.Errorf("show migration %s: %w", args[0], err)
			}
			if c.json {
				return c.printJSON(client.MigrationAnswer{Migration: m})
			}
			if len(m.Events) == 0 {
				m.Events, err = c.client().MigrationEvents(cmd.Context(), m.ID)
			}
			if err != nil && !client.IsNotFound(err) {
				return fmt.Errorf("show history of migration %s: %w", m.ID, err)
			}
			c.showMigration(m)
			return nil
		},
	}
}

func (c *cli) showMigration(m client.Migration) {
	c.fields(append(migrationFields(m), progressFields(m)...))
	if len(m.Events) == 0 {
		return
	}
	_, _ = fmt.Fprintln(c.stdout)
	rows := make([][]string, len(m.Events))
	for i, e := range m.Events {
		rows[i] = []string{local(e.At), e.State, e.Message}
	}
	c.table([]string{"AT", "STATE", "MESSAGE"}, rows)
}

func migrationFields(m client.Migration) []field {
	return []field{
		{"id", m.ID},
		{"volume", m.VolumeID},
		{"name", m.VolumeName},
		{"role of this node", m.Role},
		{"source", m.SourceHost},
		{"target", m.TargetHost},
		{"state", m.State},
		{"reason", m.Reason},
		{"migration status", m.Status},
		{"status before", m.PreviousStatus},
		{"force host copy", yes(m.ForceHostCopy)},
		{"locked", yes(m.LockVolume)},
		{"attempt", strconv.FormatUint(m.Attempt, 10)},
		{"created", local(m.CreatedAt)},
		{"finished", local(m.FinishedAt)},
	}
}

func progressFields(m client.Migration) []field {
	p := m.Progress
	return []field{
		{"size", exactSize(p.TotalBytes)},
		{"verified", exactSize(p.VerifiedBytes)},
		{"done", percent(p)},
		{"now", readBack(m)},
		{"sent", exactSize(p.SentBytes)},
		{"holes", exactSize(p.ZeroBytes)},
		{"resumed", exactSize(p.ResumedBytes)},
		{"copied again", fmt.Sprintf("%d chunks", p.Mismatches)},
		{"rate", rate(p.BytesPerSecond)},
		{"time left", timeLeft(p)},
		{"algorithm", m.Algorithm},
		{"class", m.Class},
		{"root", m.Root},
		{"source kept", yes(m.SourceKept)},
	}
}

// timeLeft is what the agent expects; empty while it does not know.
func timeLeft(p client.Progress) string {
	if p.ETASeconds <= 0 {
		return ""
	}
	return took(time.Duration(p.ETASeconds * float64(time.Second)))
}
