package volume

import (
	"context"
	"errors"
	"fmt"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
)

// usable is the guard of everything that uses the object of v: nil, or why u may not have it.
func usable(v catalog.Volume, u User) error {
	if u.Kind == UserMigration {
		return usableByMigration(v, u.Name)
	}
	if err := notMigrating(v); err != nil {
		return err
	}
	if v.Status != catalog.StatusAvailable && v.Status != catalog.StatusInUse {
		return wrongStatus(v, "available or in-use")
	}
	return nil
}

// notMigrating is ErrMigrating if a migration holds v, and ErrMaintenance if v is locked; both if both.
func notMigrating(v catalog.Volume) error {
	locked := v.Status == catalog.StatusMaintenance
	switch {
	case locked && v.MigrationID != "":
		return fmt.Errorf("%s %w (migration %s) and %w: wait for its end", called(v), ErrMigrating, v.MigrationID, ErrMaintenance)
	case v.MigrationID != "":
		return fmt.Errorf("%s %w (migration %s): wait for its end, or abort it first", called(v), ErrMigrating, v.MigrationID)
	case locked:
		return fmt.Errorf("%s %w: wait for its end", called(v), ErrMaintenance)
	}
	return nil
}

func usableByMigration(v catalog.Volume, migration string) error {
	if v.MigrationID != migration {
		return fmt.Errorf("%s is not held by migration %s: %w", called(v), migration, ErrMigrating)
	}
	switch v.Status {
	case catalog.StatusAvailable, catalog.StatusInUse, catalog.StatusMaintenance:
		return nil
	}
	return wrongStatus(v, "available, in-use or maintenance")
}

func wrongStatus(v catalog.Volume, want string) error {
	if v.StatusReason == "" {
		return fmt.Errorf("%s %w %s: it must be %s", called(v), ErrStatus, v.Status, want)
	}
	return fmt.Errorf("%s %w %s (%s): it must be %s", called(v), ErrStatus, v.Status, v.StatusReason, want)
}

// Open opens a volume for u, a view or a migration. The caller closes the handle, which gives the use back.
//
// A migration opens the volume that it holds (else ErrMigrating), needs that nobody else has it open (ErrInUse), and
// keeps others out with Mode.Exclusive; everyone else is ErrMigrating meanwhile. Writers of different kinds exclude each
// other (ErrInUse). A writable open makes WriteGeneration grow, durably, before the device is handed out.
// ErrNotFound, ErrMoved, ErrMaintenance, ErrStatus, ErrNoBackend, dataplane.ErrAbandoned, and what the driver says.
func (m *Manager) Open(ctx context.Context, id string, u User, mode dataplane.Mode) (*Handle, error) {
	if err := checkUser(u); err != nil {
		return nil, err
	}
	t, err := m.turn(ctx, id)
	if err != nil {
		return nil, err
	}
	defer t.end()
	v, attached, err := m.look(id)
	if err != nil {
		return nil, err
	}
	if err := m.admits(v, attached, u, mode); err != nil {
		return nil, err
	}
	b, err := m.Backend(v.Host)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", called(v), err)
	}
	if u.Kind == UserMigration {
		mode.Exclusive = !mode.Medium
	}
	o := opening{backend: b, volume: v.Volume, called: called(v), user: u, mode: mode}
	if o.writes() {
		o.before = func() error { return m.countWriter(id, u) }
	}
	return m.open(t.asked, o)
}

// checkUser refuses users that could not be told apart, and exports, which have a record.
func checkUser(u User) error {
	if u.Name == "" || u.Kind != UserView && u.Kind != UserMigration {
		return fmt.Errorf("open a volume for %q: only views and migrations with a name open volumes: %w", u, ErrInvalid)
	}
	return nil
}

// admits is the guard of Open, by the records.
func (m *Manager) admits(v catalog.Volume, attached []catalog.Attachment, u User, mode dataplane.Mode) error {
	if err := usable(v, u); err != nil {
		return err
	}
	if u.Kind == UserMigration {
		return m.unused(v, attached, func(other User) bool { return other == u })
	}
	if mode.ReadOnly || mode.Medium {
		return nil
	}
	for _, a := range attached {
		if !a.ReadOnly {
			return fmt.Errorf("%s %w by %s, which writes: remove it first, or open read-only", called(v), ErrInUse, m.describeExport(a.Export))
		}
	}
	return nil
}

// countWriter makes the volume's write generation grow, if u may still use it.
func (m *Manager) countWriter(id string, u User) error {
	_, err := m.change(id, func(_ catalog.Tx, v *catalog.Volume) error {
		v.WriteGeneration++
		return usable(*v, u)
	})
	return err
}

// OpenObject opens an object of the back end of host that is no volume of this agent: the target of a migration. u is
// that migration. Users are kept by v.ID as Open does, and a volume record with that id must be held by the migration.
// Its write generation grows if the object is that volume's. Mode is passed on as it is.
func (m *Manager) OpenObject(ctx context.Context, host string, v dataplane.Volume, u User, mode dataplane.Mode) (dataplane.Device, error) {
	if u.Kind != UserMigration || u.Name == "" {
		return nil, fmt.Errorf("open object %s for %q: only migrations open objects: %w", v.Name, u, ErrInvalid)
	}
	t, err := m.turn(ctx, v.ID)
	if err != nil {
		return nil, err
	}
	defer t.end()
	b, err := m.Backend(host)
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", v.ID, err)
	}
	counts, err := m.holdsObject(b, v, u)
	if err != nil {
		return nil, err
	}
	o := opening{backend: b, volume: v, called: "volume " + v.ID, user: u, mode: mode}
	if counts && o.writes() {
		o.before = func() error { return m.countObjectWriter(v.ID, u) }
	}
	h, err := m.open(t.asked, o)
	if err != nil {
		return nil, err // not h: a nil *Handle would be a Device that is not nil
	}
	return h, nil
}

// holdsObject says whether the object is that of the volume record of v.ID; ErrMigrating if the record is not held by
// u's migration. Without a record there is nothing to guard.
func (m *Manager) holdsObject(b Backend, v dataplane.Volume, u User) (bool, error) {
	record, _, err := m.look(v.ID)
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrMoved) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if record.MigrationID != u.Name {
		return false, fmt.Errorf("%s is not held by %s: %w", called(record), u, ErrMigrating)
	}
	own, err := m.Backend(record.Host)
	return err == nil && own.Name == b.Name && record.Name == v.Name, nil
}

func (m *Manager) countObjectWriter(id string, u User) error {
	_, err := m.change(id, func(_ catalog.Tx, v *catalog.Volume) error {
		if v.MigrationID != u.Name {
			return fmt.Errorf("%s is not held by %s any more: %w", called(*v), u, ErrMigrating)
		}
		v.WriteGeneration++
		return nil
	})
	return err
}

// opening is what open does: a device of volume for user.
type opening struct {
	backend Backend
	volume  dataplane.Volume
	called  string
	user    User
	mode    dataplane.Mode
	// before runs when the use is sure and before the driver opens; nil does nothing.
	before func() error
	// wrap goes around the device; nil is nothing.
	wrap func(dataplane.Device) dataplane.Device
}

func (o opening) writes() bool { return !o.mode.ReadOnly && !o.mode.Medium }

// open takes the use down, opens the device, and gives the use back if that fails. The caller has the turn.
func (m *Manager) open(ctx context.Context, o opening) (*Handle, error) {
	use := newUse(o.backend, o.volume, o.user, o.mode)
	if err := m.reserve(use, o.called); err != nil {
		return nil, err
	}
	device, err := m.openDevice(ctx, o)
	if err != nil {
		m.drop(use)
		return nil, err
	}
	h := m.newHandle(device, use)
	if m.stopping.Err() != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", o.called, ErrClosed), h.Close())
	}
	return h, nil
}

func (m *Manager) openDevice(ctx context.Context, o opening) (dataplane.Device, error) {
	if o.before != nil {
		if err := o.before(); err != nil {
			return nil, err
		}
	}
	device, err := o.backend.Driver.Open(ctx, o.volume, o.mode)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", o.called, err)
	}
	if o.wrap != nil {
		device = o.wrap(device)
	}
	return device, nil
}
