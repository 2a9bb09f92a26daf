package volume

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
)

// ManageRequest is what an object that is there shall be as a volume.
type ManageRequest struct {
	// Existing is the object's name in the back end, Host the back end, as in CreateRequest.
	Existing, Host string
	// DisplayName, Description, ProjectID, UserID, Type and Metadata are those of CreateRequest.
	DisplayName, Description, ProjectID, UserID, Type string
	Metadata                                          map[string]string
}

// untouched are the errors with which a driver refuses to adopt and has touched nothing.
var untouched = []error{
	dataplane.ErrNotFound, dataplane.ErrExists, dataplane.ErrBusy, dataplane.ErrNotOurs, dataplane.ErrNotSupported,
}

// Manage makes a volume of an object that is there and no volume yet, with the bytes that it has (Cinder's
// manage_existing): the record (managing), the mark and the volume's own name on the object, the record (available). The
// type decides nothing but whether the back end may have it. Refused with nothing changed: ErrInvalid for an object that
// there is not, or that cannot be a volume, with the reason; ErrNoBackend, catalog.ErrNoSpace; dataplane.ErrBusy,
// ErrExists, ErrNotOurs. If the driver fails otherwise, the volume stays as error_managing with the reason: Unmanage ends
// that. Once recorded it goes on when ctx ends.
func (m *Manager) Manage(ctx context.Context, r ManageRequest) (catalog.Volume, error) {
	none := catalog.Volume{}
	if r.Host == "" || r.Existing == "" {
		return none, fmt.Errorf("manage: %w: a host and the name of an object there are needed", ErrInvalid)
	}
	b, err := m.one(r.Host)
	if err != nil {
		return none, err
	}
	c, err := m.manageable(ctx, b, r.Existing)
	if err != nil {
		return none, err
	}
	create := CreateRequest{
		DisplayName: r.DisplayName, Description: r.Description, ProjectID: r.ProjectID, UserID: r.UserID,
		Type: r.Type, Host: r.Host, Size: c.Size, Metadata: r.Metadata,
	}
	if err := create.check(); err != nil {
		return none, err
	}
	typ, err := m.typeOf(r.Type)
	if err != nil {
		return none, err
	}
	if _, why, err := m.fit(ctx, b, typ); err != nil || why != "" {
		return none, errors.Join(err, refusedHost(m.Host(b), why))
	}
	id := uuid.NewString()
	t, err := m.turn(ctx, id)
	if err != nil {
		return none, err
	}
	defer t.end()
	v := m.newVolume(id, b, create, typ)
	v.Status, v.Existing = catalog.StatusManaging, r.Existing
	if err := m.recordManaging(v); err != nil {
		return none, fmt.Errorf("manage %s: %w", r.Existing, err)
	}
	return m.adoptObject(t.deed, b, v)
}

func refusedHost(h Host, why string) error {
	if why == "" {
		return nil
	}
	return fmt.Errorf("%s: %w for this volume: %s", h, ErrNoBackend, why)
}

func (m *Manager) recordManaging(v catalog.Volume) error {
	if err := catalog.Room(m.o.Store); err != nil {
		return err
	}
	return m.o.Store.Update(func(tx catalog.Tx) error { return recordNew(tx, v) })
}

// one is the back end of this node that host names.
func (m *Manager) one(host string) (Backend, error) {
	all, err := m.candidates(host)
	if err != nil {
		return Backend{}, err
	}
	return all[0], nil
}

// Manageable are the objects of a back end that could be volumes, those that are included, with the reason why one cannot
// be managed (Cinder's get_manageable_volumes). ErrNoBackend; dataplane.ErrNotSupported for a back end that adopts none.
func (m *Manager) Manageable(ctx context.Context, host string) (all []dataplane.Candidate, err error) {
	if host == "" {
		return nil, fmt.Errorf("%w: name a host", ErrInvalid)
	}
	b, err := m.one(host)
	if err != nil {
		return nil, err
	}
	err = b.Driver.Manageable(ctx, func(c dataplane.Candidate) error { all = append(all, c); return nil })
	return all, err
}

// manageable is the one candidate of that name: ErrInvalid if there is none, or it is unfit.
func (m *Manager) manageable(ctx context.Context, b Backend, name string) (found dataplane.Candidate, err error) {
	err = b.Driver.Manageable(ctx, func(c dataplane.Candidate) error {
		if c.Name == name {
			found = c
		}
		return nil
	})
	switch {
	case err != nil:
		return found, err
	case found.Name == "":
		return found, fmt.Errorf("object %q at %s: %w: there is none of that name that could be a volume", name, m.Host(b), ErrInvalid)
	case found.Unfit != "":
		return found, fmt.Errorf("object %s at %s: %w: %s", name, m.Host(b), ErrInvalid, found.Unfit)
	}
	return found, nil
}

// adoptObject does what the record "managing" announces, and writes how it went. It may be called again after a crash.
func (m *Manager) adoptObject(ctx context.Context, b Backend, v catalog.Volume) (catalog.Volume, error) {
	made, err := b.Driver.Adopt(ctx, v.Volume, v.Existing, m.mark(v.ID))
	if err != nil {
		return m.notAdopted(ctx, b, v, fmt.Errorf("manage %s: %w", v.Existing, err))
	}
	return m.change(v.ID, func(_ catalog.Tx, v *catalog.Volume) error {
		v.ProviderLocation, v.Identity, v.Size = made.ProviderLocation, made.Identity, made.Size
		v.Status, v.StatusReason, v.Existing = catalog.StatusAvailable, "", ""
		return nil
	})
}

// notAdopted takes the record back if the driver has touched nothing, or what it did could be undone; else the volume is in
// error_managing.
func (m *Manager) notAdopted(ctx context.Context, b Backend, v catalog.Volume, cause error) (catalog.Volume, error) {
	if m.stopping.Err() != nil {
		return v, cause
	}
	for _, is := range untouched {
		if !errors.Is(cause, is) {
			continue
		}
		if err := m.disownMarked(ctx, b, v.Volume); err != nil {
			cause = errors.Join(cause, err)
			break
		}
		return v, errors.Join(cause, m.o.Store.Update(func(tx catalog.Tx) error { return catalog.Volumes.Delete(tx, v.ID) }))
	}
	return m.failed(v, catalog.StatusErrorManaging, cause)
}

func (m *Manager) adoptAgain(ctx context.Context, v catalog.Volume) error {
	b, err := m.Backend(v.Host)
	if err != nil {
		return fmt.Errorf("manage %s: %w", v.Existing, err)
	}
	_, err = m.adoptObject(ctx, b, v)
	return err
}

// Unmanage makes a volume an object of the back end again, with the name and the bytes that it has (Cinder's unmanage): the
// record (unmanaging), the mark off, the record gone. The object is never deleted. Refused with nothing changed: ErrInUse,
// ErrMigrating, ErrMaintenance, ErrStatus, ErrNotFound, ErrMoved, dataplane.ErrNotSupported. If the driver fails the volume
// is what it was, and may be unmanaged again. Once recorded it goes on when ctx ends.
func (m *Manager) Unmanage(ctx context.Context, id string) error {
	t, err := m.turn(ctx, id)
	if err != nil {
		return err
	}
	defer t.end()
	v, attached, err := m.look(id)
	if err != nil {
		return err
	}
	if err := errors.Join(notMigrating(v), m.unused(v, attached, nobody)); err != nil {
		return err
	}
	b, err := m.Backend(v.Host)
	if err != nil {
		return fmt.Errorf("unmanage %s: %w", called(v), err)
	}
	if !b.Driver.Features().Adopt {
		return fmt.Errorf("unmanage %s at %s: %w: delete it, or migrate it to another back end", called(v), v.Host, dataplane.ErrNotSupported)
	}
	v, err = m.change(id, func(_ catalog.Tx, v *catalog.Volume) error { return markUnmanaging(v) })
	if err != nil {
		return err
	}
	return m.disownObject(t.deed, v)
}

// markUnmanaging is the guard and the record of an unmanage.
func markUnmanaging(v *catalog.Volume) error {
	if err := notMigrating(*v); err != nil {
		return err
	}
	switch v.Status {
	case catalog.StatusAvailable, catalog.StatusError, catalog.StatusErrorManaging:
		v.PreviousStatus, v.Status = v.Status, catalog.StatusUnmanaging
		return nil
	case catalog.StatusUnmanaging:
		return nil // one that was left half-way
	}
	return wrongStatus(*v, "available, error or error_managing")
}

// disownObject does what the record "unmanaging" announces, and writes how it went. It may be called again after a crash.
func (m *Manager) disownObject(ctx context.Context, v catalog.Volume) error {
	b, err := m.Backend(v.Host)
	if err != nil {
		return fmt.Errorf("unmanage %s: %w", called(v), err)
	}
	if v.Identity != "" {
		err = b.Driver.Disown(ctx, v.Volume)
	} else {
		err = m.disownMarked(ctx, b, v.Volume)
	}
	if err != nil {
		_, err = m.failed(v, v.PreviousStatus, fmt.Errorf("unmanage %s: %w", called(v), err))
		return err
	}
	return m.o.Store.Update(func(tx catalog.Tx) error { return catalog.Volumes.Delete(tx, v.ID) })
}

// disownMarked takes our mark off the object of a volume without an identity, whose making or managing failed: under which
// name it is, the marks tell.
func (m *Manager) disownMarked(ctx context.Context, b Backend, v dataplane.Volume) error {
	found, err := m.marked(ctx, b, v.ID, func(dataplane.Volume) bool { return true })
	if err != nil || found == nil {
		return err
	}
	return b.Driver.Disown(ctx, *found)
}
