package migration_test

import (
	"context"
	"strings"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/faulty"
)

// lies puts the faults of plan in front of the node's devices that matches selects, and starts it again.
func (n *testNode) lies(plan *faulty.Plan, matches func(dataplane.Mode) bool) {
	n.hook(faulty.Hook{Device: func(c faulty.Call, dev dataplane.Device) dataplane.Device {
		if !matches(c.Mode) {
			return dev
		}
		return faulty.Wrap(dev, plan)
	}})
}

// hook puts h in front of the node's driver, and starts it again.
func (n *testNode) hook(h faulty.Hook) {
	n.wrap = func(d dataplane.Driver) dataplane.Driver { return faulty.Driver(d, h) }
	n.restart()
}

func medium(m dataplane.Mode) bool  { return m.Medium }
func written(m dataplane.Mode) bool { return !m.Medium && !m.ReadOnly }
func sources(m dataplane.Mode) bool { return m.Exclusive }

// TestFaultsThatPass: what goes wrong once is found and put right.
func TestFaultsThatPass(t *testing.T) {
	tests := []struct {
		name    string
		rule    faulty.Rule
		matches func(dataplane.Mode) bool
		attempt uint64
	}{
		{"corrupt read", faulty.Rule{Ops: faulty.Read, Nth: 1, Action: faulty.Corrupt()}, medium, 1},
		{"failed flush", faulty.Rule{Ops: faulty.Sync, Nth: 1, Action: faulty.Fail(nil)}, written, 2},
		{"lost write", faulty.Rule{Ops: faulty.Write, Nth: 3, Action: faulty.Lose()}, written, 1},
		{"failed write", faulty.Rule{Ops: faulty.Write, Nth: 3, Action: faulty.Fail(nil)}, written, 1},
		{"misdirected write", faulty.Rule{Ops: faulty.Write, Nth: 3, Action: faulty.Misdirect(4096)}, written, 1},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, "a", "b")
			a, b := w.nodes["a"], w.nodes["b"]
			plan := faulty.NewPlan(uint64(i)).Add(test.rule)
			b.lies(plan, test.matches)
			data := content(20, testSize)
			v := a.create(data)
			m := a.final(a.accept(v.ID, migration.Request{Host: toB}).ID)
			if m.State != catalog.StateSucceeded || m.Attempt < test.attempt || plan.Struck() == 0 {
				t.Errorf("%s at attempt %d after %d faults: %s", m.State, m.Attempt, plan.Struck(), m.Reason)
			}
			plan.Clear()
			w.clean(v.ID, data)
		})
	}
}

// TestFlushThatFailsInReady: a flush that fails after all was verified makes nothing of the target believed.
func TestFlushThatFailsInReady(t *testing.T) {
	w := newWorld(t, "a", "b")
	a, b := w.nodes["a"], w.nodes["b"]
	plan := faulty.NewPlan(1)
	b.lies(plan, written)
	data := content(21, 3<<20)
	v := a.create(data)
	reached, release := w.hold("b", "target device: drain and flush")
	m := a.accept(v.ID, migration.Request{Host: toB})
	<-reached
	plan.Add(faulty.Rule{Ops: faulty.Sync, Nth: 1, Action: faulty.Fail(nil)})
	release()
	if m = a.final(m.ID); m.State != catalog.StateSucceeded || m.Attempt != 2 || plan.Struck() != 1 {
		t.Errorf("%s at attempt %d after %d faults: %s", m.State, m.Attempt, plan.Struck(), m.Reason)
	}
	if users := b.volumes.Users(m.TargetID); len(users) > 0 {
		t.Errorf("the target is still open: %v", users)
	}
	w.clean(v.ID, data)
}

// TestFaultsThatStay: the volume stays where it was, the target goes, and the reason says why.
func TestFaultsThatStay(t *testing.T) {
	tests := []struct {
		name string
		set  func(w *world)
		says []string
	}{
		{"corrupt medium", func(w *world) {
			w.nodes["b"].lies(faulty.NewPlan(2).Add(faulty.Rule{Ops: faulty.Read, Action: faulty.Corrupt()}), medium)
		}, []string{"differs after 4 copies: source", "target"}},
		{"full at create", func(w *world) {
			w.nodes["b"].hook(faulty.Hook{Before: func(_ context.Context, c faulty.Call) error {
				if c.Name == "Create" {
					return dataplane.ErrNoSpace
				}
				return nil
			}})
		}, []string{"create the target", "no space"}},
		{"full at write", func(w *world) {
			w.nodes["b"].lies(faulty.NewPlan(3).Add(faulty.Rule{Ops: faulty.Write, Action: faulty.Fail(dataplane.ErrNoSpace)}), written)
		}, []string{"no space"}},
		{"source unreadable", func(w *world) {
			w.nodes["a"].lies(faulty.NewPlan(4).Add(faulty.Rule{Ops: faulty.Read, Offset: 5 << 20, Length: 512, Action: faulty.Fail(nil)}), sources)
		}, []string{"source", "input/output error"}},
		{"flush always fails", func(w *world) {
			w.nodes["b"].lies(faulty.NewPlan(5).Add(faulty.Rule{Ops: faulty.Sync, Action: faulty.Fail(nil)}), written)
		}, []string{"given up after"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, "a", "b")
			w.retries = 3
			data := content(22, testSize)
			test.set(w)
			a := w.nodes["a"]
			a.restart() // with the lower limit
			v := a.create(data)
			m := a.final(a.accept(v.ID, migration.Request{Host: toB}).ID)
			if m.State != catalog.StateFailed {
				t.Errorf("ended as %s", m.State)
			}
			for _, s := range test.says {
				if !strings.Contains(m.Reason, s) {
					t.Errorf("%q does not say %q", m.Reason, s)
				}
			}
			a.wrap = nil
			a.restart()
			if owner, record := w.clean(v.ID, data); owner != a || record.StatusReason != m.Reason {
				t.Errorf("node %s has it: %q", owner.name, record.StatusReason)
			}
		})
	}
}

// TestRetryLimitCountsAttempts: a target that is prepared and cannot be reached is given up, however often it is prepared.
func TestRetryLimitCountsAttempts(t *testing.T) {
	w := newWorld(t, "a", "b")
	a, b := w.nodes["a"], w.nodes["b"]
	w.retries = 4
	a.restart()
	data := content(23, 1<<20)
	v := a.create(data)
	b.check(b.nbd.Close(context.Background()))
	m := a.final(a.accept(v.ID, migration.Request{Host: toB}).ID)
	if m.State != catalog.StateFailed || m.Attempt > 6 {
		t.Errorf("%s at attempt %d: %s", m.State, m.Attempt, m.Reason)
	}
	if owner, _ := w.clean(v.ID, data); owner != a {
		t.Error("the volume is not the source's")
	}
}
