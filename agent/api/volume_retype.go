package api

import (
	"context"
	"errors"
	"fmt"

	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/client"
)

// retypeBody is os-retype (api/contrib/volume_actions.py, schemas/volume_actions.py).
type retypeBody struct {
	newType, policy string
}

func (b *retypeBody) fields() fields {
	return fields{"new_type": text("new_type", &b.newType), "migration_policy": text("migration_policy", &b.policy)}
}

func (b *retypeBody) check() error {
	switch {
	case b.newType == "":
		return badRequest("Invalid input for field/attribute os-retype. 'new_type' is a required property")
	case b.policy != "" && b.policy != client.RetypeNever && b.policy != client.RetypeOnDemand:
		return invalid("migration_policy", []byte(b.policy), "It must be never or on-demand")
	}
	return nil
}

// run changes the type where the volume is. What would need a migration is refused, with the way to it.
func (b *retypeBody) run(ctx context.Context, s *Server, x *exchange) error {
	if _, err := s.usable(x.id()); err != nil {
		return err
	}
	_, err := s.o.Types.Retype(ctx, x.id(), b.newType)
	switch {
	case !errors.Is(err, volume.ErrNeedsMigration):
		return err
	case b.policy == client.RetypeOnDemand:
		return fmt.Errorf("%w. A retype does not migrate: migrate a volume without a type there, and retype it then", err)
	}
	return fmt.Errorf("%w, and the migration policy is never", err)
}
