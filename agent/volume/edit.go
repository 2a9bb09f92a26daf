package volume

import (
	"context"
	"fmt"
	"maps"

	"github.com/cvold/cvold/agent/catalog"
)

// Edit says what to change of a volume's record; the zero Edit changes nothing.
type Edit struct {
	// DisplayName and Description: nil leaves what is there.
	DisplayName, Description *string
	// Replace drops all metadata first. Unset removes items, each of which must be there (ErrNotFound); Set adds or
	// changes some.
	Replace bool
	Unset   []string
	Set     map[string]string
}

// Edit changes names and metadata of a volume, also while it is in use or migrates unlocked. ErrInvalid for texts out of
// the limits; ErrMaintenance while it is locked, ErrMigrating while a migration completes, for what was changed then would
// be lost; ErrNotFound, ErrMoved.
func (m *Manager) Edit(ctx context.Context, id string, e Edit) (catalog.Volume, error) {
	t, err := m.turn(ctx, id)
	if err != nil {
		return catalog.Volume{}, err
	}
	defer t.end()
	return m.change(id, func(_ catalog.Tx, v *catalog.Volume) error {
		if v.Status == catalog.StatusMaintenance || v.MigrationStatus == catalog.MigrationCompleting {
			return notMigrating(*v)
		}
		if e.DisplayName != nil {
			v.DisplayName = *e.DisplayName
		}
		if e.Description != nil {
			v.Description = *e.Description
		}
		if err := checkText("name", v.DisplayName); err != nil {
			return err
		}
		if err := checkText("description", v.Description); err != nil {
			return err
		}
		return e.metadata(v)
	})
}

func (e Edit) metadata(v *catalog.Volume) error {
	all := maps.Clone(v.Metadata)
	if all == nil || e.Replace {
		all = map[string]string{}
	}
	for _, key := range e.Unset {
		if _, ok := all[key]; !ok {
			return fmt.Errorf("metadata %q of %s: %w", key, called(*v), ErrNotFound)
		}
		delete(all, key)
	}
	maps.Copy(all, e.Set)
	v.Metadata = all
	return checkMetadata(all)
}
