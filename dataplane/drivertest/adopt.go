package drivertest

import (
	"bytes"
	"testing"

	"github.com/google/uuid"

	"github.com/cvold/cvold/dataplane"
)

// found puts an object of deviceSize without a mark into the back end, and skips for a driver that adopts none.
func (f *fixture) found(t *testing.T, name string) []byte {
	t.Helper()
	if !f.d.Features().Adopt {
		_, err := f.d.Adopt(t.Context(), newVolume(), name, dataplane.Mark{})
		wantErr(t, "adopt", err, dataplane.ErrNotSupported)
		wantErr(t, "disown", f.d.Disown(t.Context(), newVolume()), dataplane.ErrNotSupported)
		t.Skip("this driver adopts nothing")
	}
	if f.Found == nil {
		t.Skip("the harness puts nothing into the back end")
	}
	p := pattern(3, deviceSize)
	f.Found(t, f.d, name, p)
	return p
}

// manageable is what the driver says of each candidate.
func (f *fixture) manageable(t *testing.T) map[string]dataplane.Candidate {
	t.Helper()
	all := make(map[string]dataplane.Candidate)
	err := f.d.Manageable(t.Context(), func(c dataplane.Candidate) error { all[c.Name] = c; return nil })
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// driverAdopt: what was found becomes a volume with its bytes, and an object again, which may become another volume.
func driverAdopt(t *testing.T, f *fixture) {
	want := f.found(t, "found")
	if c := f.manageable(t)["found"]; c.Size != deviceSize || c.Unfit != "" || c.VolumeID != "" {
		t.Errorf("before: %+v", c)
	}
	v := newVolume()
	v.Size = 0
	v, err := f.d.Adopt(t.Context(), v, "found", markOf(v))
	if err != nil {
		t.Fatal(err)
	}
	if v.Identity == "" || v.Size != deviceSize || !bytes.Equal(f.content(t, v), want) {
		t.Errorf("adopted as %+v", v)
	}
	if o, ok := f.list(t)[v.Name]; !ok || o.Mark != markOf(v) {
		t.Errorf("listed as %+v, %v", o, ok)
	}
	if all := f.manageable(t); all[v.Name].VolumeID != v.ID || all[v.Name].Unfit == "" || len(all) != 1 {
		t.Errorf("candidates are %+v", all)
	}
	again, err := f.d.Adopt(t.Context(), v, "found", markOf(v))
	if err != nil || again.Identity != v.Identity {
		t.Errorf("adopted again as %+v, %v", again, err)
	}
	for range 2 {
		if err := f.d.Disown(t.Context(), v); err != nil {
			t.Fatal(err)
		}
	}
	if len(f.list(t)) != 0 || f.manageable(t)[v.Name].Unfit != "" {
		t.Errorf("disowned: %+v", f.manageable(t))
	}
	_, err = f.d.Open(t.Context(), v, dataplane.Mode{})
	wantErr(t, "open what is disowned", err, dataplane.ErrNotOurs)
	wantErr(t, "delete what is disowned", f.d.Delete(t.Context(), v), dataplane.ErrNotOurs)
	other := dataplane.Volume{ID: uuid.NewString(), Name: v.Name}
	if other, err = f.d.Adopt(t.Context(), other, v.Name, markOf(other)); err != nil || other.Identity == v.Identity {
		t.Errorf("adopted under its own name as %+v, %v", other, err)
	}
	wantErr(t, "disown what is another's", f.d.Disown(t.Context(), v), dataplane.ErrNotOurs)
	if !bytes.Equal(f.content(t, other), want) {
		t.Error("the bytes are lost")
	}
}

// driverAdoptRefused: an object that is another volume's, or open, a name that is taken, and nothing at all.
func driverAdoptRefused(t *testing.T, f *fixture) {
	want := f.found(t, "found")
	owned, v := f.create(t), newVolume()
	_, err := f.d.Adopt(t.Context(), v, owned.Name, markOf(v))
	wantErr(t, "adopt another volume's object", err, dataplane.ErrNotOurs)
	_, err = f.d.Adopt(t.Context(), v, "none", markOf(v))
	wantErr(t, "adopt nothing", err, dataplane.ErrNotFound)
	taken := v
	taken.Name = owned.Name
	_, err = f.d.Adopt(t.Context(), taken, "found", markOf(v))
	wantErr(t, "adopt as another volume", err, dataplane.ErrExists)
	dev := f.open(t, owned, dataplane.Mode{})
	wantErr(t, "disown an open object", f.d.Disown(t.Context(), owned), dataplane.ErrBusy)
	closeDevice(t, dev)
	if c := f.manageable(t)["found"]; c.Unfit != "" {
		t.Errorf("a refusal touched it: %+v", c)
	}
	v, err = f.d.Adopt(t.Context(), v, "found", markOf(v))
	if err != nil || !bytes.Equal(f.content(t, v), want) {
		t.Errorf("adopted in the end as %+v, %v", v, err)
	}
}
