package volume

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
)

// walkMax is more touches than any call has; a walk that does not end is a bug.
const walkMax = 100

// scenario is a call that is killed at each of its touches. before makes the world it acts on, after looks at the world
// in which the next process has started; done says whether the call was answered with success.
type scenario struct {
	// quiet: the call does not tell what went wrong with a single volume.
	quiet  bool
	before func(r *rig) string // an id
	call   func(r *rig, id string) error
	after  func(t *testing.T, r *rig, id string, done bool)
}

var scenarios = map[string]scenario{
	"create": {
		before: func(*rig) string { return "" },
		call: func(r *rig, _ string) error {
			_, err := r.Create(r.t.Context(), CreateRequest{DisplayName: "new", Host: "fast", Size: mib})
			return err
		},
		after: func(t *testing.T, r *rig, _ string, done bool) {
			if all, err := r.List(Filter{}); err != nil || done && len(all) != 1 {
				t.Errorf("volumes %v, %v", all, err)
			}
		},
	},
	"extend": {
		before: func(r *rig) string { return written(r).ID },
		call: func(r *rig, id string) error {
			_, err := r.Extend(r.t.Context(), id, 2*mib)
			return err
		},
		after: func(t *testing.T, r *rig, id string, done bool) {
			if size := r.get(id).Size; size != 2*mib && (done || size != mib) {
				t.Errorf("size %d", size)
			}
			r.status(id, catalog.StatusAvailable)
			holdsWritten(t, r, id)
		},
	},
	"manage": {
		before: func(r *rig) string { r.find("found"); return "" },
		call: func(r *rig, _ string) error {
			_, err := r.Manage(r.t.Context(), ManageRequest{Host: "fast", Existing: "found"})
			return err
		},
		after: func(t *testing.T, r *rig, _ string, done bool) {
			all, err := r.List(Filter{})
			check(t, err)
			if len(all) == 0 && !done {
				v, err := r.Manage(t.Context(), ManageRequest{Host: "fast", Existing: "found"})
				check(t, err)
				all = append(all, v)
			}
			if len(all) != 1 || all[0].Status != catalog.StatusAvailable || all[0].Existing != "" {
				t.Fatalf("volumes %+v", all)
			}
			holdsFound(t, r, all[0].Name)
		},
	},
	"unmanage": {
		before: func(r *rig) string { return r.managed().ID },
		call:   func(r *rig, id string) error { return r.Unmanage(r.t.Context(), id) },
		after: func(t *testing.T, r *rig, id string, done bool) {
			_, err := r.Get(id)
			if gone := errors.Is(err, ErrNotFound); done && !gone {
				t.Errorf("still there: %v", err)
			} else if !gone {
				r.status(id, catalog.StatusAvailable)
			}
			holdsFound(t, r, "volume-"+id)
		},
	},
	"delete": {
		before: func(r *rig) string { return written(r).ID },
		call:   func(r *rig, id string) error { return r.Delete(r.t.Context(), id) },
		after: func(t *testing.T, r *rig, id string, done bool) {
			_, err := r.Get(id)
			if gone := errors.Is(err, ErrNotFound); done && !gone {
				t.Errorf("still there: %v", err)
			} else if !gone {
				r.status(id, catalog.StatusAvailable)
				holdsWritten(t, r, id)
			}
		},
	},
	"delete of an error": {
		before: func(r *rig) string {
			id := r.create("failed").ID
			r.edit(id, func(v *catalog.Volume) { v.Status, v.Identity = catalog.StatusError, "" })
			return id
		},
		call: func(r *rig, id string) error { return r.Delete(r.t.Context(), id) },
		after: func(t *testing.T, r *rig, id string, done bool) {
			if _, err := r.Get(id); err == nil {
				check(t, r.Delete(t.Context(), id))
			}
			if left := r.objects(); len(left) != 0 {
				t.Errorf("left over: %v", left)
			}
		},
	},
	"export": {
		before: func(r *rig) string { return written(r).ID },
		call: func(r *rig, id string) error {
			_, err := r.Export(r.t.Context(), id, false)
			return err
		},
		after: func(t *testing.T, r *rig, id string, done bool) {
			if n := len(r.Attachments(id)); done && n != 1 {
				t.Errorf("%d attachments", n)
			}
			holdsWritten(t, r, id)
		},
	},
	"unexport": {
		before: func(r *rig) string {
			id := written(r).ID
			_, err := r.Export(r.t.Context(), id, false)
			check(r.t, err)
			return id
		},
		call: func(r *rig, id string) error {
			for _, a := range r.Attachments(id) {
				return r.Unexport(r.t.Context(), a.ID)
			}
			return nil
		},
		after: func(t *testing.T, r *rig, id string, done bool) {
			if n := len(r.Attachments(id)); done && n != 0 {
				t.Errorf("%d attachments", n)
			}
			holdsWritten(t, r, id)
		},
	},
	"start": {
		quiet: true,
		before: func(r *rig) string {
			id := written(r).ID
			_, err := r.Export(r.t.Context(), id, false)
			check(r.t, err)
			created, deleted := r.create("half created").ID, r.create("half deleted").ID
			r.edit(created, func(v *catalog.Volume) { v.Status, v.Identity = catalog.StatusCreating, "" })
			r.edit(deleted, func(v *catalog.Volume) { v.Status = catalog.StatusDeleting })
			check(r.t, r.Manager.Close(r.t.Context()))
			r.Manager, err = New(r.Manager.o)
			check(r.t, err)
			return id
		},
		call: func(r *rig, _ string) error { return r.Start(r.t.Context()) },
		after: func(t *testing.T, r *rig, id string, _ bool) {
			if all, err := r.List(Filter{}); err != nil || len(all) != 2 || len(r.Attachments(id)) != 1 {
				t.Errorf("volumes %v, %v, %d attachments", all, err, len(r.Attachments(id)))
			}
			holdsWritten(t, r, id)
		},
	},
}

// TestCrashWalk kills the process before and after each call of a driver and each update of the store, starts the next
// one, and looks: nothing is left over, nothing is lost, nothing is half-way.
func TestCrashWalk(t *testing.T) {
	for name, s := range scenarios {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			deaths := 0
			for n := 1; n < walkMax; n++ {
				if !crashAt(t, s, n) {
					break
				}
				deaths++
			}
			if deaths < 2 || deaths == walkMax-1 {
				t.Errorf("%d deaths", deaths)
			}
		})
	}
}

// crashAt runs one scenario with a death at the nth touch of its call; false if the call has fewer.
func crashAt(t *testing.T, s scenario, n int) bool {
	m := &mortal{t: t}
	r := prepareRig(t)
	r.wrap, r.wrapDB = m.driver, m.store
	r.start()
	id := s.before(r)
	m.arm(n)
	err := s.call(r, id)
	dead := m.dead
	if dead && err == nil && !s.quiet {
		t.Errorf("death %s was answered with success", m.where)
	}
	r.die(m)
	r.start()
	t.Logf("touch %d: %s", n, m.where)
	whole(t, r)
	s.after(t, r, id, err == nil)
	r.stop()
	return dead
}

// die ends the process: its files and sockets are closed, and its manager has no say any more.
func (r *rig) die(m *mortal) {
	m.mu.Lock()
	m.dead = true
	m.mu.Unlock()
	old := r.Manager
	r.closeRest(r.t.Context())
	m.bury()
	_ = old.Close(r.t.Context())
	r.wrap, r.wrapDB = nil, nil
}

// whole checks what holds in every world: each record has its object and each object its record, no record is half-way,
// and what has attachments is served and in use.
func whole(t *testing.T, r *rig) {
	t.Helper()
	all, err := r.List(Filter{Temporary: true})
	check(t, err)
	recorded := []string{}
	for _, v := range all {
		if strings.HasSuffix(string(v.Status), "ing") {
			t.Errorf("volume %s is %s", v.ID, v.Status)
		}
		if (v.Status == catalog.StatusInUse) != (len(r.Attachments(v.ID)) > 0) {
			t.Errorf("volume %s is %s with %d attachments", v.ID, v.Status, len(r.Attachments(v.ID)))
		}
		recorded = append(recorded, v.ID)
	}
	slices.Sort(recorded)
	if objects := r.objects(); !slices.Equal(objects, recorded) {
		t.Errorf("objects %v, records %v", objects, recorded)
	}
	for _, a := range r.Attachments("") {
		d := r.dial(a.Export)
		if size, err := d.Size(); err != nil || size != mib {
			t.Errorf("export %s has %d bytes, %v", a.Export, size, err)
		}
		check(t, d.Close())
	}
	if s := r.Stats(); s.Served != s.Attachments || s.Devices != s.Served || s.Abandoned != 0 {
		t.Errorf("stats %+v", s)
	}
}

var writing = bytes.Repeat([]byte("the only copy"), 100)[:1024]

// written is a volume that holds writing.
func written(r *rig) catalog.Volume {
	r.t.Helper()
	v := r.create("data")
	h := r.view(v.ID, "writer", false)
	_, err := h.WriteAt(writing, 0)
	check(r.t, err)
	check(r.t, h.Sync())
	check(r.t, h.Close())
	return v
}

func holdsWritten(t *testing.T, r *rig, id string) {
	t.Helper()
	h, err := r.Open(t.Context(), id, someView, dataplane.Mode{ReadOnly: true})
	check(t, err)
	got := make([]byte, len(writing))
	if _, err := h.ReadAt(got, 0); err != nil || !bytes.Equal(got, writing) {
		t.Errorf("lost: %q, %v", got[:13], err)
	}
	check(t, h.Close())
}

// TestStoreFailsAnywhere: an update that fails while the process lives on leaves nothing that the next start does not
// put right.
func TestStoreFailsAnywhere(t *testing.T) {
	for name, s := range scenarios {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := 1; n < walkMax; n++ {
				f := &failing{at: n}
				r := prepareRig(t)
				r.wrapDB = f.store
				r.start()
				id := s.before(r)
				f.arm()
				err := s.call(r, id)
				struck := f.disarm()
				if struck && err == nil {
					t.Errorf("update %d failed and was answered with success", n)
				}
				r.restart()
				whole(t, r)
				s.after(t, r, id, err == nil)
				r.stop()
				if !struck {
					return
				}
			}
		})
	}
}
