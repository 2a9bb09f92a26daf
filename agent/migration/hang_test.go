package migration_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/faulty"
)

// TestAbortWhileTheTargetHangs: the volume can be used at once; the target stays as long as something may still land on it.
func TestAbortWhileTheTargetHangs(t *testing.T) {
	targets := map[string]string{toB: "b", "a@spare#spare": "a"}
	calls := []struct {
		name    string
		ops     faulty.Op
		matches func(dataplane.Mode) bool
	}{
		{"write", faulty.Write, written},
		{"flush", faulty.Sync, written},
		{"read-back", faulty.Read, medium},
	}
	for host, node := range targets {
		for _, call := range calls {
			t.Run(node+"/"+call.name, func(t *testing.T) {
				w := newWorld(t, "a", "b")
				hang := make(chan struct{})
				plan := faulty.NewPlan(1).Add(faulty.Rule{Ops: call.ops, Nth: 1, Action: faulty.Delay(hang)})
				w.nodes[node].lies(plan, call.matches)
				w.abortHung(host, func() bool { return plan.Struck() > 0 }, func() { close(hang) })
			})
		}
	}
}

// TestAbortWhileReadyHangs: the last flush of the target hangs, in the midst of a call.
func TestAbortWhileReadyHangs(t *testing.T) {
	for host, node := range map[string]string{toB: "b", "a@spare#spare": "a"} {
		t.Run(node, func(t *testing.T) {
			w := newWorld(t, "a", "b")
			reached, release := w.hold(node, "target device: drain and flush")
			w.abortHung(host, func() bool { return len(reached) > 0 }, release)
		})
	}
}

// abortHung aborts a migration once its target hangs, and lets that go on when the volume was used.
func (w *world) abortHung(host string, hangs func() bool, goOn func()) {
	w.t.Helper()
	a := w.nodes["a"]
	data := content(50, testSize)
	v := a.create(data)
	m := a.accept(v.ID, migration.Request{Host: host})
	w.eventually("the target hangs", hangs)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	a.check(a.engine.Abort(ctx, m.ID, "it hangs"))
	a.check(a.engine.Preempt(ctx, v.ID, "the volume is to be read"))
	if !bytes.Equal(a.read(v.ID), data) {
		w.t.Error("the volume's bytes differ")
	}
	now, err := a.engine.Get(m.ID)
	a.check(err)
	objects := a.files("volumes") + a.files("spare") + w.nodes["b"].files("volumes")
	if now.State != catalog.StateAborting || objects != 2 {
		w.t.Errorf("while the target hangs the migration is %s, with %d objects", now.State, objects)
	}
	goOn()
	if m = a.final(m.ID); m.State != catalog.StateFailed || m.Reason != "it hangs" {
		w.t.Errorf("ended as %s: %s", m.State, m.Reason)
	}
	if owner, _ := w.clean(v.ID, data); owner != a {
		w.t.Error("the volume is not the source's")
	}
}

// TestCloseWhileTheTargetHangs: neither half waits for a call that hangs longer than it was told to.
func TestCloseWhileTheTargetHangs(t *testing.T) {
	w := newWorld(t, "a")
	a := w.nodes["a"]
	data := content(51, testSize)
	v := a.create(data)
	reached, release := w.hold("a", "target device: drain and flush")
	a.accept(v.ID, migration.Request{Host: "a@spare#spare"})
	<-reached
	a.check(a.engine.Close(context.Background()))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := a.target.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("close: %v", err)
	}
	release()
	a.restart()
	w.eventually("the migration is over", func() bool {
		now, err := a.volumes.Get(v.ID)
		return err == nil && now.MigrationID == "" && now.Host == "a@spare#spare" && a.files("migrations") == 0
	})
	w.eventually("its record is closed", func() bool { _, all, guests := a.records(); return all[0].State.Final() && len(guests) == 0 })
	w.clean(v.ID, data)
}
