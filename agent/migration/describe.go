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
	err := t.o.Store.View(func(tx catalog.Tx) (err error) {
		if r.Claims {
			if d.Claims, err = claims(tx, r.Volumes); err != nil {
				return err
			}
		}
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

// claims are what this agent knows of the volumes.
func claims(tx catalog.Tx, volumes []string) (map[string]Claim, error) {
	active, err := activeMigrations(tx)
	if err != nil {
		return nil, err
	}
	all := map[string]Claim{}
	for _, id := range volumes {
		c := Claim{Migration: active[id]}
		switch v, err := catalog.Volumes.Get(tx, id); {
		case err == nil:
			c.Owns, c.Epoch = true, v.OwnerEpoch
		case !errors.Is(err, catalog.ErrNotFound) && !errors.Is(err, catalog.ErrInvalid):
			return nil, err
		}
		switch stub, err := catalog.Stubs.Get(tx, id); {
		case err == nil:
			c.MovedTo, c.Epoch = stub.Node, max(c.Epoch, stub.Epoch)
		case !errors.Is(err, catalog.ErrNotFound) && !errors.Is(err, catalog.ErrInvalid):
			return nil, err
		}
		if c != (Claim{}) {
			all[id] = c
		}
	}
	return all, nil
}

// activeMigrations are the ids of the migrations that are not over, of either half, by the volume and by its temporary one.
func activeMigrations(tx catalog.Tx) (map[string]string, error) {
	active := map[string]string{}
	migrations, err := catalog.Migrations.All(tx)
	if err != nil {
		return nil, err
	}
	for _, m := range migrations {
		if !m.State.Final() {
			active[m.VolumeID], active[m.TargetID] = m.ID, m.ID
		}
	}
	guests, err := catalog.Guests.All(tx)
	for _, g := range guests {
		if !g.State.Final() {
			active[g.VolumeID] = g.MigrationID
		}
	}
	return active, err
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
