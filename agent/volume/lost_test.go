package volume

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
)

// lose stops the rig, takes its catalog away and starts it anew.
func (r *rig) lose() {
	r.t.Helper()
	r.stop()
	check(r.t, errors.Join(os.Remove(filepath.Join(r.dir, "db")), os.Remove(filepath.Join(r.dir, "db.session"))))
	r.start()
}

// object makes an object for a volume past the manager.
func (r *rig) object(backend int, id, name string) {
	r.t.Helper()
	v := dataplane.Volume{ID: id, Name: name, Size: mib}
	_, err := r.drivers[backend].Create(r.t.Context(), v, dataplane.Mark{StoreID: "other", VolumeID: id})
	check(r.t, err)
}

// TestLost: objects that records explain are left out; of the others the manager says what it knows against them; those with
// nothing against them become volumes, all or none.
func TestLost(t *testing.T) {
	r := newRig(t)
	v := written(r)
	r.lose()
	kept, twice, known, moved, temporary := r.create("kept"), uuid.NewString(), r.create("known"), uuid.NewString(), uuid.NewString()
	r.object(0, twice, "volume-"+twice)
	r.object(1, twice, "volume-"+twice)
	r.object(1, known.ID, "volume-"+known.ID)
	r.object(0, moved, "volume-"+moved)
	renamed := uuid.NewString()
	r.object(0, renamed, "volume-"+temporary)
	check(t, r.store.Update(func(tx catalog.Tx) error {
		return catalog.Stubs.Put(tx, moved, catalog.Stub{VolumeID: moved, Node: "b", Epoch: 2})
	}))
	all, err := r.Lost(t.Context())
	check(t, err)
	says := map[string]string{v.ID: "", renamed: "", twice: "2 objects", known.ID: "another object", moved: "moved to node b"}
	var good []Lost
	for _, l := range all {
		want, ok := says[l.Object.Mark.VolumeID]
		if !ok || (l.Refused == "") != (want == "") || !strings.Contains(l.Refused, want) {
			t.Errorf("%+v, want %q", l, want)
		}
		if l.Refused == "" {
			good = append(good, l)
		}
	}
	if len(all) != 6 || len(good) != 2 {
		t.Fatalf("%d objects, %d good", len(all), len(good))
	}
	check(t, r.Rebuild(good, map[string]uint64{v.ID: 5}))
	if got := r.get(v.ID); got.OwnerEpoch != 5 || got.Status != catalog.StatusAvailable || got.Size != mib || got.NameID != "" || !got.UseQuota {
		t.Errorf("%+v", got)
	}
	if got := r.get(renamed); got.NameID != temporary || got.Name != "volume-"+temporary {
		t.Errorf("%+v", got)
	}
	holdsWritten(t, r, v.ID)
	if err := r.Rebuild(good, nil); !errors.Is(err, ErrExists) {
		t.Errorf("a second time: %v", err)
	}
	check(t, r.Delete(t.Context(), v.ID))
	r.status(kept.ID, catalog.StatusAvailable)
}

// TestRebuildIsWhole: one object that may not be rebuilt any more, and none is.
func TestRebuildIsWhole(t *testing.T) {
	r := newRig(t)
	one, two := uuid.NewString(), uuid.NewString()
	r.object(0, one, "volume-"+one)
	r.object(0, two, "volume-"+two)
	lost, err := r.Lost(t.Context())
	check(t, err)
	check(t, r.store.Update(func(tx catalog.Tx) error {
		return catalog.Stubs.Put(tx, two, catalog.Stub{VolumeID: two, Node: "b", Epoch: 2})
	}))
	if err := r.Rebuild(lost, nil); !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), "moved to node b") {
		t.Error(err)
	}
	if all, err := r.List(Filter{}); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
}
