package faulty

import (
	"context"

	"github.com/cvold/cvold/dataplane"
)

// Call is one call of a driver, with the arguments it has.
type Call struct {
	// Name is the method: "Create", "Lookup", "List", "Open", "Extend", "Delete", "Manageable", "Adopt", "Disown", "Stats", "UpdateMigratedVolume",
	// "MigrateVolume", "Close".
	Name string
	// Volume is what the driver was told; for UpdateMigratedVolume the volume, with NewVolume beside it.
	Volume, NewVolume dataplane.Volume
	Mark              dataplane.Mark
	Mode              dataplane.Mode
	Size              int64
	Host              dataplane.HostCapabilities
	// Existing is the name that Adopt is asked for.
	Existing string
}

// Hook is what a test does around the calls of a driver. Nil functions do nothing. They run in the caller's goroutine.
type Hook struct {
	// Before runs before each call. An error is answered instead of the call.
	Before func(ctx context.Context, c Call) error
	// After runs after each call that was made, with its error, and answers the error that the caller gets: the place to
	// let a call do its work and fail all the same.
	After func(ctx context.Context, c Call, err error) error
	// Device wraps each device that Open opened.
	Device func(c Call, dev dataplane.Device) dataplane.Device
}

// Driver puts hook in front of d. The result implements MigrationUpdater and Migrator if, and only if, d does.
func Driver(d dataplane.Driver, hook Hook) dataplane.Driver {
	w := &driver{d, hook}
	u, updates := d.(dataplane.MigrationUpdater)
	m, migrates := d.(dataplane.Migrator)
	switch {
	case updates && migrates:
		return struct {
			*driver
			updater
			migrator
		}{w, updater{w, u}, migrator{w, m}}
	case updates:
		return struct {
			*driver
			updater
		}{w, updater{w, u}}
	case migrates:
		return struct {
			*driver
			migrator
		}{w, migrator{w, m}}
	}
	return w
}

type driver struct {
	inner dataplane.Driver
	hook  Hook
}

type updater struct {
	w     *driver
	inner dataplane.MigrationUpdater
}

type migrator struct {
	w     *driver
	inner dataplane.Migrator
}

// around makes one call between the hooks.
func (d *driver) around(ctx context.Context, c Call, do func() error) error {
	if d.hook.Before != nil {
		if err := d.hook.Before(ctx, c); err != nil {
			return err
		}
	}
	err := do()
	if d.hook.After != nil {
		return d.hook.After(ctx, c, err)
	}
	return err
}

func (d *driver) Kind() string                 { return d.inner.Kind() }
func (d *driver) Features() dataplane.Features { return d.inner.Features() }

func (d *driver) Create(ctx context.Context, v dataplane.Volume, mark dataplane.Mark) (made dataplane.Volume, err error) {
	err = d.around(ctx, Call{Name: "Create", Volume: v, Mark: mark}, func() (err error) {
		made, err = d.inner.Create(ctx, v, mark)
		return err
	})
	return made, err
}

func (d *driver) Lookup(ctx context.Context, v dataplane.Volume) (found dataplane.Volume, err error) {
	err = d.around(ctx, Call{Name: "Lookup", Volume: v}, func() (err error) {
		found, err = d.inner.Lookup(ctx, v)
		return err
	})
	return found, err
}

func (d *driver) List(ctx context.Context, fn func(dataplane.Object) error) error {
	return d.around(ctx, Call{Name: "List"}, func() error { return d.inner.List(ctx, fn) })
}

func (d *driver) Open(ctx context.Context, v dataplane.Volume, mode dataplane.Mode) (dev dataplane.Device, err error) {
	c := Call{Name: "Open", Volume: v, Mode: mode}
	err = d.around(ctx, c, func() (err error) {
		dev, err = d.inner.Open(ctx, v, mode)
		return err
	})
	if err != nil {
		if dev != nil { // After failed an Open that went well
			_ = dev.Close()
		}
		return nil, err
	}
	if d.hook.Device != nil && dev != nil {
		dev = d.hook.Device(c, dev)
	}
	return dev, nil
}

func (d *driver) Extend(ctx context.Context, v dataplane.Volume, size int64) error {
	return d.around(ctx, Call{Name: "Extend", Volume: v, Size: size}, func() error {
		return d.inner.Extend(ctx, v, size)
	})
}

func (d *driver) Delete(ctx context.Context, v dataplane.Volume) error {
	return d.around(ctx, Call{Name: "Delete", Volume: v}, func() error { return d.inner.Delete(ctx, v) })
}

func (d *driver) Manageable(ctx context.Context, fn func(dataplane.Candidate) error) error {
	return d.around(ctx, Call{Name: "Manageable"}, func() error { return d.inner.Manageable(ctx, fn) })
}

func (d *driver) Adopt(ctx context.Context, v dataplane.Volume, existing string, mark dataplane.Mark,
) (made dataplane.Volume, err error) {
	c := Call{Name: "Adopt", Volume: v, Existing: existing, Mark: mark}
	err = d.around(ctx, c, func() (err error) {
		made, err = d.inner.Adopt(ctx, v, existing, mark)
		return err
	})
	return made, err
}

func (d *driver) Disown(ctx context.Context, v dataplane.Volume) error {
	return d.around(ctx, Call{Name: "Disown", Volume: v}, func() error { return d.inner.Disown(ctx, v) })
}

func (d *driver) Stats(ctx context.Context) (stats dataplane.Stats, err error) {
	err = d.around(ctx, Call{Name: "Stats"}, func() (err error) {
		stats, err = d.inner.Stats(ctx)
		return err
	})
	return stats, err
}

func (d *driver) Close() error {
	return d.around(context.Background(), Call{Name: "Close"}, d.inner.Close)
}

func (u updater) UpdateMigratedVolume(ctx context.Context, volume, newVolume dataplane.Volume, originalStatus string,
) (update *dataplane.VolumeUpdate, err error) {
	c := Call{Name: "UpdateMigratedVolume", Volume: volume, NewVolume: newVolume}
	err = u.w.around(ctx, c, func() (err error) {
		update, err = u.inner.UpdateMigratedVolume(ctx, volume, newVolume, originalStatus)
		return err
	})
	return update, err
}

func (m migrator) MigrateVolume(ctx context.Context, volume dataplane.Volume, host dataplane.HostCapabilities,
) (moved bool, update *dataplane.VolumeUpdate, err error) {
	c := Call{Name: "MigrateVolume", Volume: volume, Host: host}
	err = m.w.around(ctx, c, func() (err error) {
		moved, update, err = m.inner.MigrateVolume(ctx, volume, host)
		return err
	})
	return moved, update, err
}
