package migration

import (
	"context"
	"errors"
	"fmt"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/internal/pki"
	"github.com/cvold/cvold/nbd"
)

// volumesMax bounds how many volumes a Describe asks about.
const volumesMax = 100_000

// Describe says what this agent is and has; see Peer.
func (t *Target) Describe(ctx context.Context, r DescribeRequest) (Description, error) {
	if len(r.Volumes) > volumesMax {
		return Description{}, refuse(ErrRefused, "%d volumes are more than %d", len(r.Volumes), volumesMax)
	}
	d := Description{Node: t.o.Node, StoreID: t.o.Store.ID(), Version: t.o.Version, Unserved: t.o.Volumes.Unserved(), Epochs: map[string]uint64{}}
	for _, b := range t.o.Volumes.Backends() {
		s := ServiceDescription{Host: t.o.Volumes.Host(b).String(), BackendName: b.BackendName, Driver: b.Driver.Kind()}
		stats, err := b.Driver.Stats(ctx)
		if err != nil {
			s.Error = err.Error()
		}
		s.TotalBytes, s.FreeBytes = stats.Total, stats.Free
		if s.Disabled, err = t.disabled(t.o.Volumes.Host(b).Service()); err != nil {
			return Description{}, err
		}
		d.Services = append(d.Services, s)
	}
	err := t.o.Store.View(func(tx catalog.Tx) error {
		for _, id := range r.Volumes {
			v, err := catalog.Volumes.Get(tx, id)
			if errors.Is(err, catalog.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			d.Epochs[id] = v.OwnerEpoch
		}
		return nil
	})
	return d, err
}

// disabled says whether an operator has taken a service out of use: nothing new comes to it.
func (t *Target) disabled(service string) (disabled bool, err error) {
	err = t.o.Store.View(func(tx catalog.Tx) error {
		s, err := catalog.Services.Get(tx, service)
		disabled = s.Disabled
		return err
	})
	if errors.Is(err, catalog.ErrNotFound) {
		return false, nil
	}
	return disabled, err
}

// admitSource admits to a migration's export the source's agent alone: by its certificate, or, for a migration inside
// the node, by the agent's own unix socket.
func admitSource(source, own string) func(nbd.Client) error {
	return func(c nbd.Client) error {
		if c.Certificate == nil {
			if c.Unix && source == own {
				return nil
			}
			return errors.New("a migration's export asks for the source node's certificate")
		}
		role, name, err := pki.Identity(c.Certificate)
		if err != nil {
			return err
		}
		if role != pki.Peer || name != source {
			return fmt.Errorf("this export is for node %s, not for %s %s", source, role, name)
		}
		return nil
	}
}
