package volume

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/faulty"
)

// foundBytes is what an object holds that a test manages.
var foundBytes = bytes.Repeat([]byte("found."), mib/6+1)[:mib]

// find puts an object of 1 MiB without a mark into the back end fast.
func (r *rig) find(name string) {
	r.t.Helper()
	check(r.t, os.WriteFile(filepath.Join(r.dir, "fast", name), foundBytes, 0o600))
}

// managed is a volume made of such an object.
func (r *rig) managed() catalog.Volume {
	r.t.Helper()
	r.find("found")
	v, err := r.Manage(r.t.Context(), ManageRequest{Host: "fast", Existing: "found", DisplayName: "db"})
	check(r.t, err)
	return v
}

func holdsFound(t *testing.T, r *rig, name string) {
	t.Helper()
	if got, err := os.ReadFile(filepath.Join(r.dir, "fast", name)); err != nil || !bytes.Equal(got, foundBytes) {
		t.Errorf("%s holds %d bytes, %v", name, len(got), err)
	}
}

// TestManage: the object's bytes and size are the volume's, through its life and after.
func TestManage(t *testing.T) {
	r := newRig(t)
	v := r.managed()
	if v.Status != catalog.StatusAvailable || v.Size != mib || v.Identity == "" || v.DisplayName != "db" || v.Existing != "" {
		t.Errorf("%+v", v)
	}
	all, err := r.Manageable(t.Context(), "fast")
	if err != nil || len(all) != 1 || all[0].VolumeID != v.ID {
		t.Errorf("%+v, %v", all, err)
	}
	a, err := r.Export(t.Context(), v.ID, false)
	check(t, err)
	if err := r.Unmanage(t.Context(), v.ID); !errors.Is(err, ErrInUse) {
		t.Errorf("unmanage in use: %v", err)
	}
	check(t, r.Unexport(t.Context(), a.ID))
	check(t, r.Unmanage(t.Context(), v.ID))
	if _, err := r.Get(v.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
	holdsFound(t, r, v.Name)
	again, err := r.Manage(t.Context(), ManageRequest{Host: "fast", Existing: v.Name})
	check(t, err)
	check(t, r.Delete(t.Context(), again.ID))
	if left := r.objects(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestManageRefused: nothing is recorded, nothing touched.
func TestManageRefused(t *testing.T) {
	r := newRig(t)
	r.find("found")
	check(t, os.WriteFile(filepath.Join(r.dir, "fast", "odd"), []byte("odd"), 0o600))
	v := r.create("v")
	typ, err := r.CreateType("slow only", "", map[string]string{"volume_backend_name": "SLOW"})
	check(t, err)
	for _, c := range []struct {
		name string
		r    ManageRequest
		want error
		says string
	}{
		{"no host", ManageRequest{Existing: "found"}, ErrInvalid, "a host"},
		{"no object", ManageRequest{Host: "fast"}, ErrInvalid, "name of an object"},
		{"no such host", ManageRequest{Host: "none", Existing: "found"}, ErrNoBackend, "none"},
		{"no such object", ManageRequest{Host: "fast", Existing: "lost"}, ErrInvalid, "there is none of that name"},
		{"odd size", ManageRequest{Host: "fast", Existing: "odd"}, ErrInvalid, "truncate"},
		{"a volume's", ManageRequest{Host: "fast", Existing: v.Name}, ErrInvalid, v.ID},
		{"type elsewhere", ManageRequest{Host: "fast", Existing: "found", Type: typ.ID}, ErrNoBackend, "SLOW"},
		{"no such type", ManageRequest{Host: "fast", Existing: "found", Type: "lead"}, ErrInvalid, "lead"},
		{"long name", ManageRequest{Host: "fast", Existing: "found", DisplayName: strings.Repeat("x", 256)}, ErrInvalid, "255"},
	} {
		_, err := r.Manage(t.Context(), c.r)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	f, err := os.Open(filepath.Join(r.dir, "fast", "found"))
	check(t, err)
	if _, err := r.Manage(t.Context(), ManageRequest{Host: "fast", Existing: "found"}); !errors.Is(err, dataplane.ErrBusy) {
		t.Errorf("open elsewhere: %v", err)
	}
	f.Close()
	if all, err := r.List(Filter{}); err != nil || len(all) != 1 {
		t.Errorf("volumes %+v, %v", all, err)
	}
	holdsFound(t, r, "found")
}

// TestManageFails: a driver that breaks in the middle leaves a volume that says so, that cannot be deleted, and that can be
// unmanaged: then the object may be managed anew.
func TestManageFails(t *testing.T) {
	r := prepareRig(t)
	broken := true
	r.wrap = func(d dataplane.Driver) dataplane.Driver {
		return faulty.Driver(d, faulty.Hook{After: func(_ context.Context, c faulty.Call, err error) error {
			if c.Name == "Adopt" && broken && err == nil {
				return dataplane.ErrIO
			}
			return err
		}})
	}
	r.start()
	r.find("found")
	_, err := r.Manage(t.Context(), ManageRequest{Host: "fast", Existing: "found"})
	if !errors.Is(err, dataplane.ErrIO) {
		t.Fatal(err)
	}
	all, err := r.List(Filter{})
	check(t, err)
	v := all[0]
	if v.Status != catalog.StatusErrorManaging || !strings.Contains(v.StatusReason, "input/output error") {
		t.Errorf("%+v", v)
	}
	if err := r.Delete(t.Context(), v.ID); !errors.Is(err, ErrStatus) {
		t.Errorf("delete: %v", err)
	}
	if _, err := r.Export(t.Context(), v.ID, false); !errors.Is(err, ErrStatus) {
		t.Errorf("export: %v", err)
	}
	broken = false
	check(t, r.Unmanage(t.Context(), v.ID))
	holdsFound(t, r, v.Name)
	_, err = r.Manage(t.Context(), ManageRequest{Host: "fast", Existing: v.Name})
	check(t, err)
}

// TestUnmanageFails: the volume stays what it was, and may be unmanaged again.
func TestUnmanageFails(t *testing.T) {
	r := prepareRig(t)
	broken := true
	r.wrap = func(d dataplane.Driver) dataplane.Driver {
		return faulty.Driver(d, faulty.Hook{Before: func(_ context.Context, c faulty.Call) error {
			if c.Name == "Disown" && broken {
				return dataplane.ErrIO
			}
			return nil
		}})
	}
	r.start()
	v := r.managed()
	if err := r.Unmanage(t.Context(), v.ID); !errors.Is(err, dataplane.ErrIO) {
		t.Error(err)
	}
	r.status(v.ID, catalog.StatusAvailable)
	broken = false
	check(t, r.Unmanage(t.Context(), v.ID))
	holdsFound(t, r, v.Name)
}
