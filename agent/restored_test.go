package agent

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/client"
)

// TestRestored: a catalog from before a migration is put back. Its agent serves nothing until the peer has answered, gives
// the volume up, and ends the migration that its old records are in the middle of.
func TestRestored(t *testing.T) {
	a, b := pair(t)
	a.start()
	v, data := a.create("db", 1<<20), pattern(1<<20)
	a.fill(v.ID, data)
	a.export(v.ID) // the backup knows of an export, too
	a.stop()
	inTheMiddle(t, a, v.ID)
	old, err := os.ReadFile(a.path("state/cvold.db"))
	if err != nil {
		t.Fatal(err)
	}
	asBefore(t, a, v.ID)
	a.start()
	b.start()
	if m := a.migrate(v.ID, b.host()); m.Outcome != client.OutcomeSucceeded {
		t.Fatalf("%s: %s", m.State, m.Reason)
	}
	a.stop()
	b.stop()
	if err := os.WriteFile(a.path("state/cvold.db"), old, 0o600); err != nil {
		t.Fatal(err)
	}
	checkpoint := filepath.Join(a.path("state/migrations"), early+".checkpoint")
	if err := os.WriteFile(checkpoint, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	waitsForPeer(t, a)
	b.start()
	a.start()
	for _, n := range []*node{a, b} {
		shown, err := n.client.Volume(n.context(), v.ID)
		if err != nil || shown.Owner != "b" {
			t.Errorf("%s shows %+v, %v", n.name, shown, err)
		}
	}
	if all, err := a.client.Volumes(a.context(), client.VolumeFilter{}); err != nil || len(all) != 1 {
		t.Errorf("a lists %v, %v", all, err)
	}
	m, err := a.client.Migration(a.context(), early)
	if err != nil || m.Outcome != client.OutcomeFailed || !strings.Contains(m.Reason, "backup") {
		t.Errorf("the old migration is %+v, %v", m, err)
	}
	if _, err := os.Stat(checkpoint); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old migration's checkpoint: %v", err)
	}
	if !bytes.Equal(b.content(), data) {
		t.Error("the bytes differ")
	}
}

// early is the id of the migration that the backup is in the middle of.
const early = "11111111-1111-4111-8111-111111111111"

// temporary is the id of that migration's temporary volume.
const temporary = "22222222-2222-4222-8222-222222222222"

// inTheMiddle writes into a stopped agent's catalog that the volume is being copied.
func inTheMiddle(t *testing.T, n *node, id string) {
	t.Helper()
	edit(t, n, func(tx catalog.Tx) error {
		v, err := catalog.Volumes.Get(tx, id)
		if err != nil {
			return err
		}
		m := catalog.Migration{
			ID: early, VolumeID: id, TargetID: temporary, SourceHost: n.host(), TargetHost: "b@pool#pool",
			State: catalog.StateCopying, Attempt: 1, Epoch: v.OwnerEpoch, SourceObject: v.Volume, CreatedAt: time.Now(),
		}
		target := v
		target.ID, target.Status, target.MigrationID = temporary, catalog.StatusCreating, early
		v.MigrationID = early
		return errors.Join(catalog.Migrations.Put(tx, early, m), catalog.Volumes.Put(tx, id, v), catalog.Volumes.Put(tx, temporary, target))
	})
}

// asBefore takes inTheMiddle back, and the export.
func asBefore(t *testing.T, n *node, id string) {
	t.Helper()
	edit(t, n, func(tx catalog.Tx) error {
		v, err := catalog.Volumes.Get(tx, id)
		if err != nil {
			return err
		}
		v.MigrationID, v.Status = "", catalog.StatusAvailable
		return errors.Join(catalog.Volumes.Put(tx, id, v), catalog.Migrations.Delete(tx, early),
			catalog.Volumes.Delete(tx, temporary), dropAttachments(tx, id))
	})
}

func edit(t *testing.T, n *node, fn func(tx catalog.Tx) error) {
	t.Helper()
	store, err := catalog.OpenBolt(n.path("state/cvold.db"), catalog.BoltOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(store.Update(fn), store.Close()); err != nil {
		t.Fatal(err)
	}
}

// waitsForPeer wants Start to wait while the peer is away, with nothing served.
func waitsForPeer(t *testing.T, n *node) {
	t.Helper()
	n.open()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := n.agent.Start(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("start without the peer: %v, want to wait", err)
	}
	if _, err := n.client.Version(t.Context()); err == nil || !strings.Contains(err.Error(), "until all its peers have said what they own") {
		t.Errorf("the API answers before the peer has: %v", err)
	}
	n.stop()
}
