package volume

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/faulty"
)

// meanwhile is a store in which someone else writes just before the next update.
type meanwhile struct {
	catalog.Store
	first func()
}

func (m *meanwhile) Update(fn func(catalog.Tx) error) error {
	if first := m.first; first != nil {
		m.first = nil
		first()
	}
	return m.Store.Update(fn)
}

// TestRecordChangesMeanwhile: the guards hold in the transaction, whatever was read before it.
func TestRecordChangesMeanwhile(t *testing.T) {
	r := prepareRig(t)
	other := new(meanwhile)
	r.wrapDB = func(s catalog.Store) catalog.Store { other.Store = s; return other }
	r.start()
	holdBy := func(id, migration string) {
		r.edit(id, func(v *catalog.Volume) { v.MigrationID = migration })
	}
	view := func(id string) error {
		_, err := r.Open(t.Context(), id, someView, dataplane.Mode{})
		return err
	}
	for name, test := range map[string]struct {
		held, becomes string
		call          func(id string) error
	}{
		"open":   {"", "m", view},
		"delete": {"", "m", func(id string) error { return r.Delete(t.Context(), id) }},
		"export": {"", "m", func(id string) error { _, err := r.Export(t.Context(), id, false); return err }},
		"open by the migration": {"m", "", func(id string) error {
			_, err := r.Open(t.Context(), id, migration, dataplane.Mode{})
			return err
		}},
		"open object": {"m", "", func(id string) error {
			v := r.get(id)
			_, err := r.OpenObject(t.Context(), v.Host, v.Volume, migration, dataplane.Mode{})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			v := r.create(name)
			holdBy(v.ID, test.held)
			other.first = func() { holdBy(v.ID, test.becomes) }
			wants(t, test.call(v.ID), ErrMigrating)
			now := r.get(v.ID)
			if now.WriteGeneration != 0 || now.Status != catalog.StatusAvailable || len(r.Users(v.ID)) != 0 || len(r.Attachments(v.ID)) != 0 {
				t.Errorf("record %+v, users %v", now, r.Users(v.ID))
			}
		})
	}
	v := r.create("deleted meanwhile")
	a, err := r.Export(t.Context(), v.ID, true)
	check(t, err)
	other.first = func() {
		check(t, r.store.Update(func(tx catalog.Tx) error { return catalog.Volumes.Delete(tx, v.ID) }))
	}
	check(t, r.Unexport(t.Context(), a.ID))
	_, err = r.Get(v.ID)
	wants(t, err, ErrNotFound)
}

// TestExportStoppedIsNoVerdict: an export that the agent's stop broke off is recorded, and served by the next start.
func TestExportStoppedIsNoVerdict(t *testing.T) {
	r := prepareRig(t)
	entered := make(chan struct{}, 1)
	var block atomic.Bool
	r.wrap = func(d dataplane.Driver) dataplane.Driver {
		return faulty.Driver(d, faulty.Hook{Before: func(ctx context.Context, c faulty.Call) error {
			if c.Name != "Open" || !block.Load() {
				return nil
			}
			entered <- struct{}{}
			<-ctx.Done()
			return context.Cause(ctx)
		}})
	}
	r.start()
	v := r.create("data")
	broken := func(call func() error) {
		t.Helper()
		block.Store(true)
		ended := make(chan error)
		go func() { ended <- call() }()
		<-entered
		check(t, r.Manager.Close(t.Context()))
		wants(t, <-ended, ErrClosed)
		block.Store(false)
	}
	broken(func() error { _, err := r.Export(t.Context(), v.ID, false); return err })
	if all := r.Attachments(v.ID); len(all) != 1 {
		t.Fatalf("attachments %v", all)
	}
	r.stop()
	r.boot()
	broken(func() error { return r.Start(t.Context()) })
	r.restart()
	whole(t, r)
	r.status(v.ID, catalog.StatusInUse)
}

// TestExcludes is the table of who keeps whom out of one volume.
func TestExcludes(t *testing.T) {
	b := Backend{Name: "b"}
	v := dataplane.Volume{ID: "v", Name: "volume-v", Identity: "i"}
	var (
		read, write = dataplane.Mode{ReadOnly: true}, dataplane.Mode{}
		export      = User{UserExport, "e"}
		view        = User{UserView, "v"}
		other       = User{UserMigration, "n"}
	)
	for _, test := range []struct {
		new, old         User
		newMode, oldMode dataplane.Mode
		want             error
	}{
		{export, view, read, read, nil},
		{export, view, write, read, nil},
		{export, view, write, write, ErrInUse},
		{view, export, write, write, ErrInUse},
		{export, export, write, write, ErrInUse},
		{export, export, read, write, nil},
		{view, view, write, write, nil},
		{migration, migration, write, write, nil},
		{migration, other, read, read, ErrMigrating},
		{migration, view, read, read, ErrInUse},
		{migration, export, read, read, ErrInUse},
		{view, migration, read, read, ErrMigrating},
		{export, migration, read, read, ErrMigrating},
	} {
		if got := newUse(b, v, test.new, test.newMode).excludes(newUse(b, v, test.old, test.oldMode)); got != test.want {
			t.Errorf("%v (%+v) with %v (%+v) there: %v, want %v", test.new, test.newMode, test.old, test.oldMode, got, test.want)
		}
	}
	elsewhere := v
	elsewhere.ID, elsewhere.Name, elsewhere.Identity = "w", "volume-w", "j"
	if err := newUse(b, v, view, write).excludes(newUse(b, elsewhere, migration, write)); err != nil {
		t.Errorf("another volume: %v", err)
	}
	renamed := v
	renamed.ID, renamed.Name = "w", "volume-w"
	if err := newUse(b, v, view, write).excludes(newUse(b, renamed, migration, write)); err != ErrMigrating {
		t.Errorf("the same object by another name: %v", err)
	}
	if err := newUse(Backend{Name: "c"}, v, view, write).excludes(&use{volumeID: "v", backend: "b", object: v.Name, abandoned: true}); err != nil {
		t.Errorf("an object abandoned in another back end: %v", err)
	}
}
