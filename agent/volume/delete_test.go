package volume

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/faulty"
	"github.com/cvold/cvold/dataplane/file"
)

func TestDelete(t *testing.T) {
	r := newRig(t)
	v, other := r.create("data"), r.create("other")
	check(t, r.Delete(t.Context(), v.ID))
	_, err := r.Get(v.ID)
	wants(t, err, ErrNotFound)
	wants(t, r.Delete(t.Context(), v.ID), ErrNotFound)
	if !slices.Equal(r.objects(), []string{other.ID}) {
		t.Errorf("objects %v", r.objects())
	}
}

func TestDeleteByStatus(t *testing.T) {
	r := newRig(t)
	for status, want := range map[catalog.Status]error{
		catalog.StatusCreating:      ErrStatus,
		catalog.StatusInUse:         ErrStatus, // by what, no one knows: a migration's end may leave it so until Start
		catalog.StatusMaintenance:   ErrMaintenance,
		catalog.StatusError:         nil,
		catalog.StatusErrorDeleting: nil,
		catalog.StatusDeleting:      nil,
		catalog.StatusKept:          nil,
	} {
		v := r.create(string(status))
		r.edit(v.ID, func(v *catalog.Volume) { v.Status = status })
		before := r.get(v.ID)
		err := r.Delete(t.Context(), v.ID)
		wants(t, err, want)
		if want == nil {
			continue
		}
		if !strings.Contains(err.Error(), "volume "+v.ID+" ("+string(status)+")") {
			t.Errorf("%q does not name the volume", err)
		}
		if after := r.get(v.ID); after.Status != before.Status || after.UpdatedAt != before.UpdatedAt {
			t.Errorf("%s: the record changed", status)
		}
	}
	if len(r.objects()) != 3 {
		t.Errorf("objects %v", r.objects())
	}
}

// TestDeleteBusy: someone outside has the object open.
func TestDeleteBusy(t *testing.T) {
	r := newRig(t)
	v := r.create("data")
	outside, err := file.New(file.Config{Name: "outside", Directory: filepath.Join(r.dir, "fast")})
	check(t, err)
	defer outside.Close()
	d, err := outside.Open(t.Context(), v.Volume, dataplane.Mode{})
	check(t, err)
	wants(t, r.Delete(t.Context(), v.ID), dataplane.ErrBusy)
	if now := r.get(v.ID); now.Status != catalog.StatusAvailable || now.StatusReason != "" {
		t.Errorf("status %s, %q", now.Status, now.StatusReason)
	}
	check(t, d.Close())
	check(t, r.Delete(t.Context(), v.ID))
}

func TestDeleteFails(t *testing.T) {
	r := prepareRig(t)
	var broken atomic.Bool
	r.wrap = func(d dataplane.Driver) dataplane.Driver {
		return faulty.Driver(d, faulty.Hook{Before: func(ctx context.Context, c faulty.Call) error {
			if broken.Load() {
				return failOn("Delete", dataplane.ErrIO)(ctx, c)
			}
			return nil
		}})
	}
	r.start()
	v := r.create("data")
	broken.Store(true)
	wants(t, r.Delete(t.Context(), v.ID), dataplane.ErrIO)
	now := r.get(v.ID)
	if now.Status != catalog.StatusErrorDeleting || !strings.Contains(now.StatusReason, "input/output error") {
		t.Errorf("status %s, %q", now.Status, now.StatusReason)
	}
	broken.Store(false)
	check(t, r.Delete(t.Context(), v.ID))
	if len(r.objects()) != 0 {
		t.Errorf("objects %v", r.objects())
	}
}

// TestDeleteForeign: another object has the name. It stays.
func TestDeleteForeign(t *testing.T) {
	r := newRig(t)
	v := r.create("data")
	r.edit(v.ID, func(v *catalog.Volume) { v.Identity = "another" })
	wants(t, r.Delete(t.Context(), v.ID), dataplane.ErrNotOurs)
	r.status(v.ID, catalog.StatusErrorDeleting)
	if !slices.Equal(r.objects(), []string{v.ID}) {
		t.Errorf("objects %v", r.objects())
	}
}

// TestDeleteOfFailedCreateListFails: without a look at the marks nothing is said to be gone.
func TestDeleteOfFailedCreateListFails(t *testing.T) {
	r := prepareRig(t)
	r.wrap = func(d dataplane.Driver) dataplane.Driver {
		return faulty.Driver(d, faulty.Hook{Before: failOn("List", dataplane.ErrIO)})
	}
	r.start()
	v := r.create("data")
	r.edit(v.ID, func(v *catalog.Volume) { v.Status, v.Identity = catalog.StatusError, "" })
	wants(t, r.Delete(t.Context(), v.ID), dataplane.ErrIO)
	r.status(v.ID, catalog.StatusErrorDeleting)
}

func TestDeleteInUse(t *testing.T) {
	r := newRig(t)
	v := r.create("data")
	h := r.view(v.ID, "/mnt/data", true)
	err := r.Delete(t.Context(), v.ID)
	wants(t, err, ErrInUse)
	if want := "volume " + v.ID + " (data) is in use by view /mnt/data"; !strings.Contains(err.Error(), want) {
		t.Errorf("got %q, want %q", err, want)
	}
	check(t, h.Close())
	check(t, r.Delete(t.Context(), v.ID))
}

func TestDeleteWithoutBackend(t *testing.T) {
	r := newRig(t)
	v := r.create("data")
	r.edit(v.ID, func(v *catalog.Volume) { v.Host = "node@gone#gone" })
	wants(t, r.Delete(t.Context(), v.ID), ErrNoBackend)
	r.status(v.ID, catalog.StatusAvailable)
	_, err := r.Open(t.Context(), v.ID, User{UserView, "v"}, dataplane.Mode{})
	wants(t, err, ErrNoBackend)
}

func TestDeleteObject(t *testing.T) {
	r := newRig(t)
	u := User{UserMigration, "m"}
	target := dataplane.Volume{ID: "11111111-2222-4333-8444-555555555555", Name: "volume-x", Size: mib}
	target, err := r.drivers[0].Create(t.Context(), target, dataplane.Mark{StoreID: r.store.ID(), VolumeID: target.ID, MigrationID: "m"})
	check(t, err)
	d, err := r.OpenObject(t.Context(), "node@fast#fast", target, u, dataplane.Mode{})
	check(t, err)
	wants(t, r.DeleteObject(t.Context(), "node@fast", target), ErrInUse)
	renamed := target
	renamed.ID, renamed.Name = "another id", "another name"
	wants(t, r.DeleteObject(t.Context(), "node@fast", renamed), ErrInUse)
	check(t, d.Close())
	wants(t, r.DeleteObject(t.Context(), "node@gone", target), ErrNoBackend)
	other := target
	other.Identity = "other"
	if err := r.DeleteObject(t.Context(), "node@fast", other); !errors.Is(err, dataplane.ErrNotOurs) {
		t.Errorf("got %v", err)
	}
	for range 2 {
		check(t, r.DeleteObject(t.Context(), "node@fast", target))
	}
	if len(r.objects()) != 0 {
		t.Errorf("objects %v", r.objects())
	}
}
