package migration

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/google/uuid"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/nbd"
	"github.com/cvold/cvold/transfer"
)

// Prepare is P0; see Peer.
func (t *Target) Prepare(ctx context.Context, r PrepareRequest) (PrepareReply, error) {
	if err := validPrepare(r); err != nil {
		return PrepareReply{}, err
	}
	backend, err := t.o.Volumes.Backend(r.Host)
	if err != nil {
		return PrepareReply{}, refuse(ErrRefused, "%s", err)
	}
	s, unlock := t.session(r.MigrationID)
	defer unlock()
	g, err := t.load(r.MigrationID)
	switch {
	case errors.Is(err, ErrUnknown):
		err = t.wanted(ctx, r)
	case err == nil:
		if err = again(&g, r); err == nil && s.attempt == r.Attempt && s.export != "" {
			return s.reply, nil // the same call again
		}
	}
	if err != nil {
		return PrepareReply{}, err
	}
	g, err = t.admit(ctx, r, backend)
	if err != nil {
		return PrepareReply{}, err
	}
	if err := t.o.touch(ctx, g.MigrationID, touchGuestFence, func() error { return t.fence(ctx, s) }); err != nil {
		return PrepareReply{}, fmt.Errorf("%w: %w", ErrBusy, err)
	}
	if g, err = t.create(ctx, g, backend); err != nil {
		return PrepareReply{}, err
	}
	err = t.o.touch(ctx, g.MigrationID, touchGuestServe, func() error { return t.serve(ctx, s, g) })
	if err != nil {
		return PrepareReply{}, errors.Join(err, t.fence(ctx, s))
	}
	return s.reply, nil
}

// validPrepare refuses a request that no agent of ours makes; it came over the wire.
func validPrepare(r PrepareRequest) error {
	for _, id := range []string{r.MigrationID, r.TargetID, r.Volume.ID} {
		if _, err := uuid.Parse(id); err != nil {
			return refuse(ErrRefused, "%q is not an id", id)
		}
	}
	algorithm, err := transfer.ParseAlgorithm(r.Algorithm)
	if err != nil {
		return refuse(ErrRefused, "%s", err)
	}
	g := transfer.Geometry{VolumeSize: r.Volume.Size, ChunkSize: r.ChunkSize, Algorithm: algorithm}
	if err := g.Validate(); err != nil {
		return refuse(ErrRefused, "%s", err)
	}
	if r.Attempt == 0 || r.Volume.OwnerEpoch != r.Epoch || r.AllocatedBytes < 0 || r.AllocatedBytes > r.Volume.Size {
		return refuse(ErrRefused, "attempt %d of epoch %d with %d of %d bytes makes no sense", r.Attempt, r.Epoch, r.AllocatedBytes, r.Volume.Size)
	}
	return nil
}

// wanted asks the source whether a migration that is not known here is still to be: a Prepare may come late, after the
// migration has ended and was forgotten.
func (t *Target) wanted(ctx context.Context, r PrepareRequest) error {
	if r.Node == t.o.Node {
		return nil // the call came by no wire
	}
	peer, err := t.o.Peer(r.Node)
	if err != nil {
		return refuse(ErrRefused, "node %s is not known here: %s", r.Node, err)
	}
	ctx, cancel := context.WithTimeout(ctx, describeWait)
	defer cancel()
	reply, err := peer.Outcome(ctx, Token{MigrationID: r.MigrationID, Attempt: r.Attempt, Epoch: r.Epoch, StoreID: t.o.Store.ID(), Node: t.o.Node})
	switch {
	case err != nil:
		return fmt.Errorf("ask %s back: %w", r.Node, err)
	case reply.StoreID != r.StoreID:
		return refuse(ErrInDoubt, "node %s has the store %s, and the call came from %s", r.Node, reply.StoreID, r.StoreID)
	case reply.Outcome != OutcomeUndecided:
		return refuse(ErrAborted, "node %s says of migration %s: %s", r.Node, r.MigrationID, reply.Outcome)
	}
	return nil
}

// admit writes the attempt into the guest's record, making it if it is the first, with the room reserved.
func (t *Target) admit(ctx context.Context, r PrepareRequest, backend volume.Backend) (g catalog.Guest, err error) {
	if err := catalog.Room(t.o.Store); err != nil {
		return g, refuse(ErrNoSpace, "%s", err)
	}
	stats, err := backend.Driver.Stats(ctx)
	if err != nil {
		return g, fmt.Errorf("capacity of %s: %w", r.Host, err)
	}
	err = t.o.touch(ctx, r.MigrationID, touchGuestPreparing, func() error {
		return t.o.Store.Update(func(tx catalog.Tx) error {
			g, err = catalog.Guests.Get(tx, r.MigrationID)
			switch {
			case errors.Is(err, catalog.ErrNotFound):
				g, err = t.newGuest(tx, r, stats)
			case err == nil:
				err = again(&g, r)
			}
			if err != nil {
				return err
			}
			g.State, g.Attempt, g.Reason, g.UpdatedAt = catalog.GuestPreparing, r.Attempt, "", time.Now().UTC()
			return catalog.Guests.Put(tx, g.MigrationID, g)
		})
	})
	return g, err
}

// again checks a Prepare of a migration that is known.
func again(g *catalog.Guest, r PrepareRequest) error {
	if err := check(*g, r.Token); err != nil {
		return err
	}
	switch g.State {
	case catalog.GuestAborting, catalog.GuestAborted:
		return refuse(ErrAborted, "migration %s was aborted: %s", g.MigrationID, g.Reason)
	case catalog.GuestCommitted, catalog.GuestInDoubt:
		return refuse(ErrRefused, "migration %s is %s here", g.MigrationID, g.State)
	case catalog.GuestReady:
		if r.Attempt == g.Attempt { // the call comes late or twice: the source may have passed the point of no return
			return refuse(ErrStale, "attempt %d of migration %s is ready here already", g.Attempt, g.MigrationID)
		}
	}
	if g.VolumeID != r.Volume.ID || g.Target.ID != r.TargetID || g.Target.Size != r.Volume.Size || g.Host != r.Host {
		return refuse(ErrRefused, "migration %s was of another volume, target, size or host", g.MigrationID)
	}
	return nil
}

// newGuest checks that the volume may come here, and reserves its room in the same transaction.
func (t *Target) newGuest(tx catalog.Tx, r PrepareRequest, stats dataplane.Stats) (catalog.Guest, error) {
	if err := t.mayCome(tx, r); err != nil {
		return catalog.Guest{}, err
	}
	if err := hasRoom(tx, r, stats); err != nil {
		return catalog.Guest{}, err
	}
	now := time.Now().UTC()
	target := dataplane.Volume{ID: r.TargetID, Name: t.o.Volumes.ObjectName(r.TargetID), Size: r.Volume.Size, Specs: r.Volume.Specs}
	return catalog.Guest{
		MigrationID: r.MigrationID, Epoch: r.Epoch, SourceNode: r.Node, SourceStoreID: r.StoreID,
		Host: r.Host, VolumeID: r.Volume.ID, Target: target, AllocatedBytes: r.AllocatedBytes,
		ChunkSize: r.ChunkSize, Algorithm: r.Algorithm, CreatedAt: now,
	}, nil
}

// mayCome refuses a volume that is here, or was here at the same or a later epoch, or whose type differs.
func (t *Target) mayCome(tx catalog.Tx, r PrepareRequest) error {
	v, err := catalog.Volumes.Get(tx, r.Volume.ID)
	if err == nil && v.MigrationID != r.MigrationID {
		return refuse(ErrRefused, "volume %s is here already, at epoch %d", v.ID, v.OwnerEpoch)
	}
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return err
	}
	stub, err := catalog.Stubs.Get(tx, r.Volume.ID)
	if err == nil && stub.Epoch > r.Epoch {
		return refuse(ErrRefused, "volume %s went from here to %s at epoch %d, later than %d", stub.VolumeID, stub.Node, stub.Epoch, r.Epoch)
	}
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return err
	}
	if r.Type == nil {
		return nil
	}
	known, err := catalog.Types.Get(tx, r.Type.ID)
	if errors.Is(err, catalog.ErrNotFound) {
		return refuse(ErrRefused, "volume type %s (%s) does not exist at the target", r.Type.Name, r.Type.ID)
	}
	if err == nil && (known.Name != r.Type.Name || !maps.Equal(known.ExtraSpecs, r.Type.ExtraSpecs)) {
		return refuse(ErrRefused, "volume type %s differs at the target", r.Type.Name)
	}
	return err
}

// hasRoom counts what other guests have reserved, and what thin volumes were promised.
func hasRoom(tx catalog.Tx, r PrepareRequest, stats dataplane.Stats) error {
	guests, err := catalog.Guests.All(tx)
	if err != nil {
		return err
	}
	var reserved, coming int64
	for _, g := range guests {
		if g.Host == r.Host && !g.State.Final() {
			reserved += g.AllocatedBytes
			coming++
		}
	}
	usable := stats.Free - stats.Total/100*(100-highWater)
	if r.AllocatedBytes > usable-reserved {
		return refuse(ErrNoSpace, "%s has %d bytes free below %d %%, %d of them reserved; the volume needs %d", r.Host, max(usable, 0), highWater, reserved, r.AllocatedBytes)
	}
	if coming >= guestsMax {
		return refuse(ErrBusy, "%d migrations come to %s already", coming, r.Host)
	}
	promised, err := promised(tx, r.Host)
	if err != nil {
		return err
	}
	if promised+r.Volume.Size > stats.Total*overSubscription {
		return refuse(ErrNoSpace, "%s has promised %d bytes already, and holds %d", r.Host, promised, stats.Total)
	}
	return nil
}

func promised(tx catalog.Tx, host string) (bytes int64, err error) {
	volumes, err := catalog.Volumes.All(tx)
	for _, v := range volumes {
		if v.Host == host {
			bytes += v.Size
		}
	}
	return bytes, err
}

// create makes the object, or finds it made, and records its identity.
func (t *Target) create(ctx context.Context, g catalog.Guest, backend volume.Backend) (catalog.Guest, error) {
	mark := dataplane.Mark{StoreID: t.o.Store.ID(), VolumeID: g.VolumeID, MigrationID: g.MigrationID}
	var made dataplane.Volume
	err := t.o.touch(ctx, g.MigrationID, touchGuestCreate, func() (err error) {
		made, err = backend.Driver.Create(ctx, g.Target, mark)
		return err
	})
	switch {
	case errors.Is(err, dataplane.ErrNoSpace):
		return g, refuse(ErrNoSpace, "create the target: %s", err)
	case errors.Is(err, dataplane.ErrExists), errors.Is(err, dataplane.ErrNotOurs):
		return g, refuse(ErrRefused, "create the target: %s", err)
	case err != nil:
		return g, fmt.Errorf("create the target: %w", err)
	}
	return t.update(ctx, g.MigrationID, touchGuestPrepared, func(_ catalog.Tx, g *catalog.Guest) error {
		g.Target, g.State = made, catalog.GuestPrepared
		return nil
	})
}

// serve opens the object and exports it to this attempt alone.
func (t *Target) serve(ctx context.Context, s *session, g catalog.Guest) (err error) {
	user := volume.User{Kind: volume.UserMigration, Name: g.MigrationID}
	if s.device, err = t.o.Volumes.OpenObject(ctx, g.Host, g.Target, user, dataplane.Mode{}); err != nil {
		return fmt.Errorf("open the target: %w", err)
	}
	if s.medium, err = t.o.Volumes.OpenObject(ctx, g.Host, g.Target, user, dataplane.Mode{ReadOnly: true, Medium: true}); err != nil {
		return fmt.Errorf("open the target's medium: %w", err)
	}
	s.reads = newReads(t.ctx, s.medium)
	address := t.o.Address
	if g.SourceNode == t.o.Node {
		address = t.o.Unix
	}
	address.Export = fmt.Sprintf("migration-%s-%d-%s", g.MigrationID, g.Attempt, rand.Text())
	export := nbd.NewExport(address.Export, "target of migration "+g.MigrationID, s.device)
	export.Admit = admitSource(g.SourceNode, t.o.Node)
	if err := t.o.NBD.Add(export); err != nil {
		return fmt.Errorf("export the target: %w", err)
	}
	s.export, s.attempt = address.Export, g.Attempt
	s.reply = PrepareReply{StoreID: t.o.Store.ID(), Target: g.Target, Class: class(s.medium), NBD: address}
	return nil
}

// class is what reading a device back is worth.
func class(medium dataplane.Device) transfer.Class {
	if medium.Info().Medium {
		return transfer.DeviceDirect
	}
	return transfer.Cached
}
