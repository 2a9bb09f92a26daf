package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

func (c *cli) eventsCommand() *cobra.Command {
	var volume, migration string
	command := &cobra.Command{
		Use:   "events",
		Short: "Follow what changes on this node",
		Long: `Follow what changes on this node, a line for each change, until interrupted: volumes, migrations and their
progress, attachments, and services. What there is already is not shown. With --json each line is a JSON object,
and what there is comes first, between a "hello" and a "ready". If the agent ends the exit code is 3.`,
		Example: `  cvol events
  cvol events --volume db
  cvol events --json | jq -c 'select(.kind == "migration") | .migration.state'`,
		Args: arguments(0, 0),
	}
	command.Flags().StringVar(&volume, "volume", "", "only what concerns this `VOLUME`")
	command.Flags().StringVar(&migration, "migration", "", "only what concerns the migration with this `ID`")
	_ = command.RegisterFlagCompletionFunc("volume", c.completeVolumes(-1))
	command.RunE = func(cmd *cobra.Command, _ []string) error {
		filter := client.ChangeFilter{MigrationID: migration}
		if volume != "" {
			v, err := c.client().Volume(cmd.Context(), volume)
			if err != nil {
				return fmt.Errorf("follow volume %s: %w", volume, err)
			}
			filter.VolumeID = v.ID
		}
		ready := false
		for change, err := range c.client().Changes(cmd.Context(), filter) {
			if err != nil {
				return fmt.Errorf("follow events: %w", err)
			}
			if err := c.showChange(change, ready); err != nil {
				return err
			}
			ready = ready || change.Kind == client.ChangeReady
		}
		return nil
	}
	return command
}

// showChange prints one line. Before the stream is ready only JSON has what there is.
func (c *cli) showChange(change client.Change, ready bool) error {
	if c.json {
		encoder := json.NewEncoder(c.stdout)
		encoder.SetEscapeHTML(false)
		return encoder.Encode(change)
	}
	if ready {
		c.printf("%s %s", time.Now().Format(time.TimeOnly), changeLine(change))
	}
	return c.stdout.err
}

// changeLine says what a change is, for people.
func changeLine(change client.Change) string {
	words := []string{change.Kind, change.ID}
	switch {
	case change.Deleted:
		words = append(words, "is gone")
	case change.Volume != nil:
		v := change.Volume
		words = append(words, pairs("name", v.DisplayName(), "status", v.Status, "migration", v.Migration(), "host", v.Location(),
			"size", compact(size(v.Bytes())), "reason", v.StatusReason)...)
	case change.Migration != nil:
		m := change.Migration
		words = append(words, pairs("volume", volumeOf(*m), "role", m.Role, "state", m.State, "target", m.TargetHost, "reason", m.Reason)...)
	case change.Progress != nil:
		p := change.Progress
		words = append(words, pairs("done", percent(*p), "verified", compact(size(p.VerifiedBytes)), "of", compact(size(p.TotalBytes)), "rate", compact(rate(p.BytesPerSecond)))...)
	case change.Attachment != nil:
		words = append(words, pairs("volume", change.Attachment.VolumeID, "uri", change.Attachment.URI)...)
	case change.Service != nil:
		s := map[bool]string{true: "disabled", false: "enabled"}
		words = append(words, pairs("status", s[change.Service.Disabled], "reason", change.Service.DisabledReason)...)
	}
	return strings.Join(words, " ")
}

// pairs are NAME=VALUE words of those that have a value; one with blanks is quoted.
func pairs(all ...string) (words []string) {
	for i := 0; i < len(all); i += 2 {
		name, value := all[i], all[i+1]
		if strings.ContainsAny(value, " \"") {
			value = fmt.Sprintf("%q", value)
		}
		if value != "" {
			words = append(words, name+"="+value)
		}
	}
	return words
}

// compact is a size or rate as one word.
func compact(s string) string { return strings.ReplaceAll(s, " ", "") }
