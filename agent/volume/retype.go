package volume

import (
	"context"
	"fmt"
	"maps"

	"github.com/cvold/cvold/agent/catalog"
)

// Retype gives a volume another type, by name or id, without moving it (Cinder's retype with the policy never). Refused,
// with nothing changed: ErrNotFound, ErrMoved, ErrMigrating, ErrMaintenance, ErrStatus; ErrInvalid for a type that there is
// not, or that the volume has; ErrNeedsMigration if the back end has not what the type asks for, and why.
func (m *Manager) Retype(ctx context.Context, id, newType string) (catalog.Volume, error) {
	t, err := m.turn(ctx, id)
	if err != nil {
		return catalog.Volume{}, err
	}
	defer t.end()
	v, err := m.Get(id)
	if err != nil {
		return v, err
	}
	if newType == "" {
		return v, fmt.Errorf("retype %s: %w: name the new type", called(v), ErrInvalid)
	}
	typ, err := m.typeOf(newType)
	if err != nil {
		return v, err
	}
	if err := retypable(v, typ); err != nil {
		return v, err
	}
	b, err := m.Backend(v.Host)
	if err != nil {
		return v, fmt.Errorf("retype %s: %w", called(v), err)
	}
	c, err := m.Capabilities(t.asked, b)
	if err != nil {
		return v, fmt.Errorf("retype %s: %w", called(v), err)
	}
	if why := c.lacking(typ.ExtraSpecs); why != "" {
		return v, fmt.Errorf("retype %s to %s %w, for it is at %s: %s", called(v), typ.Name, ErrNeedsMigration, v.Host, why)
	}
	return m.change(id, func(tx catalog.Tx, v *catalog.Volume) error {
		now, err := getType(tx, typ.ID)
		if err != nil {
			return err
		}
		if !maps.Equal(now.ExtraSpecs, typ.ExtraSpecs) {
			return fmt.Errorf("volume type %s changed meanwhile: %w: ask again", typ.Name, ErrInvalid)
		}
		if err := retypable(*v, typ); err != nil {
			return err
		}
		v.TypeID, v.Specs = typ.ID, maps.Clone(typ.ExtraSpecs)
		return nil
	})
}

func retypable(v catalog.Volume, typ catalog.Type) error {
	if err := notMigrating(v); err != nil {
		return err
	}
	if v.Status != catalog.StatusAvailable && v.Status != catalog.StatusInUse {
		return wrongStatus(v, "available or in-use")
	}
	if v.TypeID == typ.ID {
		return fmt.Errorf("%s has the volume type %s already: %w", called(v), typ.Name, ErrInvalid)
	}
	return nil
}
