package volume

import (
	"context"
	"errors"
	"fmt"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
)

// Delete removes a volume: the record (deleting), the object, the record gone. ErrInUse names its users; ErrMigrating,
// ErrMaintenance, ErrStatus, ErrNotFound, ErrMoved, dataplane.ErrAbandoned: nothing has changed. dataplane.ErrBusy:
// someone outside the agent has it open, and it stays as it was. If the driver fails otherwise, the volume stays as
// error_deleting with the reason, and may be deleted again. Once recorded it goes on when ctx ends.
func (m *Manager) Delete(ctx context.Context, id string) error {
	t, err := m.turn(ctx, id)
	if err != nil {
		return err
	}
	defer t.end()
	v, attached, err := m.look(id)
	if err != nil {
		return err
	}
	if err := notMigrating(v); err != nil {
		return err
	}
	if err := m.unused(v, attached, nobody); err != nil {
		return err
	}
	b, err := m.Backend(v.Host)
	if err != nil {
		return fmt.Errorf("delete %s: %w", called(v), err)
	}
	if err := m.objectUnused(b, v.Volume); err != nil {
		return fmt.Errorf("delete %s: %w", called(v), err)
	}
	v, err = m.change(id, func(_ catalog.Tx, v *catalog.Volume) error { return markDeleting(v) })
	if err != nil {
		return err
	}
	return m.removeObject(t.deed, v)
}

// markDeleting is the guard and the record of a delete.
func markDeleting(v *catalog.Volume) error {
	if err := notMigrating(*v); err != nil {
		return err
	}
	switch v.Status {
	case catalog.StatusAvailable, catalog.StatusError, catalog.StatusErrorExtending, catalog.StatusErrorDeleting,
		catalog.StatusKept:
		v.PreviousStatus, v.Status = v.Status, catalog.StatusDeleting
		return nil
	case catalog.StatusDeleting:
		return nil // a delete that was left half-way
	}
	return wrongStatus(*v, "available, error, error_extending, error_deleting or kept")
}

// removeObject does what the record "deleting" announces, and writes how it went. It may be called again after a crash.
func (m *Manager) removeObject(ctx context.Context, v catalog.Volume) error {
	b, err := m.Backend(v.Host)
	if err != nil {
		return fmt.Errorf("delete %s: %w", called(v), err)
	}
	err = m.deleteObject(ctx, b, v.Volume)
	switch {
	case err == nil:
		return m.o.Store.Update(func(tx catalog.Tx) error { return catalog.Volumes.Delete(tx, v.ID) })
	case errors.Is(err, dataplane.ErrBusy) && v.PreviousStatus != "":
		// Nothing was touched: the volume is what it was (Cinder does so on VolumeIsBusy).
		_, err = m.failed(v, v.PreviousStatus, fmt.Errorf("delete %s: %w", called(v), err))
	default:
		_, err = m.failed(v, catalog.StatusErrorDeleting, fmt.Errorf("delete %s: %w", called(v), err))
	}
	return err
}

// deleteObject deletes the object of v. A volume without an identity is one whose creation failed: whether there is an
// object, the marks tell.
func (m *Manager) deleteObject(ctx context.Context, b Backend, v dataplane.Volume) error {
	if v.Identity != "" {
		return b.Driver.Delete(ctx, v)
	}
	found, err := m.marked(ctx, b, v.ID, func(o dataplane.Volume) bool { return o.Name == v.Name })
	if err != nil || found == nil {
		return err
	}
	return b.Driver.Delete(ctx, *found)
}

// marked is the object of the back end that carries the volume's mark, and that fits; nil if there is none.
func (m *Manager) marked(ctx context.Context, b Backend, id string, fits func(dataplane.Volume) bool) (found *dataplane.Volume, err error) {
	err = b.Driver.List(ctx, func(o dataplane.Object) error {
		if o.Mark == m.mark(id) && fits(o.Volume) {
			found = &o.Volume
		}
		return nil
	})
	return found, err
}

// DeleteObject deletes an object of the back end of host that is no volume of this agent: the old source or the target
// of a migration, which guards its records. Deleting nothing is success. ErrInUse or ErrMigrating while it is open here,
// dataplane.ErrAbandoned while I/O may still land on it, ErrNoBackend, and what the driver says.
func (m *Manager) DeleteObject(ctx context.Context, host string, v dataplane.Volume) error {
	t, err := m.turn(ctx, v.ID)
	if err != nil {
		return err
	}
	defer t.end()
	b, err := m.Backend(host)
	if err != nil {
		return fmt.Errorf("delete object %s: %w", v.Name, err)
	}
	if err := m.objectUnused(b, v); err != nil {
		return err
	}
	if err := b.Driver.Delete(t.asked, v); err != nil {
		return fmt.Errorf("delete object %s at %s: %w", v.Name, m.Host(b), err)
	}
	return nil
}

// objectUnused is nil if nobody has the object open here, by whatever volume id.
func (m *Manager) objectUnused(b Backend, v dataplane.Volume) error {
	object := newUse(b, v, User{}, dataplane.Mode{})
	m.mu.Lock()
	defer m.mu.Unlock()
	for u := range m.uses {
		if !u.sameObject(object) {
			continue
		}
		why := ErrInUse
		if u.abandoned {
			why = dataplane.ErrAbandoned
		}
		return fmt.Errorf("object %s at %s: %s: %w: %s", v.Name, m.Host(b), u.user, why, wayOut(why))
	}
	return nil
}
