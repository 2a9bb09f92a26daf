package migration_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/transfer"
)

const toB = "b@pool#pool"

// accept asks for a migration.
func (n *testNode) accept(id string, r migration.Request) catalog.Migration {
	n.w.t.Helper()
	m, err := n.engine.Accept(context.Background(), id, r)
	n.check(err)
	return m
}

// final waits for the end of a migration.
func (n *testNode) final(id string) catalog.Migration {
	n.w.t.Helper()
	var m catalog.Migration
	n.w.eventually("migration "+id+" ends", func() bool {
		v, err := n.engine.Get(id)
		n.check(err)
		m = v.Migration
		return m.State.Final()
	})
	return m
}

// clean checks what must hold when nothing is under way: one owner with every byte, nothing left over.
func (w *world) clean(id string, want []byte) (owner *testNode, record catalog.Volume) {
	w.t.Helper()
	objects := 0
	for _, n := range w.nodes {
		volumes, _, guests := n.records()
		for _, v := range volumes {
			if v.ID != id {
				w.t.Errorf("node %s: record %s (%s) is left over", n.name, v.ID, v.Status)
				continue
			}
			if owner != nil {
				w.t.Errorf("two owners: %s and %s", owner.name, n.name)
			}
			owner, record = n, v
		}
		for _, g := range guests {
			w.t.Errorf("node %s: guest %s %s is left over", n.name, g.MigrationID, g.State)
		}
		objects += n.files("volumes") + n.files("spare")
		if left := n.files("migrations"); left > 0 {
			w.t.Errorf("node %s: %d files of migrations are left over", n.name, left)
		}
	}
	if owner == nil {
		w.t.Fatalf("nobody owns volume %s\n%s", id, w.dump())
	}
	if objects != 1 {
		w.t.Errorf("%d objects in the back ends, want 1\n%s", objects, w.dump())
	}
	if record.Status != catalog.StatusAvailable || record.MigrationID != "" || record.PreviousStatus != "" {
		w.t.Errorf("volume is %s, previously %q, held by %q", record.Status, record.PreviousStatus, record.MigrationID)
	}
	if got := owner.read(id); !bytes.Equal(got, want) {
		w.t.Errorf("node %s: the volume's bytes differ", owner.name)
	}
	return owner, record
}

// files counts what a directory of the node holds.
func (n *testNode) files(dir string) int {
	n.w.t.Helper()
	entries, err := os.ReadDir(filepath.Join(n.dir, dir))
	n.check(err)
	count := 0
	for _, e := range entries {
		if e.Name() != ".cvold-lock" {
			count++
		}
	}
	return count
}

func TestVolumeMovesBetweenNodes(t *testing.T) {
	w := newWorld(t, "a", "b")
	a, b := w.nodes["a"], w.nodes["b"]
	data := content(1, testSize)
	v := a.create(data)
	m := a.final(a.accept(v.ID, migration.Request{Host: toB}).ID)
	if m.State != catalog.StateSucceeded {
		t.Fatalf("migration %s: %s", m.State, m.Reason)
	}
	owner, record := w.clean(v.ID, data)
	if owner != b || record.Host != toB || record.OwnerEpoch != v.OwnerEpoch+1 || record.MigrationStatus != catalog.MigrationSuccess {
		t.Errorf("owner %s, record %+v", owner.name, record)
	}
	if record.NameID != "" || record.Name != "volume-"+v.ID {
		t.Errorf("object %q with name_id %q: the rename is missing", record.Name, record.NameID)
	}
	if record.DisplayName != v.DisplayName || record.ProjectID != v.ProjectID || !record.CreatedAt.Equal(v.CreatedAt) || !record.UseQuota {
		t.Errorf("what the user sees changed: %+v", record)
	}
	var moved *volume.MovedError
	if _, err := a.volumes.Get(v.ID); !errors.As(err, &moved) || moved.Node != "b" || moved.Epoch != record.OwnerEpoch {
		t.Errorf("the source says %v", err)
	}
	sameManifests(t, a, b, v.ID, m)
	if m.SkippedBytes < 2<<20 || m.VerifiedBytes != int64(len(data)) {
		t.Errorf("skipped %d, verified %d", m.SkippedBytes, m.VerifiedBytes)
	}
}

// sameManifests compares the manifests that both sides made: the source's of what it read, the target's of what its
// medium gave back.
func sameManifests(t *testing.T, a, b *testNode, id string, m catalog.Migration) {
	t.Helper()
	for _, n := range []*testNode{a, b} {
		path, err := n.engine.Manifest(id)
		n.check(err)
		r, err := transfer.OpenManifest(path)
		n.check(err)
		for err == nil {
			_, err = r.Next()
		}
		root, err := r.Root()
		n.check(err)
		r.Close()
		if root.String() != m.Root {
			t.Errorf("node %s has the root %s, the migration %s", n.name, root, m.Root)
		}
	}
}

func TestVolumeMovesThereAndBack(t *testing.T) {
	w := newWorld(t, "a", "b")
	a, b := w.nodes["a"], w.nodes["b"]
	data := content(2, testSize)
	v := a.create(data)
	for range 2 {
		if m := a.final(a.accept(v.ID, migration.Request{Host: toB}).ID); m.State != catalog.StateSucceeded {
			t.Fatalf("there: %s", m.Reason)
		}
		if m := b.final(b.accept(v.ID, migration.Request{Host: "a@pool#pool"}).ID); m.State != catalog.StateSucceeded {
			t.Fatalf("back: %s", m.Reason)
		}
	}
	owner, record := w.clean(v.ID, data)
	if owner != a || record.OwnerEpoch != v.OwnerEpoch+4 {
		t.Errorf("owner %s at epoch %d", owner.name, record.OwnerEpoch)
	}
}

func TestRefusalsChangeNothing(t *testing.T) {
	w := newWorld(t, "a", "b")
	a := w.nodes["a"]
	data := content(3, 1<<20)
	v := a.create(data)
	for host, want := range map[string]string{
		"nonsense":               "not node@backend#pool",
		"c@pool#pool":            "No available service named 'c@pool#pool'",
		"b@other#other":          "the node has b@pool#pool",
		"a@pool#pool":            "is at a@pool#pool already",
		"a@pool":                 "is at a@pool#pool already",
		strings.Repeat("x", 256): "256 characters",
	} {
		_, err := a.engine.Accept(context.Background(), v.ID, migration.Request{Host: host})
		if !errors.Is(err, migration.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("host %.20q: %v, want %q", host, err, want)
		}
	}
	if _, err := a.engine.Accept(context.Background(), "3fcee2b6-0b3c-4f9a-8a3c-d0b1ad3dcd3f", migration.Request{Host: toB}); !errors.Is(err, volume.ErrNotFound) {
		t.Errorf("unknown volume: %v", err)
	}
	h, err := a.volumes.Open(context.Background(), v.ID, volume.User{Kind: volume.UserView, Name: "reader"}, dataplane.Mode{ReadOnly: true})
	a.check(err)
	if _, err := a.engine.Accept(context.Background(), v.ID, migration.Request{Host: toB}); !errors.Is(err, volume.ErrInUse) {
		t.Errorf("volume with a reader: %v", err)
	}
	a.check(h.Close())
	attachment, err := a.volumes.Export(context.Background(), v.ID, true)
	a.check(err)
	if _, err := a.engine.Accept(context.Background(), v.ID, migration.Request{Host: toB}); !errors.Is(err, migration.ErrInvalid) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("exported volume: %v", err)
	}
	a.check(a.volumes.Unexport(context.Background(), attachment.ID))
	w.nodes["b"].crash()
	w.nodes["b"].stop()
	if _, err := a.engine.Accept(context.Background(), v.ID, migration.Request{Host: toB}); !errors.Is(err, migration.ErrInvalid) || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("dead target: %v", err)
	}
	w.nodes["b"].start()
	_, record := w.clean(v.ID, data)
	if record.MigrationStatus != catalog.MigrationNone || record.OwnerEpoch != v.OwnerEpoch {
		t.Errorf("a refusal changed the record: %+v", record)
	}
}

func TestAbortGivesTheVolumeBack(t *testing.T) {
	for _, at := range []migration.Touch{"peer: prepare", "device: copy", "file: manifest", "peer: ready"} {
		t.Run(string(at), func(t *testing.T) {
			w := newWorld(t, "a", "b")
			a := w.nodes["a"]
			data := content(4, testSize)
			v := a.create(data)
			reached, release := w.hold("a", at)
			m := a.accept(v.ID, migration.Request{Host: toB})
			<-reached
			a.check(a.engine.Abort(context.Background(), m.ID, "an operator said so"))
			now, err := a.volumes.Get(v.ID)
			a.check(err)
			if now.Status != catalog.StatusAvailable || now.MigrationStatus != catalog.MigrationError || now.StatusReason != "an operator said so" {
				t.Errorf("right after the abort: %+v", now)
			}
			release()
			if m = a.final(m.ID); m.State != catalog.StateFailed || m.Reason != "an operator said so" {
				t.Errorf("ended as %s: %s", m.State, m.Reason)
			}
			if owner, _ := w.clean(v.ID, data); owner != a {
				t.Error("the volume is not the source's")
			}
			if err := a.engine.Abort(context.Background(), m.ID, "again"); !errors.Is(err, migration.ErrTooLate) {
				t.Errorf("abort of an ended migration: %v", err)
			}
		})
	}
}

func TestLockedIsNotAborted(t *testing.T) {
	w := newWorld(t, "a", "b")
	a := w.nodes["a"]
	data := content(5, testSize)
	v := a.create(data)
	reached, release := w.hold("a", "device: copy")
	m := a.accept(v.ID, migration.Request{Host: toB, LockVolume: true})
	<-reached
	now, err := a.volumes.Get(v.ID)
	a.check(err)
	if now.Status != catalog.StatusMaintenance || now.PreviousStatus != catalog.StatusAvailable {
		t.Errorf("locked volume is %s, previously %s", now.Status, now.PreviousStatus)
	}
	if err := a.engine.Abort(context.Background(), m.ID, "no"); !errors.Is(err, migration.ErrLocked) {
		t.Errorf("abort: %v", err)
	}
	if err := a.engine.Preempt(context.Background(), v.ID, "no"); !errors.Is(err, migration.ErrLocked) {
		t.Errorf("preempt: %v", err)
	}
	if _, err := a.engine.Accept(context.Background(), v.ID, migration.Request{Host: toB}); !errors.Is(err, migration.ErrConflict) || !strings.Contains(err.Error(), m.ID) {
		t.Errorf("the same again: %v", err)
	}
	if _, err := a.engine.Accept(context.Background(), v.ID, migration.Request{Host: "a@pool#x"}); !errors.Is(err, migration.ErrInvalid) {
		t.Errorf("elsewhere: %v", err)
	}
	release()
	if m = a.final(m.ID); m.State != catalog.StateSucceeded {
		t.Errorf("%s: %s", m.State, m.Reason)
	}
	w.clean(v.ID, data)
}

func TestPreemptFreesTheVolume(t *testing.T) {
	w := newWorld(t, "a", "b")
	a := w.nodes["a"]
	data := content(6, testSize)
	v := a.create(data)
	reached, release := w.hold("a", "device: copy")
	m := a.accept(v.ID, migration.Request{Host: toB})
	<-reached
	done := make(chan error, 1)
	go func() { done <- a.engine.Preempt(context.Background(), v.ID, "export asked for the volume") }()
	w.eventually("the abort is durable", func() bool {
		view, err := a.engine.Get(m.ID)
		return err == nil && view.State == catalog.StateAborting
	})
	release()
	a.check(<-done)
	if users := a.volumes.Users(v.ID); len(users) > 0 {
		t.Errorf("volume still has %v", users)
	}
	attachment, err := a.volumes.Export(context.Background(), v.ID, false)
	a.check(err)
	a.final(m.ID)
	a.check(a.volumes.Unexport(context.Background(), attachment.ID))
	w.clean(v.ID, data)
}

func TestKeptSource(t *testing.T) {
	w := newWorld(t, "a", "b")
	a := w.nodes["a"]
	a.crash()
	a.stop()
	w.minimum = transfer.DeviceDirect + 1 // more than any verification is worth
	a.start()
	data := content(7, 2<<20)
	v := a.create(data)
	m := a.final(a.accept(v.ID, migration.Request{Host: toB}).ID)
	if m.State != catalog.StateSucceeded || !m.KeepSource {
		t.Fatalf("%s, kept %v: %s", m.State, m.KeepSource, m.Reason)
	}
	kept, err := a.volumes.Get(m.TargetID)
	a.check(err)
	if kept.Status != catalog.StatusKept || kept.Identity != v.Identity {
		t.Errorf("kept record: %+v", kept)
	}
	a.check(a.volumes.Delete(context.Background(), kept.ID))
	w.clean(v.ID, data)
}

func TestVolumeMovesInsideANode(t *testing.T) {
	w := newWorld(t, "a")
	a := w.nodes["a"]
	data := content(9, testSize)
	v := a.create(data)
	m := a.final(a.accept(v.ID, migration.Request{Host: "a@spare#spare"}).ID)
	if m.State != catalog.StateSucceeded {
		t.Fatalf("migration %s: %s", m.State, m.Reason)
	}
	_, record := w.clean(v.ID, data)
	if record.Host != "a@spare#spare" || record.OwnerEpoch != v.OwnerEpoch+1 || record.NameID != "" {
		t.Errorf("record %+v", record)
	}
}
