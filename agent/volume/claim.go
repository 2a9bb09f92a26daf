package volume

import (
	"context"

	"github.com/cvold/cvold/agent/catalog"
)

// Claim runs fn in one Store.Update with the record of the volume as it is then, if the volume has no attachments and
// no users but the migration that holds it: for the acceptance of a migration and for its point of no return. Until fn
// is durable nobody opens, exports or deletes the volume. fn writes what it decides itself, may run again, and must not
// call the Manager. ErrInUse names the users; dataplane.ErrAbandoned, ErrNotFound, ErrMoved, ErrClosed; fn's error comes
// back as it is.
func (m *Manager) Claim(id string, fn func(tx catalog.Tx, v catalog.Volume) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), claimTimeout)
	defer cancel()
	t, err := m.turn(ctx, id)
	if err != nil {
		return err
	}
	defer t.end()
	return m.o.Store.Update(func(tx catalog.Tx) error {
		v, err := lookup(tx, id)
		if err != nil {
			return err
		}
		attached, err := attachmentsOf(tx, id)
		if err != nil {
			return err
		}
		holder := User{UserMigration, v.MigrationID}
		if err := m.unused(v, attached, func(u User) bool { return u == holder }); err != nil {
			return err
		}
		return fn(tx, v)
	})
}
