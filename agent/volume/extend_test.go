package volume

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
)

func TestExtend(t *testing.T) {
	r := newRig(t)
	v := written(r)
	before := r.get(v.ID)
	for size, want := range map[int64]error{0: ErrInvalid, v.Size: ErrInvalid, v.Size - 512: ErrInvalid, v.Size + 1: ErrInvalid, 1 << 60: ErrNoSpace} {
		_, err := r.Extend(t.Context(), v.ID, size)
		wants(t, err, want)
	}
	_, err := r.Extend(t.Context(), "none", 2*mib)
	wants(t, err, ErrNotFound)
	if now := r.get(v.ID); !now.UpdatedAt.Equal(before.UpdatedAt) {
		t.Errorf("a refusal changed the record: %+v", now)
	}
	now, err := r.Extend(t.Context(), v.ID, 2*mib)
	check(t, err)
	if now.Size != 2*mib || now.Status != catalog.StatusAvailable || now.NewSize != 0 || now.PreviousStatus != "" {
		t.Errorf("%+v", now)
	}
	holdsWritten(t, r, v.ID)
	r.restart()
	if now := r.get(v.ID); now.Size != 2*mib {
		t.Errorf("%+v", now)
	}
}

// TestExtendInUse: who connects from then on sees the new size, and the bytes that are new.
func TestExtendInUse(t *testing.T) {
	r := newRig(t)
	v := r.create("v")
	a, err := r.Export(t.Context(), v.ID, false)
	check(t, err)
	old := r.dial(a.Export)
	now, err := r.Extend(t.Context(), v.ID, 2*mib)
	check(t, err)
	if now.Status != catalog.StatusInUse || now.Size != 2*mib {
		t.Errorf("%+v", now)
	}
	_, err = old.WriteAt(bytes.Repeat([]byte("o"), 512), 0)
	check(t, err)
	d := r.dial(a.Export)
	if size, err := d.Size(); err != nil || size != 2*mib {
		t.Errorf("size %d, %v", size, err)
	}
	_, err = d.WriteAt(bytes.Repeat([]byte("n"), 512), 2*mib-512)
	check(t, err)
}

func TestExtendGuards(t *testing.T) {
	r := newRig(t)
	v := r.create("v")
	for name, c := range map[string]struct {
		edit func(*catalog.Volume)
		want error
	}{
		"migrating": {func(v *catalog.Volume) { v.MigrationID = "m" }, ErrMigrating},
		"locked":    {func(v *catalog.Volume) { v.Status = catalog.StatusMaintenance }, ErrMaintenance},
		"error":     {func(v *catalog.Volume) { v.Status = catalog.StatusError }, ErrStatus},
	} {
		was := r.get(v.ID)
		r.edit(v.ID, c.edit)
		if _, err := r.Extend(t.Context(), v.ID, 2*mib); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		r.edit(v.ID, func(v *catalog.Volume) { *v = was })
	}
}

// brokenExtend fails to extend, after it has extended if late is set, and has no OnlineExtend.
type brokenExtend struct {
	dataplane.Driver
	late *bool
}

func (d brokenExtend) Extend(ctx context.Context, v dataplane.Volume, size int64) error {
	if *d.late {
		if err := d.Driver.Extend(ctx, v, size); err != nil {
			return err
		}
	}
	return dataplane.ErrIO
}

func (d brokenExtend) Features() dataplane.Features { return dataplane.Features{} }

// TestExtendFails: a volume that has not grown is what it was; one that may have is in error, and can be extended again.
func TestExtendFails(t *testing.T) {
	r := prepareRig(t)
	late, whole := false, false
	r.wrap = func(d dataplane.Driver) dataplane.Driver {
		if whole {
			return d
		}
		return brokenExtend{d, &late}
	}
	r.start()
	v := written(r)
	_, err := r.Extend(t.Context(), v.ID, 2*mib)
	wants(t, err, dataplane.ErrIO)
	if now := r.get(v.ID); now.Status != catalog.StatusAvailable || now.Size != mib || now.NewSize != 0 {
		t.Errorf("%+v", now)
	}
	h := r.view(v.ID, "view", true)
	_, err = r.Extend(t.Context(), v.ID, 2*mib)
	wants(t, err, ErrInUse)
	check(t, h.Close())

	late = true
	_, err = r.Extend(t.Context(), v.ID, 2*mib)
	wants(t, err, dataplane.ErrIO)
	now := r.get(v.ID)
	if now.Status != catalog.StatusErrorExtending || now.Size != mib || !strings.Contains(now.StatusReason, "input/output error") {
		t.Errorf("%+v", now)
	}
	whole = true
	r.restart()
	r.status(v.ID, catalog.StatusErrorExtending)
	_, err = r.Extend(t.Context(), v.ID, 2*mib)
	check(t, err)
	r.status(v.ID, catalog.StatusAvailable)
	holdsWritten(t, r, v.ID)
}

func TestEdit(t *testing.T) {
	r := newRig(t)
	v := r.create("v")
	name, text, none := "w", "of mine", ""
	now, err := r.Edit(t.Context(), v.ID, Edit{DisplayName: &name, Description: &text, Set: map[string]string{"a": "1", "b": "2"}})
	check(t, err)
	if now.DisplayName != "w" || now.Description != text || len(now.Metadata) != 2 {
		t.Errorf("%+v", now)
	}
	now, err = r.Edit(t.Context(), v.ID, Edit{Description: &none, Unset: []string{"a"}, Set: map[string]string{"b": "3"}})
	check(t, err)
	if now.DisplayName != "w" || now.Description != "" || len(now.Metadata) != 1 || now.Metadata["b"] != "3" {
		t.Errorf("%+v", now)
	}
	now, err = r.Edit(t.Context(), v.ID, Edit{Replace: true, Set: map[string]string{"c": "4"}})
	check(t, err)
	if len(now.Metadata) != 1 || now.Metadata["c"] != "4" {
		t.Errorf("%+v", now)
	}
	long := strings.Repeat("x", 256)
	many := map[string]string{}
	for i := range metadataMax + 1 {
		many[strings.Repeat("k", i+1)] = ""
	}
	for what, c := range map[string]struct {
		edit Edit
		want error
	}{
		"a long name":  {Edit{DisplayName: &long}, ErrInvalid},
		"a long text":  {Edit{Description: &long}, ErrInvalid},
		"a long value": {Edit{Set: map[string]string{"a": long}}, ErrInvalid},
		"no key":       {Edit{Set: map[string]string{"": "a"}}, ErrInvalid},
		"too many":     {Edit{Set: many}, ErrInvalid},
		"none there":   {Edit{Unset: []string{"x"}}, ErrNotFound},
	} {
		if _, err := r.Edit(t.Context(), v.ID, c.edit); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	r.edit(v.ID, func(v *catalog.Volume) { v.MigrationID, v.MigrationStatus = "m", catalog.MigrationMigrating })
	_, err = r.Edit(t.Context(), v.ID, Edit{DisplayName: &name})
	check(t, err)
	r.edit(v.ID, func(v *catalog.Volume) { v.MigrationStatus = catalog.MigrationCompleting })
	_, err = r.Edit(t.Context(), v.ID, Edit{DisplayName: &name})
	wants(t, err, ErrMigrating)
	r.edit(v.ID, func(v *catalog.Volume) {
		v.MigrationStatus, v.Status = catalog.MigrationMigrating, catalog.StatusMaintenance
	})
	_, err = r.Edit(t.Context(), v.ID, Edit{DisplayName: &name})
	wants(t, err, ErrMaintenance)
}

func TestSetService(t *testing.T) {
	r := newRig(t)
	_, err := r.SetService("node@fast", true, "")
	wants(t, err, ErrNotFound)
	_, err = r.SetService("", true, "")
	wants(t, err, ErrNotFound)
	put(r, catalog.Services, "node@fast", catalog.Service{Host: "node@fast", UUID: "u"})
	_, err = r.SetService("node@fast", true, strings.Repeat("x", 256))
	wants(t, err, ErrInvalid)
	s, err := r.SetService("node@fast", true, "disks are changed")
	check(t, err)
	if !s.Disabled || s.DisabledReason != "disks are changed" || s.UUID != "u" {
		t.Errorf("%+v", s)
	}
	s, err = r.SetService("node@fast", false, "x")
	check(t, err)
	if s.Disabled || s.DisabledReason != "" {
		t.Errorf("%+v", s)
	}
}
