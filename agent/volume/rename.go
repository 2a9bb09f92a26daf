package volume

import (
	"context"

	"github.com/cvold/cvold/agent/catalog"
)

// Rename runs fn, which gives the object of a volume another name and records it, while nobody opens or changes the
// volume; devices that are open stay so. fn gets the record as it is now and must not call the manager for this volume.
// Its context ends when the manager stops, not with ctx. ErrNotFound, ErrMoved, ErrClosed, dataplane.ErrAbandoned while
// I/O may still land on the object, and what fn says.
func (m *Manager) Rename(ctx context.Context, id string, fn func(ctx context.Context, v catalog.Volume) error) error {
	t, err := m.turn(ctx, id)
	if err != nil {
		return err
	}
	defer t.end()
	v, _, err := m.look(id)
	if err != nil {
		return err
	}
	if err := m.notHung(v); err != nil {
		return err
	}
	return fn(t.deed, v)
}
