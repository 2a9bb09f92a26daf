package volume

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
)

// hold is what the acceptance of a migration writes.
func hold(id string) func(catalog.Tx, catalog.Volume) error {
	return func(tx catalog.Tx, v catalog.Volume) error {
		v.MigrationID = id
		return catalog.Volumes.Put(tx, v.ID, v)
	}
}

func TestClaim(t *testing.T) {
	r := newRig(t)
	v := r.create("data")
	h := r.view(v.ID, "v", true)
	wants(t, r.Claim(v.ID, hold("m")), ErrInUse)
	check(t, h.Close())
	a, err := r.Export(t.Context(), v.ID, true)
	check(t, err)
	wants(t, r.Claim(v.ID, hold("m")), ErrInUse)
	check(t, r.Unexport(t.Context(), a.ID))
	refused := errors.New("refused")
	if err := r.Claim(v.ID, func(catalog.Tx, catalog.Volume) error { return refused }); err != refused {
		t.Errorf("got %v", err)
	}
	check(t, r.Claim(v.ID, hold("m")))
	if r.get(v.ID).MigrationID != "m" {
		t.Error("nothing was written")
	}
	// The point of no return: the migration's own device is no obstacle, another migration's is.
	source, err := r.Open(t.Context(), v.ID, migration, dataplane.Mode{ReadOnly: true})
	check(t, err)
	check(t, r.Claim(v.ID, hold("m")))
	r.edit(v.ID, func(v *catalog.Volume) { v.MigrationID = "" })
	wants(t, r.Claim(v.ID, hold("n")), ErrInUse)
	check(t, source.Close())
	check(t, r.Manager.Close(t.Context()))
	wants(t, r.Claim(v.ID, hold("n")), ErrClosed)
}

func TestReleaseAndAdopt(t *testing.T) {
	r := newRig(t)
	v := r.create("data")
	release := func(tx catalog.Tx, v catalog.Volume) error { return Release(tx, v.ID, "other", 1, time.Now()) }
	check(t, r.Claim(v.ID, release))
	_, err := r.Get(v.ID)
	wants(t, err, ErrMoved)
	again := func(node string, epoch uint64) error {
		return r.store.Update(func(tx catalog.Tx) error { return Release(tx, v.ID, node, epoch, time.Now()) })
	}
	check(t, again("other", 1))
	wants(t, again("third", 1), ErrMoved)
	wants(t, again("third", 2), ErrMoved)

	adopt := func(v catalog.Volume) error {
		return r.store.Update(func(tx catalog.Tx) error { return Adopt(tx, v) })
	}
	wants(t, adopt(v), ErrMoved)
	v.OwnerEpoch = 1
	wants(t, adopt(v), ErrMoved)
	v.OwnerEpoch = 2
	check(t, adopt(v))
	if got := r.get(v.ID); got.OwnerEpoch != 2 || got.DisplayName != "data" {
		t.Errorf("got %+v", got)
	}
	check(t, r.store.View(func(tx catalog.Tx) error {
		if _, err := catalog.Stubs.Get(tx, v.ID); !errors.Is(err, catalog.ErrNotFound) {
			t.Errorf("the stub is still there: %v", err)
		}
		return nil
	}))
	// Done again, it does not touch what happened since.
	h := r.view(v.ID, "v", false)
	check(t, h.Close())
	check(t, adopt(v))
	if r.get(v.ID).WriteGeneration != 1 {
		t.Error("adopting again took the record back")
	}
	other := v
	other.Identity = "another"
	wants(t, adopt(other), ErrStatus)
	other.OwnerEpoch = 1
	wants(t, adopt(other), ErrStatus)
	wants(t, again("other", 2), ErrStatus)
	other.OwnerEpoch = 4
	check(t, adopt(other))
}

func TestReleaseAttached(t *testing.T) {
	r := newRig(t)
	v := r.create("data")
	a, err := r.Export(t.Context(), v.ID, true)
	check(t, err)
	release := func(tx catalog.Tx) error { return Release(tx, v.ID, "other", 1, time.Now()) }
	wants(t, r.store.Update(release), ErrInUse)
	check(t, r.Unexport(t.Context(), a.ID))
	check(t, r.store.Update(release))
	wants(t, r.store.Update(func(tx catalog.Tx) error { return Release(tx, "unknown", "other", 1, time.Now()) }), ErrNotFound)
}

// TestRename: the driver's update_migrated_volume under the volume's turn; afterwards the volume has its own name.
func TestRename(t *testing.T) {
	r := newRig(t)
	v := r.create("data")
	wants(t, r.Rename(t.Context(), "unknown", nil), ErrNotFound)
	refused := errors.New("refused")
	if err := r.Rename(t.Context(), v.ID, func(context.Context, catalog.Volume) error { return refused }); err != refused {
		t.Errorf("got %v", err)
	}
	updater := r.drivers[0].(dataplane.MigrationUpdater)
	rename := func(deed context.Context, v catalog.Volume) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := r.Open(ctx, v.ID, someView, dataplane.Mode{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("opened during a rename: %v", err)
		}
		own := v.Volume
		own.Name = "volume-own"
		update, err := updater.UpdateMigratedVolume(deed, own, v.Volume, "available")
		if err == nil {
			r.edit(v.ID, func(v *catalog.Volume) { v.Volume = update.Apply(v.Volume) })
		}
		return err
	}
	check(t, r.Rename(t.Context(), v.ID, rename))
	if now := r.get(v.ID); now.Name != "volume-own" {
		t.Errorf("name %s", now.Name)
	}
	check(t, r.Delete(t.Context(), v.ID))
	if left := r.objects(); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}
