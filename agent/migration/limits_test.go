package migration_test

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/transfer"
)

// stuck is a rate that lets one chunk through, and the next one after the test.
var stuck = transfer.Rate{Bytes: 1}

func none() *int64             { return new(int64) }
func perSecond(n int64) *int64 { return &n }

// limits are the node's limits by kind and name.
func (n *testNode) limits() map[string]migration.Limit {
	n.w.t.Helper()
	all, err := n.engine.AllLimits()
	n.check(err)
	byName := map[string]migration.Limit{}
	for _, l := range all {
		byName[string(l.Kind)+" "+l.Name] = l
	}
	return byName
}

// passed waits until a limit has let so many operations through.
func (n *testNode) passed(name string, operations int64) {
	n.w.t.Helper()
	n.w.eventually(name+" lets operations through", func() bool { return n.limits()[name].Stats.Operations >= operations })
	if got := n.limits()[name].Stats.Operations; got != operations {
		n.w.t.Errorf("%s let %d operations through, want %d", name, got, operations)
	}
}

// A migration keeps to its own limit, which is changed while it waits and remembered over a restart.
func TestLimitOfMigration(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.each, w.class = stuck, catalog.TransferBackground
	a := w.nodes["a"]
	a.restart()
	data := slices.Concat(content(3, 2<<20), content(4, 2<<20)) // four chunks with data in them
	v := a.create(data)
	m := a.accept(v.ID, migration.Request{Host: toB})
	name := "migration " + m.ID
	a.passed(name, 1)
	if l := a.limits()[name]; l.Rate != stuck || l.Class != catalog.TransferBackground || l.Migration.VolumeID != v.ID {
		t.Errorf("its limit is %+v", l)
	}
	l, err := a.engine.LimitMigration(m.ID, migration.LimitChange{OperationsPerSecond: perSecond(7), Class: catalog.TransferNormal})
	if want := (transfer.Rate{Bytes: 1, Operations: 7}); err != nil || l.Rate != want || l.Class != catalog.TransferNormal {
		t.Errorf("changed to %+v, %v", l, err)
	}
	w.each = transfer.Rate{Operations: 1 << 30}
	_, err = a.engine.LimitMigration(m.ID, migration.LimitChange{BytesPerSecond: perSecond(1)})
	a.check(err)
	a.restart()
	a.passed(name, 1)
	if l := a.limits()[name]; l.Rate != (transfer.Rate{Bytes: 1, Operations: 7}) || l.Class != catalog.TransferNormal {
		t.Errorf("after a restart its limit is %+v", l)
	}
	_, err = a.engine.LimitMigration(m.ID, migration.LimitChange{BytesPerSecond: none(), OperationsPerSecond: none()})
	a.check(err)
	if m := a.final(m.ID); m.State != catalog.StateSucceeded {
		t.Errorf("ended as %s: %s", m.State, m.Reason)
	}
	if l, there := a.limits()[name]; there {
		t.Errorf("its limit is still there: %+v", l)
	}
	if _, err := a.engine.LimitMigration(m.ID, migration.LimitChange{}); !errors.Is(err, migration.ErrTooLate) {
		t.Errorf("change the limit of what has ended: %v", err)
	}
	w.clean(v.ID, data)
}

// What migrations share: the node's limit, those of the back ends here, and that of the background.
func TestSharedLimits(t *testing.T) {
	for _, test := range []struct {
		host    string
		class   catalog.TransferClass
		counted []string
	}{
		{toB, "", []string{"backend pool", "node a"}},
		{toB, catalog.TransferBackground, []string{"backend pool", "background background", "node a"}},
		{"a@spare#spare", catalog.TransferNormal, []string{"backend pool", "backend spare", "node a"}},
	} {
		w := newWorld(t, "a", "b")
		a := w.nodes["a"]
		_, err := a.engine.LimitNode(migration.LimitChange{BytesPerSecond: perSecond(1)})
		a.check(err)
		data := content(5, 2<<20)
		v := a.create(data)
		m := a.accept(v.ID, migration.Request{Host: test.host, Limit: migration.LimitChange{Class: test.class}})
		a.passed("node a", 1)
		l, err := a.engine.LimitBackend("pool", migration.LimitChange{OperationsPerSecond: perSecond(1000)})
		if err != nil || l.Rate != (transfer.Rate{Operations: 1000}) || l.Name != "pool" {
			t.Errorf("the back end's limit is %+v, %v", l, err)
		}
		l, err = a.engine.LimitNode(migration.LimitChange{BytesPerSecond: none()})
		if err != nil || l.Rate != (transfer.Rate{}) {
			t.Errorf("the node's limit is %+v, %v", l, err)
		}
		if m := a.final(m.ID); m.State != catalog.StateSucceeded {
			t.Errorf("ended as %s: %s", m.State, m.Reason)
		}
		stats, err := a.engine.Stats()
		a.check(err)
		counted := map[string]int64{}
		for _, l := range stats.Limits {
			if l.Stats.Operations > 0 {
				counted[string(l.Kind)+" "+l.Name] = l.Stats.Bytes
			}
		}
		if got := slices.Sorted(maps.Keys(counted)); !slices.Equal(got, test.counted) {
			t.Errorf("to %s, class %q: %v let something through, want %v", test.host, test.class, got, test.counted)
		}
		for name, bytes := range counted {
			if bytes != int64(len(data)) {
				t.Errorf("%s let %d bytes through, want %d", name, bytes, len(data))
			}
		}
		w.clean(v.ID, data)
	}
}

func TestLimitsRefused(t *testing.T) {
	w := newWorld(t, "a", "b")
	a := w.nodes["a"]
	v := a.create(content(7, 1<<20))
	_, err := a.engine.Accept(t.Context(), v.ID, migration.Request{Host: toB, Limit: migration.LimitChange{Class: "idle"}})
	if !errors.Is(err, migration.ErrInvalid) {
		t.Errorf("a migration of no class: %v", err)
	}
	minus := migration.LimitChange{BytesPerSecond: perSecond(-1)}
	for _, test := range []struct {
		name string
		call func() (migration.Limit, error)
		want error
	}{
		{"node, below zero", func() (migration.Limit, error) { return a.engine.LimitNode(minus) }, migration.ErrInvalid},
		{"node, class", func() (migration.Limit, error) {
			return a.engine.LimitNode(migration.LimitChange{Class: catalog.TransferNormal})
		}, migration.ErrInvalid},
		{"back end, below zero", func() (migration.Limit, error) { return a.engine.LimitBackend("pool", minus) }, migration.ErrInvalid},
		{"no back end", func() (migration.Limit, error) { return a.engine.LimitBackend("x", migration.LimitChange{}) }, migration.ErrNotFound},
		{"migration, below zero", func() (migration.Limit, error) { return a.engine.LimitMigration("x", minus) }, migration.ErrInvalid},
		{"no migration", func() (migration.Limit, error) { return a.engine.LimitMigration("x", migration.LimitChange{}) }, migration.ErrNotFound},
	} {
		if l, err := test.call(); !errors.Is(err, test.want) || l.Name != "" {
			t.Errorf("%s: %+v, %v", test.name, l, err)
		}
	}
}
