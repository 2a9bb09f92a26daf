package drivertest

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/cvold/cvold/dataplane"
)

// wantErr holds a call to one of the sentinels.
func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func driverCreate(t *testing.T, f *fixture) {
	v := newVolume()
	made, err := f.d.Create(t.Context(), v, markOf(v))
	if err != nil {
		t.Fatal(err)
	}
	if made.Identity == "" || made.ID != v.ID || made.Name != v.Name || made.Size != v.Size {
		t.Errorf("created %+v from %+v", made, v)
	}
	if p := f.content(t, made); len(p) != deviceSize || firstNonZero(p) >= 0 {
		t.Errorf("a new object has %d bytes, or does not read as zeroes", len(p))
	}
}

func driverCreateTwice(t *testing.T, f *fixture) {
	v := f.create(t)
	want := pattern(1, 1<<20)
	f.store(t, v, want)
	asked := v
	asked.Identity, asked.ProviderLocation = "", ""
	again, err := f.d.Create(t.Context(), asked, markOf(v))
	if err != nil || again.Identity != v.Identity || again.ProviderLocation != v.ProviderLocation || again.Size != v.Size {
		t.Errorf("second create: %+v, %v; first %+v", again, err, v)
	}
	if !bytes.Equal(f.content(t, v)[:len(want)], want) {
		t.Error("the second create lost the data")
	}
}

func driverCreateOverAnother(t *testing.T, f *fixture) {
	v := f.create(t)
	want := pattern(1, 1<<20)
	f.store(t, v, want)
	other, larger := markOf(v), v
	larger.Size *= 2
	other.VolumeID = uuid.NewString()
	_, err := f.d.Create(t.Context(), v, other)
	wantErr(t, "create for another volume", err, dataplane.ErrExists)
	migration := markOf(v)
	migration.MigrationID = uuid.NewString()
	_, err = f.d.Create(t.Context(), v, migration)
	wantErr(t, "create for another migration", err, dataplane.ErrExists)
	_, err = f.d.Create(t.Context(), larger, markOf(v))
	wantErr(t, "create with another size", err, dataplane.ErrExists)
	if got := f.content(t, v); len(got) != deviceSize || !bytes.Equal(got[:len(want)], want) {
		t.Error("a refused create touched the object")
	}
}

// driverCreateAtOnce: several volumes at the same time, as the contract allows.
func driverCreateAtOnce(t *testing.T, f *fixture) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			v := newVolume()
			v, err := f.d.Create(t.Context(), v, markOf(v))
			if err != nil {
				t.Errorf("create: %v", err)
				return
			}
			if found, err := f.d.Lookup(t.Context(), v); err != nil || found.Identity != v.Identity {
				t.Errorf("lookup: %+v, %v", found, err)
			}
		})
	}
	wg.Wait()
	if n := len(f.list(t)); n != 8 {
		t.Errorf("%d objects, want 8", n)
	}
}

func driverLookup(t *testing.T, f *fixture) {
	v := f.create(t)
	found, err := f.d.Lookup(t.Context(), dataplane.Volume{ID: v.ID, Name: v.Name})
	if err != nil || found.Identity != v.Identity || found.Size != v.Size || found.ProviderLocation != v.ProviderLocation {
		t.Errorf("found %+v, %v; created %+v", found, err, v)
	}
	none := newVolume()
	_, err = f.d.Lookup(t.Context(), none)
	wantErr(t, "lookup of nothing", err, dataplane.ErrNotFound)
	none.Identity = v.Identity
	_, err = f.d.Open(t.Context(), none, dataplane.Mode{})
	wantErr(t, "open of nothing", err, dataplane.ErrNotFound)
	wantErr(t, "extend of nothing", f.d.Extend(t.Context(), none, 2*deviceSize), dataplane.ErrNotFound)
}

func driverList(t *testing.T, f *fixture) {
	if all := f.list(t); len(all) != 0 {
		t.Fatalf("an empty back end lists %v", all)
	}
	v, w := f.create(t), newVolume()
	mark := markOf(w)
	mark.MigrationID = uuid.NewString()
	w, err := f.d.Create(t.Context(), w, mark)
	if err != nil {
		t.Fatal(err)
	}
	all := f.list(t)
	if len(all) != 2 || all[v.Name].Mark != markOf(v) || all[w.Name].Mark != mark {
		t.Errorf("listed %+v", all)
	}
	got := all[v.Name].Volume
	if got.ID != v.ID || got.Identity != v.Identity || got.Size != v.Size {
		t.Errorf("listed %+v, created %+v", got, v)
	}
}

func driverListStops(t *testing.T, f *fixture) {
	f.create(t)
	f.create(t)
	stop, calls := errors.New("stop"), 0
	err := f.d.List(t.Context(), func(dataplane.Object) error { calls++; return stop })
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("error of fn came back as %v after %d calls", err, calls)
	}
}

// driverUnmarked: an object that we did not make is never touched, whatever is asked.
func driverUnmarked(t *testing.T, f *fixture) {
	if f.Foreign == nil {
		t.Skip("the harness cannot make foreign objects")
	}
	v, mine := newVolume(), f.create(t)
	untouched := f.Foreign(t, f.d, v.Name)
	_, err := f.d.Create(t.Context(), v, markOf(v))
	wantErr(t, "create", err, dataplane.ErrExists)
	_, err = f.d.Lookup(t.Context(), v)
	wantErr(t, "lookup", err, dataplane.ErrNotOurs)
	for _, v.Identity = range []string{"", mine.Identity} {
		_, err = f.d.Open(t.Context(), v, dataplane.Mode{ReadOnly: true})
		wantErr(t, "open", err, dataplane.ErrNotOurs)
		wantErr(t, "extend", f.d.Extend(t.Context(), v, 2*deviceSize), dataplane.ErrNotOurs)
		wantErr(t, "delete", f.d.Delete(t.Context(), v), dataplane.ErrNotOurs)
	}
	if all := f.list(t); len(all) != 1 {
		t.Errorf("listed %v", all)
	}
	untouched(t)
}

// driverSecondOfTheName: the record of an object that was deleted does not reach its successor of the same name.
func driverSecondOfTheName(t *testing.T, f *fixture) {
	old := f.create(t)
	if err := f.d.Delete(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	v, err := f.d.Create(t.Context(), dataplane.Volume{ID: old.ID, Name: old.Name, Size: old.Size}, markOf(old))
	if err != nil {
		t.Fatal(err)
	}
	want := pattern(1, 1<<20)
	f.store(t, v, want)
	f.refuses(t, old)
	if !bytes.Equal(f.content(t, v)[:len(want)], want) {
		t.Error("a refused call touched the object")
	}
}

func driverReplaced(t *testing.T, f *fixture) {
	if f.Replace == nil {
		t.Skip("the harness cannot replace objects")
	}
	v := f.create(t)
	f.Replace(t, f.d, v)
	f.refuses(t, v)
}

// refuses holds the driver to ErrNotOurs for a volume whose object is another one now.
func (f *fixture) refuses(t *testing.T, old dataplane.Volume) {
	t.Helper()
	for _, mode := range []dataplane.Mode{{}, {ReadOnly: true}, {Medium: true}, {Exclusive: true}} {
		_, err := f.d.Open(t.Context(), old, mode)
		wantErr(t, "open", err, dataplane.ErrNotOurs)
	}
	wantErr(t, "extend", f.d.Extend(t.Context(), old, 2*deviceSize), dataplane.ErrNotOurs)
	wantErr(t, "delete", f.d.Delete(t.Context(), old), dataplane.ErrNotOurs)
	if u, ok := f.d.(dataplane.MigrationUpdater); ok {
		_, err := u.UpdateMigratedVolume(t.Context(), newVolume(), old, "available")
		wantErr(t, "rename", err, dataplane.ErrNotOurs)
	}
}

// driverWithoutIdentity: a record without identity opens and deletes nothing; the driver acts on identity only.
func driverWithoutIdentity(t *testing.T, f *fixture) {
	v := f.create(t)
	v.Identity = ""
	f.refuses(t, v)
	if _, err := f.d.Lookup(t.Context(), v); err != nil {
		t.Errorf("lookup: %v", err)
	}
}

func driverDeleteTwice(t *testing.T, f *fixture) {
	v, other := f.create(t), f.create(t)
	for range 2 {
		if err := f.d.Delete(t.Context(), v); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
	_, err := f.d.Lookup(t.Context(), v)
	wantErr(t, "lookup after delete", err, dataplane.ErrNotFound)
	if all := f.list(t); len(all) != 1 || all[other.Name].Volume.Identity != other.Identity {
		t.Errorf("left are %v", all)
	}
}

// driverCancelled: a context that is over does nothing.
func driverCancelled(t *testing.T, f *fixture) {
	v, absent := f.create(t), newVolume()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, createErr := f.d.Create(ctx, absent, markOf(absent))
	_, lookupErr := f.d.Lookup(ctx, v)
	_, openErr := f.d.Open(ctx, v, dataplane.Mode{})
	_, statsErr := f.d.Stats(ctx)
	for name, err := range map[string]error{
		"create": createErr, "lookup": lookupErr, "open": openErr, "stats": statsErr,
		"list":   f.d.List(ctx, func(dataplane.Object) error { return nil }),
		"extend": f.d.Extend(ctx, v, 2*deviceSize), "delete": f.d.Delete(ctx, v),
	} {
		wantErr(t, name, err, context.Canceled)
	}
	if all := f.list(t); len(all) != 1 || all[v.Name].Volume.Size != v.Size {
		t.Errorf("after cancelled calls there are %v", all)
	}
}

func driverStats(t *testing.T, f *fixture) {
	stats, err := f.d.Stats(t.Context())
	if err != nil || stats.Total <= 0 || stats.Free < 0 || stats.Free > stats.Total {
		t.Errorf("stats %+v, %v", stats, err)
	}
}

// driverRestart: what was made and synced is found by the next driver on the same back end.
func driverRestart(t *testing.T, f *fixture) {
	if f.Reopen == nil {
		t.Skip("the harness cannot reopen a back end")
	}
	v := f.create(t)
	want := pattern(1, 1<<20)
	f.store(t, v, want)
	if err := f.d.Close(); err != nil {
		t.Fatal(err)
	}
	f.d = f.Reopen(t, f.d)
	if found, err := f.d.Lookup(t.Context(), v); err != nil || found.Identity != v.Identity {
		t.Errorf("found %+v, %v; created %+v", found, err, v)
	}
	if o := f.list(t)[v.Name]; o.Mark != markOf(v) || o.Volume.Identity != v.Identity {
		t.Errorf("listed %+v", o)
	}
	if !bytes.Equal(f.content(t, v)[:len(want)], want) {
		t.Error("the data is not there")
	}
}

func driverFeatures(t *testing.T, f *fixture) {
	before := f.d.Features()
	if f.d.Kind() == "" {
		t.Error("no kind")
	}
	v := f.create(t)
	dev := f.open(t, v, dataplane.Mode{})
	write(t, dev, 0, pattern(1, 1<<20))
	zero := false
	for _, e := range extents(t, dev, 0, deviceSize) {
		zero = zero || e.Zero
	}
	if zero != before.Holes {
		t.Errorf("extents told zeroes: %v, Features().Holes: %v", zero, before.Holes)
	}
	if f.d.Features() != before {
		t.Error("features changed")
	}
}
