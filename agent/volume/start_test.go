package volume

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/faulty"
)

// TestStartTakesUp: each record as a crash may leave it, and what Start makes of it.
func TestStartTakesUp(t *testing.T) {
	r := newRig(t)
	tests := []struct {
		name string
		edit func(v *catalog.Volume)
		want catalog.Status // empty: gone
	}{
		{"creating, object made", func(v *catalog.Volume) { v.Status, v.Identity, v.ProviderLocation = catalog.StatusCreating, "", "" }, catalog.StatusAvailable},
		{"creating, no object", func(v *catalog.Volume) {
			check(t, r.drivers[0].Delete(t.Context(), v.Volume))
			v.Status, v.Identity, v.ProviderLocation = catalog.StatusCreating, "", ""
		}, catalog.StatusAvailable},
		{"deleting, object there", func(v *catalog.Volume) { v.Status = catalog.StatusDeleting }, ""},
		{"deleting, object gone", func(v *catalog.Volume) {
			check(t, r.drivers[0].Delete(t.Context(), v.Volume))
			v.Status = catalog.StatusDeleting
		}, ""},
		{"in-use by nobody", func(v *catalog.Volume) { v.Status = catalog.StatusInUse }, catalog.StatusAvailable},
		{"available", func(*catalog.Volume) {}, catalog.StatusAvailable},
		{"error", func(v *catalog.Volume) { v.Status, v.StatusReason = catalog.StatusError, "x" }, catalog.StatusError},
		{"creating for a migration", func(v *catalog.Volume) { v.Status, v.MigrationID = catalog.StatusCreating, "m" }, catalog.StatusCreating},
		{"deleting for a migration", func(v *catalog.Volume) { v.Status, v.MigrationID = catalog.StatusDeleting, "m" }, catalog.StatusDeleting},
		{"in-use for a migration", func(v *catalog.Volume) { v.Status, v.MigrationID = catalog.StatusInUse, "m" }, catalog.StatusInUse},
		{"creating without back end", func(v *catalog.Volume) { v.Status, v.Host = catalog.StatusCreating, "node@gone" }, catalog.StatusCreating},
		{"deleting without back end", func(v *catalog.Volume) { v.Status, v.Host = catalog.StatusDeleting, "node@gone" }, catalog.StatusDeleting},
		{"creating over a foreign object", func(v *catalog.Volume) {
			v.Status, v.Size = catalog.StatusCreating, 2*mib
		}, catalog.StatusError},
	}
	ids := make([]string, len(tests))
	for i, test := range tests {
		ids[i] = r.create(test.name).ID
		r.edit(ids[i], test.edit)
	}
	for range 2 {
		r.restart()
		for i, test := range tests {
			v, err := r.Get(ids[i])
			switch {
			case test.want == "":
				wants(t, err, ErrNotFound)
			case err != nil || v.Status != test.want:
				t.Errorf("%s: %s, %v; want %s", test.name, v.Status, err, test.want)
			case v.Status == catalog.StatusAvailable && v.Identity == "":
				t.Errorf("%s: no identity", test.name)
			}
		}
	}
}

// TestStartWithoutStatus: an attachment whose volume does not say in-use, and one whose volume is gone.
func TestStartMendsAttachments(t *testing.T) {
	r := newRig(t)
	v := r.create("data")
	put(r, catalog.Attachments, "a", catalog.Attachment{ID: "a", VolumeID: v.ID, Export: "volume-" + v.ID})
	put(r, catalog.Attachments, "b", catalog.Attachment{ID: "b", VolumeID: "gone", Export: "volume-gone"})
	check(t, r.Start(t.Context()))
	r.status(v.ID, catalog.StatusInUse)
	check(t, r.dial("volume-"+v.ID).Close())
	if all := r.Attachments(""); len(all) != 1 {
		t.Errorf("attachments %v", all)
	}
}

// TestStartAgainServes: what could not be served at the first start says why, and is served by a later one.
func TestStartAgainServes(t *testing.T) {
	r := prepareRig(t)
	var broken atomic.Bool
	r.wrap = func(d dataplane.Driver) dataplane.Driver {
		return faulty.Driver(d, faulty.Hook{Before: func(ctx context.Context, c faulty.Call) error {
			if broken.Load() {
				return failOn("Open", dataplane.ErrIO)(ctx, c)
			}
			return nil
		}})
	}
	r.start()
	v := r.create("data")
	a, err := r.Export(t.Context(), v.ID, false)
	check(t, err)
	broken.Store(true)
	r.restart()
	now := r.get(v.ID)
	if now.Status != catalog.StatusInUse || !strings.Contains(now.StatusReason, "input/output error") {
		t.Errorf("status %s, %q", now.Status, now.StatusReason)
	}
	if !r.refuses(a.Export) || r.Stats().Served != 0 || r.Stats().Attachments != 1 {
		t.Errorf("served: %+v", r.Stats())
	}
	broken.Store(false)
	check(t, r.Start(t.Context()))
	check(t, r.dial(a.Export).Close())
	if now := r.get(v.ID); now.Status != catalog.StatusInUse || now.StatusReason != "" {
		t.Errorf("status %s, %q", now.Status, now.StatusReason)
	}
}

// TestStartLeavesMigrating: a volume that a migration holds is not served.
func TestStartLeavesMigrating(t *testing.T) {
	r := newRig(t)
	v := r.create("data")
	a, err := r.Export(t.Context(), v.ID, false)
	check(t, err)
	r.edit(v.ID, func(v *catalog.Volume) { v.MigrationID = "m" })
	before := r.get(v.ID)
	r.restart()
	if !r.refuses(a.Export) || len(r.Attachments(v.ID)) != 1 {
		t.Error("served, or forgotten")
	}
	if now := r.get(v.ID); now.Status != before.Status || now.WriteGeneration != before.WriteGeneration {
		t.Errorf("the record changed: %+v", now)
	}
}

func TestStartEnds(t *testing.T) {
	r := newRig(t)
	r.create("data")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wants(t, r.Start(ctx), context.Canceled)
	check(t, r.Manager.Close(t.Context()))
	wants(t, r.Start(t.Context()), ErrClosed)
	wants(t, r.Manager.Close(t.Context()), ErrClosed)
	_, err := r.Create(t.Context(), CreateRequest{Size: 512})
	wants(t, err, ErrClosed)
}

func TestStartStoreFails(t *testing.T) {
	r := prepareRig(t)
	mortal := &mortal{t: t}
	r.wrapDB = mortal.store
	r.start()
	v := r.create("data")
	r.edit(v.ID, func(v *catalog.Volume) { v.Status = catalog.StatusInUse })
	mortal.fail = catalog.ErrFailed
	wants(t, r.Start(t.Context()), catalog.ErrFailed)
	mortal.fail = nil
	check(t, r.Start(t.Context()))
	r.status(v.ID, catalog.StatusAvailable)
}

func TestStats(t *testing.T) {
	r := newRig(t)
	v, w := r.create("data"), r.create("more")
	h := r.view(v.ID, "v", true)
	a, err := r.Export(t.Context(), v.ID, true)
	check(t, err)
	s := r.Stats()
	if s.Volumes[catalog.StatusInUse] != 1 || s.Volumes[catalog.StatusAvailable] != 1 || s.Attachments != 1 || s.Served != 1 ||
		s.Users[UserView] != 1 || s.Users[UserExport] != 1 || s.Devices != 2 || s.Abandoned != 0 {
		t.Errorf("stats %+v", s)
	}
	check(t, h.Close())
	check(t, r.Unexport(t.Context(), a.ID))
	check(t, r.Delete(t.Context(), w.ID))
	if s := r.Stats(); s.Volumes[catalog.StatusAvailable] != 1 || len(s.Volumes) != 1 || len(s.Users) != 0 || s.Devices != 0 || s.Served != 0 {
		t.Errorf("stats %+v", s)
	}
}
