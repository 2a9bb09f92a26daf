package volume

import (
	"context"
	"errors"
	"fmt"

	"github.com/cvold/cvold/agent/catalog"
)

// Extend makes a volume larger: the record (extending, with the new size), the object, the record (as it was, with the new
// size). size is in bytes, a multiple of 512 above the present one (ErrInvalid). A volume in use is extended if its back
// end can; who opens the export from then on sees the new size. Refused with nothing changed: ErrInUse, ErrMigrating,
// ErrMaintenance, ErrStatus, ErrNoSpace, ErrNotFound, ErrMoved. If the driver fails and the object has not grown, the
// volume is as it was; if that is not known, it is error_extending, with the reason, and may be extended again. Once
// recorded it goes on when ctx ends.
func (m *Manager) Extend(ctx context.Context, id string, size int64) (catalog.Volume, error) {
	t, err := m.turn(ctx, id)
	if err != nil {
		return catalog.Volume{}, err
	}
	defer t.end()
	v, attached, err := m.look(id)
	if err != nil {
		return v, err
	}
	if err := extendable(v, size); err != nil {
		return v, err
	}
	if err := m.mayGrow(t.asked, v, attached, size); err != nil {
		return v, err
	}
	v, err = m.change(id, func(_ catalog.Tx, v *catalog.Volume) error {
		if err := extendable(*v, size); err != nil {
			return err
		}
		if v.Status != catalog.StatusErrorExtending {
			v.PreviousStatus = v.Status
		}
		v.Status, v.StatusReason, v.NewSize = catalog.StatusExtending, "", size
		return nil
	})
	if err != nil {
		return v, err
	}
	return m.growObject(t.deed, v)
}

// extendable is the guard of Extend, by the record alone.
func extendable(v catalog.Volume, size int64) error {
	if err := notMigrating(v); err != nil {
		return err
	}
	switch v.Status {
	case catalog.StatusAvailable, catalog.StatusInUse, catalog.StatusErrorExtending:
	default:
		return wrongStatus(v, "available or in-use")
	}
	if size%sectorSize != 0 {
		return fmt.Errorf("size %d: %w: it must be a multiple of %d bytes", size, ErrInvalid, sectorSize)
	}
	if size <= v.Size {
		return fmt.Errorf("%w: new size for extend must be greater than current size (current: %d bytes, extended: %d bytes)",
			ErrInvalid, v.Size, size)
	}
	return nil
}

// mayGrow asks the back end whether it can, and has room.
func (m *Manager) mayGrow(ctx context.Context, v catalog.Volume, attached []catalog.Attachment, size int64) error {
	b, err := m.Backend(v.Host)
	if err != nil {
		return fmt.Errorf("extend %s: %w", called(v), err)
	}
	allowed := nobody
	if b.Driver.Features().OnlineExtend {
		allowed, attached = func(User) bool { return true }, nil
	}
	if err := m.unused(v, attached, allowed); err != nil {
		return err
	}
	if err := catalog.Room(m.o.Store); err != nil {
		return fmt.Errorf("extend %s: %w", called(v), err)
	}
	stats, err := b.Driver.Stats(ctx)
	if err != nil {
		return fmt.Errorf("extend %s: %w", called(v), err)
	}
	if more := size - v.Size; stats.Free < more {
		return fmt.Errorf("%w to extend %s by %d bytes: %s has %d bytes free", ErrNoSpace, called(v), more, v.Host, stats.Free)
	}
	return nil
}

// growObject does what the record "extending" announces, and writes how it went. It may be called again after a crash.
func (m *Manager) growObject(ctx context.Context, v catalog.Volume) (catalog.Volume, error) {
	b, err := m.Backend(v.Host)
	if err != nil {
		return v, fmt.Errorf("extend %s: %w", called(v), err)
	}
	if err := b.Driver.Extend(ctx, v.Volume, v.NewSize); err != nil {
		cause := fmt.Errorf("extend %s: %w", called(v), err)
		if now, err := b.Driver.Lookup(ctx, v.Volume); err == nil && now.Size == v.Size {
			return m.notExtended(v, cause)
		}
		return m.failed(v, catalog.StatusErrorExtending, cause)
	}
	m.resizeDevices(v.ID)
	return m.change(v.ID, func(tx catalog.Tx, v *catalog.Volume) error {
		v.Size = v.NewSize
		return extended(tx, v)
	})
}

// notExtended gives a volume back as it was. While the manager stops nothing is judged.
func (m *Manager) notExtended(v catalog.Volume, cause error) (catalog.Volume, error) {
	if m.stopping.Err() != nil {
		return v, cause
	}
	now, err := m.change(v.ID, extended)
	if err != nil {
		return v, errors.Join(cause, err)
	}
	return now, cause
}

// extended ends the status extending.
func extended(tx catalog.Tx, v *catalog.Volume) error {
	v.Status, v.PreviousStatus, v.NewSize = v.PreviousStatus, "", 0
	return settle(tx, v)
}
