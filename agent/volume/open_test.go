package volume

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/faulty"
)

var (
	someView  = User{UserView, "v"}
	migration = User{UserMigration, "m"}
)

func TestOpen(t *testing.T) {
	r := newRig(t)
	v := r.create("data")
	h := r.view(v.ID, "v", false)
	want := bytes.Repeat([]byte("data"), 128)
	if _, err := h.WriteAt(want, 512); err != nil {
		t.Fatal(err)
	}
	check(t, h.Sync())
	if users := r.Users(v.ID); len(users) != 1 || users[0] != someView {
		t.Errorf("users %v", users)
	}
	r.status(v.ID, catalog.StatusAvailable)
	check(t, h.Close())
	wants(t, h.Close(), dataplane.ErrClosed)
	if users := r.Users(v.ID); len(users) != 0 {
		t.Errorf("users %v", users)
	}
	h = r.view(v.ID, "v", true)
	got := make([]byte, 512)
	if _, err := h.ReadAt(got, 512); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %q, %v", got[:8], err)
	}
	if _, err := h.WriteAt(want, 0); err == nil {
		t.Error("written on a read-only handle")
	}
	check(t, h.Close())
}

// TestWriteGeneration: each writable open counts, durably, before the driver opens; others do not.
func TestWriteGeneration(t *testing.T) {
	r := prepareRig(t)
	var atOpen uint64
	r.wrap = func(d dataplane.Driver) dataplane.Driver {
		return faulty.Driver(d, faulty.Hook{Before: func(_ context.Context, c faulty.Call) error {
			if c.Name == "Open" {
				atOpen = r.get(c.Volume.ID).WriteGeneration
			}
			return nil
		}})
	}
	r.start()
	v := r.create("data")
	for i, mode := range []struct {
		mode dataplane.Mode
		want uint64
	}{
		{dataplane.Mode{}, 1}, {dataplane.Mode{ReadOnly: true}, 1}, {dataplane.Mode{Medium: true}, 1}, {dataplane.Mode{}, 2},
	} {
		h, err := r.Open(t.Context(), v.ID, someView, mode.mode)
		check(t, err)
		check(t, h.Close())
		if atOpen != mode.want {
			t.Errorf("%d: generation %d, want %d", i, atOpen, mode.want)
		}
	}
	a, err := r.Export(t.Context(), v.ID, false)
	check(t, err)
	check(t, r.Unexport(t.Context(), a.ID))
	if atOpen != 3 {
		t.Errorf("generation %d at an export, want 3", atOpen)
	}
}

func TestOpenGuards(t *testing.T) {
	r := newRig(t)
	tests := []struct {
		name string
		edit func(v *catalog.Volume)
		user User
		want []error
		says string
	}{
		{"migrating", func(v *catalog.Volume) { v.MigrationID = "m" }, someView, []error{ErrMigrating}, "abort it first"},
		{"locked", func(v *catalog.Volume) { v.MigrationID, v.Status = "m", catalog.StatusMaintenance }, someView, []error{ErrMigrating, ErrMaintenance}, "wait for its end"},
		{"maintenance", func(v *catalog.Volume) { v.Status = catalog.StatusMaintenance }, someView, []error{ErrMaintenance}, "wait"},
		{"creating", func(v *catalog.Volume) { v.Status = catalog.StatusCreating }, someView, []error{ErrStatus}, "must be available or in-use"},
		{"error", func(v *catalog.Volume) { v.Status, v.StatusReason = catalog.StatusError, "disk on fire" }, someView, []error{ErrStatus}, "disk on fire"},
		{"kept", func(v *catalog.Volume) { v.Status = catalog.StatusKept }, someView, []error{ErrStatus}, "kept"},
		{"other migration", func(v *catalog.Volume) { v.MigrationID = "n" }, migration, []error{ErrMigrating}, "not held by migration m"},
		{"no migration", func(*catalog.Volume) {}, migration, []error{ErrMigrating}, "not held by migration m"},
		{"migration of a deleted one", func(v *catalog.Volume) { v.MigrationID, v.Status = "m", catalog.StatusDeleting }, migration, []error{ErrStatus}, "deleting"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v := r.create("data")
			r.edit(v.ID, test.edit)
			before := r.get(v.ID)
			open := func() error {
				_, err := r.Open(t.Context(), v.ID, test.user, dataplane.Mode{})
				return err
			}
			calls := []func() error{open}
			if test.user == someView {
				calls = append(calls, func() error { _, err := r.Export(t.Context(), v.ID, true); return err })
			}
			for _, call := range calls {
				err := call()
				for _, want := range test.want {
					wants(t, err, want)
				}
				if err != nil && (!strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "volume "+v.ID+" (data)")) {
					t.Errorf("%q does not say %q of the volume", err, test.says)
				}
			}
			if after := r.get(v.ID); after.WriteGeneration != before.WriteGeneration || after.Status != before.Status {
				t.Errorf("the record changed: %+v", after)
			}
			if len(r.Users(v.ID)) != 0 || len(r.Attachments(v.ID)) != 0 {
				t.Error("a use is left over")
			}
		})
	}
}

func TestOpenUnknownAndMoved(t *testing.T) {
	r := newRig(t)
	put(r, catalog.Stubs, "moved", catalog.Stub{VolumeID: "moved", Node: "other", Epoch: 3})
	for id, want := range map[string]error{"unknown": ErrNotFound, "": ErrNotFound, "a\x00": ErrNotFound, "moved": ErrMoved} {
		_, err := r.Get(id)
		wants(t, err, want)
		_, err = r.Open(t.Context(), id, someView, dataplane.Mode{})
		wants(t, err, want)
		_, err = r.Export(t.Context(), id, false)
		wants(t, err, want)
		wants(t, r.Delete(t.Context(), id), want)
		wants(t, r.Claim(id, func(catalog.Tx, catalog.Volume) error { return nil }), want)
	}
	_, err := r.Get("moved")
	if moved := err.(*MovedError); moved.Node != "other" || moved.Epoch != 3 || !strings.Contains(err.Error(), "node other") {
		t.Errorf("got %v", err)
	}
}

// TestStubBesideRecord: the higher epoch is right.
func TestStubBesideRecord(t *testing.T) {
	r := newRig(t)
	v := r.create("data")
	r.edit(v.ID, func(v *catalog.Volume) { v.OwnerEpoch = 2 })
	put(r, catalog.Stubs, v.ID, catalog.Stub{VolumeID: v.ID, Node: "other", Epoch: 1})
	r.status(v.ID, catalog.StatusAvailable)
	put(r, catalog.Stubs, v.ID, catalog.Stub{VolumeID: v.ID, Node: "other", Epoch: 3})
	_, err := r.Open(t.Context(), v.ID, someView, dataplane.Mode{})
	wants(t, err, ErrMoved)
}

func TestOpenUsers(t *testing.T) {
	r := newRig(t)
	v := r.create("data")
	for _, u := range []User{{}, {UserView, ""}, {UserExport, "volume-x"}, {"other", "x"}} {
		_, err := r.Open(t.Context(), v.ID, u, dataplane.Mode{})
		wants(t, err, ErrInvalid)
	}
	for _, u := range []User{{UserMigration, ""}, someView} {
		_, err := r.OpenObject(t.Context(), v.Host, v.Volume, u, dataplane.Mode{})
		wants(t, err, ErrInvalid)
	}
}

// TestMigrationOpensAlone: a migration needs that nobody else has its source open, and keeps all others out.
func TestMigrationOpensAlone(t *testing.T) {
	r := prepareRig(t)
	var modes []dataplane.Mode
	r.wrap = func(d dataplane.Driver) dataplane.Driver {
		return faulty.Driver(d, faulty.Hook{Before: func(_ context.Context, c faulty.Call) error {
			if c.Name == "Open" {
				modes = append(modes, c.Mode)
			}
			return nil
		}})
	}
	r.start()
	v := r.create("data")
	h := r.view(v.ID, "/mnt/x", true)
	r.edit(v.ID, func(v *catalog.Volume) { v.MigrationID, v.MigrationStatus = "m", catalog.MigrationStarting })
	_, err := r.Open(t.Context(), v.ID, migration, dataplane.Mode{ReadOnly: true})
	wants(t, err, ErrInUse)
	if err != nil && !strings.Contains(err.Error(), "is in use by view /mnt/x") {
		t.Errorf("got %q", err)
	}
	check(t, h.Close())

	modes = nil
	source, err := r.Open(t.Context(), v.ID, migration, dataplane.Mode{ReadOnly: true})
	check(t, err)
	medium, err := r.Open(t.Context(), v.ID, migration, dataplane.Mode{Medium: true})
	check(t, err)
	if want := []dataplane.Mode{{ReadOnly: true, Exclusive: true}, {Medium: true}}; len(modes) != 2 || modes[0] != want[0] || modes[1] != want[1] {
		t.Errorf("modes %+v", modes)
	}
	// The record is free again (the migration was aborted), and the migration has not let go yet.
	r.edit(v.ID, func(v *catalog.Volume) { v.MigrationID = "" })
	_, err = r.Open(t.Context(), v.ID, someView, dataplane.Mode{ReadOnly: true})
	wants(t, err, ErrMigrating)
	_, err = r.Export(t.Context(), v.ID, true)
	wants(t, err, ErrMigrating)
	wants(t, r.Delete(t.Context(), v.ID), ErrInUse)
	r.status(v.ID, catalog.StatusAvailable)
	check(t, source.Close())
	check(t, medium.Close())
	check(t, r.view(v.ID, "v", false).Close())
}

// TestWritersExclude: writers that know nothing of each other are not let in together.
func TestWritersExclude(t *testing.T) {
	r := newRig(t)
	v := r.create("data")
	one, two := r.view(v.ID, "one", false), r.view(v.ID, "two", false) // the same view: one page cache
	_, err := r.Export(t.Context(), v.ID, false)
	wants(t, err, ErrInUse)
	a, err := r.Export(t.Context(), v.ID, true)
	check(t, err)
	check(t, one.Close())
	check(t, two.Close())
	b, err := r.Export(t.Context(), v.ID, false)
	check(t, err)
	_, err = r.Open(t.Context(), v.ID, someView, dataplane.Mode{})
	wants(t, err, ErrInUse)
	if err != nil && !strings.Contains(err.Error(), b.Export) {
		t.Errorf("%q does not name %s", err, b.Export)
	}
	reader := r.view(v.ID, "reader", true)
	check(t, r.Unexport(t.Context(), a.ID))
	check(t, r.Unexport(t.Context(), b.ID))
	check(t, reader.Close())
}

// TestOpenFailureGivesUseBack: what the driver refuses leaves no user behind.
func TestOpenFailureGivesUseBack(t *testing.T) {
	r := prepareRig(t)
	r.wrap = func(d dataplane.Driver) dataplane.Driver {
		return faulty.Driver(d, faulty.Hook{Before: failOn("Open", dataplane.ErrBusy)})
	}
	r.start()
	v := r.create("data")
	_, err := r.Open(t.Context(), v.ID, someView, dataplane.Mode{})
	wants(t, err, dataplane.ErrBusy)
	a, err := r.Export(t.Context(), v.ID, false)
	wants(t, err, dataplane.ErrBusy)
	if a.ID != "" || len(r.Users(v.ID)) != 0 || len(r.Attachments("")) != 0 {
		t.Errorf("left over: %v, %v", r.Users(v.ID), r.Attachments(""))
	}
	r.status(v.ID, catalog.StatusAvailable)
	d, err := r.OpenObject(t.Context(), v.Host, dataplane.Volume{ID: "x", Name: "volume-x"}, migration, dataplane.Mode{})
	if d != nil {
		t.Errorf("got a device with %v", err)
	}
	wants(t, err, dataplane.ErrBusy)
}

func TestOpenObject(t *testing.T) {
	r := newRig(t)
	v := r.create("data")
	// The object of a volume is opened for the migration that holds it, and counts; nobody else's.
	_, err := r.OpenObject(t.Context(), v.Host, v.Volume, migration, dataplane.Mode{})
	wants(t, err, ErrMigrating)
	r.edit(v.ID, func(v *catalog.Volume) { v.MigrationID, v.Status = "m", catalog.StatusCreating })
	d, err := r.OpenObject(t.Context(), v.Host, v.Volume, migration, dataplane.Mode{})
	check(t, err)
	if g := r.get(v.ID).WriteGeneration; g != 1 {
		t.Errorf("generation %d", g)
	}
	if users := r.Users(v.ID); len(users) != 1 || users[0] != migration {
		t.Errorf("users %v", users)
	}
	_, err = r.OpenObject(t.Context(), v.Host, v.Volume, User{UserMigration, "n"}, dataplane.Mode{})
	wants(t, err, ErrMigrating)
	again, err := r.OpenObject(t.Context(), v.Host, v.Volume, migration, dataplane.Mode{Medium: true})
	check(t, err)
	check(t, again.Close())
	check(t, d.Close())

	// An object of another name under the volume's id is the migration's target, and counts for nothing.
	target := v.Volume
	target.Name = "volume-target"
	target, err = r.drivers[1].Create(t.Context(), target, dataplane.Mark{StoreID: r.store.ID(), VolumeID: v.ID, MigrationID: "m"})
	check(t, err)
	d, err = r.OpenObject(t.Context(), "node@slow", target, migration, dataplane.Mode{})
	check(t, err)
	if g := r.get(v.ID).WriteGeneration; g != 1 {
		t.Errorf("generation %d", g)
	}
	check(t, d.Close())
	_, err = r.OpenObject(t.Context(), "other@slow", target, migration, dataplane.Mode{})
	wants(t, err, ErrNoBackend)
	// Without any record there is nothing to hold.
	target.ID = "no record"
	d, err = r.OpenObject(t.Context(), "node@slow", target, migration, dataplane.Mode{})
	check(t, err)
	_, err = r.OpenObject(t.Context(), "node@slow", target, User{UserMigration, "n"}, dataplane.Mode{})
	wants(t, err, ErrMigrating)
	check(t, d.Close())
}

// TestObjectOpenUnderAnotherID: after a hand-over the object of a volume may still be open as the migration's target.
func TestObjectOpenUnderAnotherID(t *testing.T) {
	r := newRig(t)
	v := r.create("data")
	object := v.Volume
	object.ID = "temporary"
	d, err := r.OpenObject(t.Context(), v.Host, object, migration, dataplane.Mode{})
	check(t, err)
	_, err = r.Open(t.Context(), v.ID, someView, dataplane.Mode{})
	wants(t, err, ErrMigrating)
	wants(t, r.Delete(t.Context(), v.ID), ErrInUse)
	check(t, d.Close())
	check(t, r.Delete(t.Context(), v.ID))
}
