package api

import (
	"context"
	"maps"

	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/client"
)

// migrateBody is os-migrate_volume (api/contrib/admin_actions.py, schemas/admin_actions.py).
type migrateBody struct {
	host        string
	force, lock client.Bool
	limit       migration.LimitChange
}

func (b *migrateBody) fields() fields {
	f := migrationLimitFields("cvold:", &b.limit)
	maps.Copy(f, fields{
		"host":            text("host", &b.host),
		"force_host_copy": flag("force_host_copy", &b.force),
		"lock_volume":     flag("lock_volume", &b.lock),
		"cluster":         notYet("cluster"),
	})
	return f
}

func (b *migrateBody) check() error {
	if b.host == "" {
		return badRequest("Invalid input for field/attribute os-migrate_volume. 'host' is a required property")
	}
	return nil
}

func (b *migrateBody) run(ctx context.Context, s *Server, x *exchange) error {
	accepted, err := s.o.Migrations.Accept(ctx, x.id(), migration.Request{
		Host: b.host, ForceHostCopy: bool(b.force), LockVolume: bool(b.lock), Limit: b.limit,
	})
	if err != nil {
		return err
	}
	x.w.Header().Set(client.MigrationHeader, accepted.ID)
	return nil
}
