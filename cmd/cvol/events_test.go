package main

import (
	"testing"

	"github.com/cvold/cvold/client"
)

// TestChangeLine: one line of words for each kind of change.
func TestChangeLine(t *testing.T) {
	p := copying(5)
	for want, change := range map[string]client.Change{
		"volume v is gone": {Kind: "volume", ID: "v", Deleted: true},
		"volume v name=db status=in-use migration=migrating host=nodeA@ssd#ssd size=20GiB": {Kind: "volume", ID: "v", Volume: &client.Volume{
			Name: ptr("db"), Status: "in-use", SizeBytes: 20 << 30,
			VolumeAdmin: &client.VolumeAdmin{Host: ptr("nodeA@ssd#ssd"), MigrationStatus: ptr("migrating")}}},
		`migration m volume=db role=source state=failed target=nodeB@ssd#ssd reason="no \"space\" left"`: {Kind: "migration", ID: "m", Migration: &client.Migration{
			VolumeName: "db", Role: "source", State: "failed", TargetHost: "nodeB@ssd#ssd", Reason: `no "space" left`}},
		"progress m done=25% verified=5GiB of=20GiB rate=256MiB/s": {Kind: "progress", ID: "m", Progress: &p},
		"attachment a volume=v uri=nbd+unix:///v":                  {Kind: "attachment", ID: "a", Attachment: &client.Attachment{VolumeID: "v", URI: "nbd+unix:///v"}},
		"service nodeA@ssd status=disabled reason=disks":           {Kind: "service", ID: "nodeA@ssd", Service: &client.ServiceChange{Disabled: true, DisabledReason: "disks"}},
		"snapshot s": {Kind: "snapshot", ID: "s"},
	} {
		if got := changeLine(change); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
