package drivertest

import (
	"bytes"
	"testing"

	"github.com/cvold/cvold/dataplane"
)

func driverExtend(t *testing.T, f *fixture) {
	v := f.create(t)
	want := pattern(1, deviceSize)
	f.store(t, v, want)
	for range 2 {
		if err := f.d.Extend(t.Context(), v, 2*deviceSize); err != nil {
			t.Fatalf("extend: %v", err)
		}
	}
	found, err := f.d.Lookup(t.Context(), v)
	if err != nil || found.Size != 2*deviceSize || found.Identity != v.Identity {
		t.Errorf("after extend: %+v, %v", found, err)
	}
	got := f.content(t, v)
	if len(got) != 2*deviceSize || !bytes.Equal(got[:deviceSize], want) || firstNonZero(got[deviceSize:]) >= 0 {
		t.Error("extend changed the old bytes, or the new ones do not read as zeroes")
	}
	wantErr(t, "extend to less", f.d.Extend(t.Context(), v, deviceSize), dataplane.ErrOutOfRange)
	if found, err := f.d.Lookup(t.Context(), v); err != nil || found.Size != 2*deviceSize {
		t.Errorf("after a refused extend: %+v, %v", found, err)
	}
}

func driverExtendOpen(t *testing.T, f *fixture) {
	if !f.d.Features().OnlineExtend {
		t.Skip("the back end cannot extend what is open")
	}
	v := f.create(t)
	dev, medium := f.open(t, v, dataplane.Mode{}), f.open(t, v, dataplane.Mode{Medium: true})
	if err := f.d.Extend(t.Context(), v, 2*deviceSize); err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]dataplane.Device{"writer": dev, "medium reader": medium} {
		if n := sizeOf(t, d); n != 2*deviceSize {
			t.Errorf("the open %s shows %d bytes", name, n)
		}
	}
	want := pattern(1, 1<<20)
	write(t, dev, 2*deviceSize-1<<20, want)
	if err := dev.Sync(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, medium, 2*deviceSize-1<<20, 1<<20), want) {
		t.Error("the new bytes cannot be used")
	}
}

// driverUpdateMigrated: the target's object gets the volume's own name; called again it finds its work done.
func driverUpdateMigrated(t *testing.T, f *fixture) {
	u, ok := f.d.(dataplane.MigrationUpdater)
	if !ok {
		t.Skip("the driver is no MigrationUpdater")
	}
	n, s := f.create(t), newVolume()
	want := pattern(1, 1<<20)
	f.store(t, n, want)
	for round := range 2 {
		update, err := u.UpdateMigratedVolume(t.Context(), s, n, "available")
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		// The swap has given the volume's record the fields of the object before the rename.
		now := s
		now.NameID, now.Identity, now.ProviderLocation = n.ID, n.Identity, n.ProviderLocation
		now = update.Apply(now)
		if now.Name != s.Name || now.NameID != "" {
			t.Errorf("round %d: the update makes it %+v", round, now)
		}
		found, err := f.d.Lookup(t.Context(), s)
		if err != nil || found.Identity != now.Identity || found.ProviderLocation != now.ProviderLocation {
			t.Errorf("round %d: found %+v, %v; the record says %+v", round, found, err, now)
		}
		if !bytes.Equal(f.content(t, now)[:len(want)], want) {
			t.Errorf("round %d: the data is not there", round)
		}
	}
	_, err := f.d.Lookup(t.Context(), n)
	wantErr(t, "lookup of the old name", err, dataplane.ErrNotFound)
	if all := f.list(t); len(all) != 1 || all[s.Name].Mark != markOf(n) {
		t.Errorf("listed %+v", all)
	}
}

// driverUpdateOverAnother: whoever has the name already keeps it, and nothing is lost.
func driverUpdateOverAnother(t *testing.T, f *fixture) {
	u, ok := f.d.(dataplane.MigrationUpdater)
	if !ok {
		t.Skip("the driver is no MigrationUpdater")
	}
	n, s := f.create(t), f.create(t)
	f.store(t, n, pattern(1, 4096))
	f.store(t, s, pattern(2, 4096))
	_, err := u.UpdateMigratedVolume(t.Context(), s, n, "available")
	wantErr(t, "rename over another volume", err, dataplane.ErrExists)
	if f.Foreign != nil {
		v := newVolume()
		untouched := f.Foreign(t, f.d, v.Name)
		_, err = u.UpdateMigratedVolume(t.Context(), v, n, "available")
		wantErr(t, "rename over a foreign object", err, dataplane.ErrExists)
		untouched(t)
	}
	if !bytes.Equal(f.content(t, n)[:4096], pattern(1, 4096)) || !bytes.Equal(f.content(t, s)[:4096], pattern(2, 4096)) {
		t.Error("a refused rename touched an object")
	}
	_, err = u.UpdateMigratedVolume(t.Context(), newVolume(), newVolume(), "available")
	wantErr(t, "rename of nothing", err, dataplane.ErrNotFound)
}
