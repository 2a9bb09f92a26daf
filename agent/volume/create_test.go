package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/faulty"
)

func TestCreate(t *testing.T) {
	r := prepareRig(t)
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	r.options.Now = func() time.Time { return now }
	r.start()
	put(r, catalog.Types, "type-1", catalog.Type{ID: "type-1", Name: "gold", ExtraSpecs: map[string]string{"volume_backend_name": "SLOW", "driver:x": "y"}})

	v, err := r.Create(t.Context(), CreateRequest{
		DisplayName: "data", Description: "of mine", ProjectID: "p", UserID: "u", Type: "gold", Size: 4096,
		Metadata: map[string]string{"k": "v"},
	})
	check(t, err)
	stored := r.get(v.ID)
	for _, v := range []catalog.Volume{v, stored} {
		if v.DisplayName != "data" || v.Description != "of mine" || v.ProjectID != "p" || v.UserID != "u" ||
			v.TypeID != "type-1" || v.Metadata["k"] != "v" || v.Specs["driver:x"] != "y" || v.Size != 4096 || !v.UseQuota {
			t.Errorf("not what was asked for: %+v", v)
		}
		if v.Host != "node@slow#slow" || v.Status != catalog.StatusAvailable || v.Name != "volume-"+v.ID ||
			v.Identity == "" || v.ProviderLocation == "" || !v.CreatedAt.Equal(now) || v.OwnerEpoch != 0 {
			t.Errorf("wrong: %+v", v)
		}
	}
	var marks []dataplane.Mark
	check(t, r.drivers[1].List(t.Context(), func(o dataplane.Object) error { marks = append(marks, o.Mark); return nil }))
	if want := (dataplane.Mark{StoreID: r.store.ID(), VolumeID: v.ID}); !slices.Equal(marks, []dataplane.Mark{want}) {
		t.Errorf("marks %+v, want %+v", marks, want)
	}
}

func TestCreateChoosesBackend(t *testing.T) {
	r := prepareRig(t)
	free := map[string]int64{"fast": 1 << 30, "slow": 2 << 30}
	i := 0
	r.wrap = func(d dataplane.Driver) dataplane.Driver {
		name := []string{"fast", "slow"}[i%2]
		i++
		return statsDriver{d, func() (dataplane.Stats, error) {
			if free[name] < 0 {
				return dataplane.Stats{}, dataplane.ErrIO
			}
			return dataplane.Stats{Total: 4 << 30, Free: free[name]}, nil
		}}
	}
	r.start()
	put(r, catalog.Types, "f", catalog.Type{ID: "f", Name: "fast type", ExtraSpecs: map[string]string{"volume_backend_name": "FAST"}})
	put(r, catalog.Types, "n", catalog.Type{ID: "n", Name: "nowhere", ExtraSpecs: map[string]string{"volume_backend_name": "GONE"}})
	tests := []struct {
		name      string
		request   CreateRequest
		fast      int64
		want      string
		wantError error
	}{
		{"most free space", CreateRequest{}, 1 << 30, "node@slow#slow", nil},
		{"most free space now", CreateRequest{}, 3 << 30, "node@fast#fast", nil},
		{"by type", CreateRequest{Type: "fast type"}, 1 << 30, "node@fast#fast", nil},
		{"by type id", CreateRequest{Type: "f"}, 1 << 30, "node@fast#fast", nil},
		{"by host", CreateRequest{Host: "node@fast#fast"}, 1 << 30, "node@fast#fast", nil},
		{"by host without pool", CreateRequest{Host: "node@fast"}, 1 << 30, "node@fast#fast", nil},
		{"by back end", CreateRequest{Host: "fast"}, 1 << 30, "node@fast#fast", nil},
		{"one does not answer", CreateRequest{}, -1, "node@slow#slow", nil},
		{"the only one does not answer", CreateRequest{Host: "fast"}, -1, "", dataplane.ErrIO},
		{"host against type", CreateRequest{Host: "slow", Type: "f"}, 1 << 30, "", ErrNoBackend},
		{"type without back end", CreateRequest{Type: "nowhere"}, 1 << 30, "", ErrNoBackend},
		{"other node", CreateRequest{Host: "other@fast"}, 1 << 30, "", ErrNoBackend},
		{"other pool", CreateRequest{Host: "node@fast#x"}, 1 << 30, "", ErrNoBackend},
		{"unknown back end", CreateRequest{Host: "x"}, 1 << 30, "", ErrNoBackend},
		{"no host", CreateRequest{Host: "@"}, 1 << 30, "", ErrInvalid},
		{"too large for all", CreateRequest{Size: 8 << 30}, 1 << 30, "", ErrNoSpace},
		{"too large for this one", CreateRequest{Host: "fast", Size: 2 << 30}, 1 << 30, "", ErrNoSpace},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			free["fast"] = test.fast
			if test.request.Size == 0 {
				test.request.Size = mib
			}
			v, err := r.Create(t.Context(), test.request)
			if !errors.Is(err, test.wantError) || v.Host != test.want {
				t.Errorf("got %q, %v; want %q, %v", v.Host, err, test.want, test.wantError)
			}
		})
	}
}

// statsDriver is a driver with a capacity of its own.
type statsDriver struct {
	dataplane.Driver
	stats func() (dataplane.Stats, error)
}

func (d statsDriver) Stats(context.Context) (dataplane.Stats, error) { return d.stats() }

func TestCreateRefuses(t *testing.T) {
	r := newRig(t)
	long := strings.Repeat("ä", 256)
	many := make(map[string]string)
	for i := range metadataMax + 1 {
		many[fmt.Sprint(i)] = ""
	}
	for name, request := range map[string]CreateRequest{
		"no size":             {},
		"negative size":       {Size: -512},
		"odd size":            {Size: 513},
		"long name":           {Size: 512, DisplayName: long},
		"long description":    {Size: 512, Description: long},
		"long project":        {Size: 512, ProjectID: long},
		"long user":           {Size: 512, UserID: long},
		"binary name":         {Size: 512, DisplayName: "a\xff"},
		"zero byte":           {Size: 512, DisplayName: "a\x00"},
		"many metadata":       {Size: 512, Metadata: many},
		"empty metadata key":  {Size: 512, Metadata: map[string]string{"": "x"}},
		"long metadata key":   {Size: 512, Metadata: map[string]string{long: "x"}},
		"long metadata value": {Size: 512, Metadata: map[string]string{"x": long}},
		"unknown type":        {Size: 512, Type: "gold"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := r.Create(t.Context(), request)
			wants(t, err, ErrInvalid)
		})
	}
	if all, err := r.List(Filter{Temporary: true}); err != nil || len(all) != 0 || len(r.objects()) != 0 {
		t.Errorf("something was made: %v, %v, %v", all, err, r.objects())
	}
	_, err := r.Create(t.Context(), CreateRequest{Size: 512, DisplayName: strings.Repeat("ä", 255)})
	check(t, err)
}

func TestCreateRefusesDeletedType(t *testing.T) {
	r := newRig(t)
	v := r.newVolume("id", r.Backends()[0], CreateRequest{}, catalog.Type{ID: "gone"})
	wants(t, r.store.Update(func(tx catalog.Tx) error { return recordNew(tx, v) }), ErrInvalid)
}

// TestCreateFails: the volume stays as error with the reason, and is deleted with whatever there is of its object.
func TestCreateFails(t *testing.T) {
	for name, hook := range map[string]faulty.Hook{
		"before": {Before: failOn("Create", dataplane.ErrNoSpace)},
		"after": {After: func(_ context.Context, c faulty.Call, err error) error {
			return errors.Join(err, failOn("Create", dataplane.ErrNoSpace)(t.Context(), c))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := prepareRig(t)
			r.wrap = func(d dataplane.Driver) dataplane.Driver { return faulty.Driver(d, hook) }
			r.start()
			v, err := r.Create(t.Context(), CreateRequest{Size: 512, DisplayName: "data"})
			wants(t, err, dataplane.ErrNoSpace)
			now := r.get(v.ID)
			if now.Status != catalog.StatusError || !strings.Contains(now.StatusReason, "volume "+v.ID+" (data)") {
				t.Errorf("status %s, %q", now.Status, now.StatusReason)
			}
			_, err = r.Open(t.Context(), v.ID, User{UserView, "v"}, dataplane.Mode{})
			wants(t, err, ErrStatus)
			if !strings.Contains(err.Error(), now.StatusReason) {
				t.Errorf("%q does not tell the reason", err)
			}
			check(t, r.Delete(t.Context(), v.ID))
			if left := r.objects(); len(left) != 0 {
				t.Errorf("left over: %v", left)
			}
			_, err = r.Get(v.ID)
			wants(t, err, ErrNotFound)
		})
	}
}

// failOn fails one method of a driver.
func failOn(name string, err error) func(context.Context, faulty.Call) error {
	return func(_ context.Context, c faulty.Call) error {
		if c.Name == name {
			return err
		}
		return nil
	}
}

// TestCreateOutlivesCaller: once recorded, a volume is made although its client went away.
func TestCreateOutlivesCaller(t *testing.T) {
	r := prepareRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	r.wrap = func(d dataplane.Driver) dataplane.Driver {
		return faulty.Driver(d, faulty.Hook{Before: func(ctx context.Context, c faulty.Call) error {
			if c.Name == "Create" {
				cancel()
			}
			return nil
		}})
	}
	r.start()
	v, err := r.Create(ctx, CreateRequest{Size: 512})
	check(t, err)
	r.status(v.ID, catalog.StatusAvailable)
	_, err = r.Create(ctx, CreateRequest{Size: 512})
	wants(t, err, context.Canceled)
}

// TestCreateStoppedIsNoVerdict: an error while the agent stops leaves the record for the next start.
func TestCreateStoppedIsNoVerdict(t *testing.T) {
	r := prepareRig(t)
	entered := make(chan struct{})
	block := true
	r.wrap = func(d dataplane.Driver) dataplane.Driver {
		return faulty.Driver(d, faulty.Hook{Before: func(ctx context.Context, c faulty.Call) error {
			if c.Name != "Create" || !block {
				return nil
			}
			close(entered)
			<-ctx.Done()
			return ctx.Err()
		}})
	}
	r.start()
	created := make(chan error)
	go func() {
		_, err := r.Create(t.Context(), CreateRequest{Size: 512})
		created <- err
	}()
	<-entered
	manager := r.Manager
	check(t, manager.Close(t.Context()))
	if err := <-created; err == nil {
		t.Error("no error")
	}
	all, err := manager.List(Filter{})
	if err != nil || len(all) != 1 || all[0].Status != catalog.StatusCreating {
		t.Fatalf("got %+v, %v", all, err)
	}
	block = false
	r.restart()
	r.status(all[0].ID, catalog.StatusAvailable)
	if !slices.Equal(r.objects(), []string{all[0].ID}) {
		t.Errorf("objects %v", r.objects())
	}
}

func TestList(t *testing.T) {
	r := newRig(t)
	a, b := r.create("a"), r.create("b")
	r.edit(b.ID, func(v *catalog.Volume) { v.ProjectID, v.UseQuota = "p", false })
	for name, test := range map[string]struct {
		filter Filter
		want   []string
	}{
		"all":       {Filter{}, []string{a.ID}},
		"temporary": {Filter{Temporary: true}, []string{a.ID, b.ID}},
		"project":   {Filter{Temporary: true, ProjectID: "p"}, []string{b.ID}},
		"name":      {Filter{Name: "a"}, []string{a.ID}},
		"host":      {Filter{Host: "node@slow#slow"}, nil},
		"status":    {Filter{Status: catalog.StatusAvailable}, []string{a.ID}},
	} {
		got, err := r.List(test.filter)
		check(t, err)
		var ids []string
		for _, v := range got {
			ids = append(ids, v.ID)
		}
		if !slices.Equal(ids, test.want) {
			t.Errorf("%s: got %v, want %v", name, ids, test.want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	r := newRig(t)
	d := r.drivers[0]
	for name, o := range map[string]Options{
		"no store":   {Node: "n"},
		"no node":    {Store: r.store, Backends: []Backend{{Name: "b", Driver: d}}},
		"no driver":  {Store: r.store, Node: "n", Backends: []Backend{{Name: "b"}}},
		"bad name":   {Store: r.store, Node: "n", Backends: []Backend{{Name: "b#", Driver: d}}},
		"twice":      {Store: r.store, Node: "n", Backends: []Backend{{Name: "b", Driver: d}, {Name: "b", Driver: d}}},
		"template":   {Store: r.store, Node: "n", NameTemplate: "volume"},
		"template 2": {Store: r.store, Node: "n", NameTemplate: "%s-%d"},
	} {
		if _, err := New(o); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	m, err := New(Options{Store: r.store, Node: "n", NameTemplate: "v_%s", Backends: []Backend{{Name: "b", Pool: "p", Driver: d}}})
	check(t, err)
	if m.ObjectName("x") != "v_x" || m.Host(m.Backends()[0]).String() != "n@b#p" {
		t.Errorf("got %s and %s", m.ObjectName("x"), m.Host(m.Backends()[0]))
	}
	for _, host := range []string{"n@b#p", "n@b", "n@b#b"} {
		if b, err := m.Backend(host); err != nil || b.Name != "b" {
			t.Errorf("%s: %v", host, err)
		}
	}
	if _, err := m.Backend("n@c"); !errors.Is(err, ErrNoBackend) || !strings.Contains(err.Error(), "n@b#p") {
		t.Errorf("got %v", err)
	}
	check(t, m.Close(t.Context()))
}
