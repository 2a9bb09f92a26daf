package volume

import (
	"errors"
	"fmt"

	"github.com/cvold/cvold/agent/catalog"
)

// SetService enables or disables the service node@backend: a disabled one takes no new volumes and is no target of
// migrations. reason has at most 255 characters, and is kept for a disabled one. ErrNotFound, ErrInvalid.
func (m *Manager) SetService(host string, disabled bool, reason string) (s catalog.Service, err error) {
	if err := checkText("disabled reason", reason); err != nil {
		return s, err
	}
	err = m.o.Store.Update(func(tx catalog.Tx) error {
		s, err = catalog.Services.Get(tx, host)
		if errors.Is(err, catalog.ErrNotFound) || errors.Is(err, catalog.ErrInvalid) {
			return fmt.Errorf("service %q: %w", host, ErrNotFound)
		}
		if err != nil {
			return err
		}
		s.Disabled, s.DisabledReason, s.UpdatedAt = disabled, "", m.now()
		if disabled {
			s.DisabledReason = reason
		}
		return catalog.Services.Put(tx, host, s)
	})
	return s, err
}
