package agent

import (
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/cvold/cvold/agent/catalog"
)

// registerServices writes a record for each back end, as Cinder has a service for each: its uuid is made once and stays.
func (a *Agent) registerServices() error {
	return a.store.Update(func(tx catalog.Tx) error {
		for _, b := range a.volumes.Backends() {
			host := a.volumes.Host(b).Service()
			s, err := catalog.Services.Get(tx, host)
			if errors.Is(err, catalog.ErrNotFound) {
				s, err = catalog.Service{Host: host, UUID: uuid.NewString()}, nil
			}
			if err != nil {
				return err
			}
			s.UpdatedAt = time.Now().UTC()
			if err := catalog.Services.Put(tx, host, s); err != nil {
				return err
			}
		}
		return nil
	})
}
