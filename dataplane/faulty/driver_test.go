package faulty_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/drivertest"
	"github.com/cvold/cvold/dataplane/faulty"
	"github.com/cvold/cvold/dataplane/file"
)

func files(t *testing.T) *file.Driver {
	t.Helper()
	d, err := file.New(file.Config{Name: "test", Directory: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDriverWithoutFaultsKeepsTheContract(t *testing.T) {
	drivertest.Run(t, drivertest.Harness{New: func(t *testing.T) dataplane.Driver {
		return faulty.Driver(files(t), faulty.Hook{Device: func(_ faulty.Call, dev dataplane.Device) dataplane.Device {
			return faulty.Wrap(dev, nil)
		}})
	}})
}

// everyCall makes each call of a driver and returns the errors by name.
func everyCall(d dataplane.Driver, v dataplane.Volume) map[string]error {
	ctx := context.Background()
	_, createErr := d.Create(ctx, v, dataplane.Mark{VolumeID: v.ID})
	_, lookupErr := d.Lookup(ctx, v)
	_, openErr := d.Open(ctx, v, dataplane.Mode{})
	_, statsErr := d.Stats(ctx)
	errs := map[string]error{
		"Create": createErr, "Lookup": lookupErr, "Open": openErr, "Stats": statsErr,
		"List":   d.List(ctx, func(dataplane.Object) error { return nil }),
		"Extend": d.Extend(ctx, v, 8192), "Delete": d.Delete(ctx, v),
	}
	if u, ok := d.(dataplane.MigrationUpdater); ok {
		_, errs["UpdateMigratedVolume"] = u.UpdateMigratedVolume(ctx, v, v, "available")
	}
	if m, ok := d.(dataplane.Migrator); ok {
		_, _, errs["MigrateVolume"] = m.MigrateVolume(ctx, v, dataplane.HostCapabilities{Host: "h"})
	}
	errs["Close"] = d.Close()
	return errs
}

func TestHookFailsEachCall(t *testing.T) {
	stop := errors.New("stop")
	v := dataplane.Volume{ID: "1", Name: "volume-1", Size: 4096}
	for name, hook := range map[string]faulty.Hook{
		"before": {Before: func(context.Context, faulty.Call) error { return stop }},
		"after":  {After: func(context.Context, faulty.Call, error) error { return stop }},
	} {
		var seen []string
		before := hook.Before
		hook.Before = func(ctx context.Context, c faulty.Call) error {
			seen = append(seen, c.Name)
			if before != nil {
				return before(ctx, c)
			}
			return nil
		}
		errs := everyCall(faulty.Driver(migrating{files(t)}, hook), v)
		if len(errs) != 10 || len(seen) != 10 {
			t.Errorf("%s: %d calls, seen %v", name, len(errs), seen)
		}
		for call, err := range errs {
			if err != stop || !slices.Contains(seen, call) {
				t.Errorf("%s: %s: %v", name, call, err)
			}
		}
	}
}

// migrating is a driver that is a Migrator too.
type migrating struct{ *file.Driver }

func (migrating) MigrateVolume(context.Context, dataplane.Volume, dataplane.HostCapabilities,
) (bool, *dataplane.VolumeUpdate, error) {
	return true, nil, nil
}

// TestHookFailsWhatWasDone: After fails the call, and the work is done all the same.
func TestHookFailsWhatWasDone(t *testing.T) {
	stop, fail := errors.New("stop"), true
	d := faulty.Driver(files(t), faulty.Hook{After: func(_ context.Context, c faulty.Call, err error) error {
		if c.Name == "Create" && fail {
			return stop
		}
		return err
	}})
	defer func() { _ = d.Close() }()
	v := dataplane.Volume{ID: "1", Name: "volume-1", Size: 4096}
	if _, err := d.Create(t.Context(), v, dataplane.Mark{}); err != stop {
		t.Errorf("create: %v", err)
	}
	if _, err := d.Lookup(t.Context(), v); err != nil {
		t.Errorf("lookup: %v", err)
	}
}

// TestDriverIsWhatItWraps: the optional interfaces are there if, and only if, the driver behind has them.
func TestDriverIsWhatItWraps(t *testing.T) {
	type plain struct{ dataplane.Driver }
	type mover struct {
		dataplane.Driver
		dataplane.Migrator
	}
	d := files(t)
	defer func() { _ = d.Close() }()
	for name, tt := range map[string]struct {
		d                 dataplane.Driver
		updates, migrates bool
	}{
		"neither": {plain{d}, false, false}, "updater": {d, true, false},
		"migrator": {mover{d, migrating{d}}, false, true}, "both": {migrating{d}, true, true},
	} {
		w := faulty.Driver(tt.d, faulty.Hook{})
		_, updates := w.(dataplane.MigrationUpdater)
		m, migrates := w.(dataplane.Migrator)
		if updates != tt.updates || migrates != tt.migrates || w.Kind() != "file" || w.Features() != d.Features() {
			t.Errorf("%s: updates %v, migrates %v, %s", name, updates, migrates, w.Kind())
		}
		if migrates {
			if moved, _, err := m.MigrateVolume(t.Context(), dataplane.Volume{}, dataplane.HostCapabilities{}); !moved || err != nil {
				t.Errorf("%s: %v, %v", name, moved, err)
			}
		}
	}
}
