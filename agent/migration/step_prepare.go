package migration

import (
	"context"
	"errors"
	"fmt"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/dataplane"
)

// begin picks an accepted migration up. If the target is a back end of this node and the source's driver can move the
// volume inside its storage, it does (Cinder's migrate_volume); else the generic copy is prepared.
func begin(ctx context.Context, r *run, m catalog.Migration) error {
	if err := r.takeSlot(ctx); err != nil {
		return err
	}
	moved, update, err := r.driverMigrate(ctx, m)
	if err != nil {
		return fatal(fmt.Errorf("driver's migrate_volume: %w", err))
	}
	if moved {
		err := r.advance(ctx, touchMoved, m, catalog.StateSucceeded, func(tx catalog.Tx, m *catalog.Migration) error {
			return movedByDriver(tx, *m, update)
		})
		if err == nil {
			r.e.ended(m, catalog.StateSucceeded)
		}
		return err
	}
	return r.advance(ctx, touchPickUp, m, catalog.StatePreparing, nil)
}

// driverMigrate asks the source's driver to move the volume, if it can be asked.
func (r *run) driverMigrate(ctx context.Context, m catalog.Migration) (moved bool, update *dataplane.VolumeUpdate, err error) {
	if m.ForceHostCopy || node(m.TargetHost) != r.e.o.Node {
		return false, nil, nil
	}
	backend, err := r.e.o.Volumes.Backend(m.SourceHost)
	if err != nil {
		return false, nil, err
	}
	migrator, ok := backend.Driver.(dataplane.Migrator)
	if !ok {
		return false, nil, nil
	}
	err = r.touch(ctx, touchDriverMigrate, func() error {
		moved, update, err = migrator.MigrateVolume(ctx, m.SourceObject, dataplane.HostCapabilities{Host: m.TargetHost})
		return err
	})
	return moved, update, err
}

// movedByDriver is the end of a migration whose bytes the driver moved (volume/manager.py migrate_volume, moved True).
func movedByDriver(tx catalog.Tx, m catalog.Migration, update *dataplane.VolumeUpdate) error {
	if err := catalog.Volumes.Delete(tx, m.TargetID); err != nil {
		return err
	}
	return changeVolume(tx, m.VolumeID, m.ID, func(v *catalog.Volume) {
		v.Volume = update.Apply(v.Volume)
		v.Host, v.Status, v.PreviousStatus = m.TargetHost, m.PreviousStatus, ""
		v.MigrationStatus, v.MigrationID = catalog.MigrationSuccess, ""
	})
}

// prepare opens the source for this migration alone and asks the target to make and serve an object for it (P0).
func prepare(ctx context.Context, r *run, m catalog.Migration) error {
	if err := r.takeSlot(ctx); err != nil {
		return err
	}
	if err := r.openSource(ctx, m); err != nil {
		return err
	}
	allocated, err := allocatedBytes(ctx, r.source)
	if err != nil {
		return fatal(fmt.Errorf("read the source's extents: %w", err))
	}
	err = r.touch(ctx, touchAttempt, func() error {
		return r.e.update(m.ID, func(_ catalog.Tx, now *catalog.Migration) error {
			if now.State != m.State {
				return fmt.Errorf("migration %s is %s", m.ID, now.State)
			}
			now.Attempt++
			m.Attempt = now.Attempt
			return nil
		})
	})
	if err != nil {
		return err
	}
	reply, err := r.askPrepare(ctx, m, allocated)
	if err != nil {
		return judgePrepare(err)
	}
	if err := checkPrepared(m, reply); err != nil {
		return fatal(err)
	}
	r.prepared, r.attempt = &reply, m.Attempt
	return r.advance(ctx, touchPrepared, m, catalog.StateCopying, func(tx catalog.Tx, m *catalog.Migration) error {
		m.Target, m.PeerStoreID, m.Class = reply.Target, reply.StoreID, reply.Class.String()
		return changeVolume(tx, m.TargetID, m.ID, func(n *catalog.Volume) { n.Volume = reply.Target })
	})
}

// openSource opens the volume for reading, excluding everyone else; it does nothing if that was done.
func (r *run) openSource(ctx context.Context, m catalog.Migration) error {
	if r.source != nil {
		return nil
	}
	err := r.touch(ctx, touchSourceOpen, func() (err error) {
		user := volume.User{Kind: volume.UserMigration, Name: m.ID}
		r.source, err = r.e.o.Volumes.Open(ctx, m.VolumeID, user, dataplane.Mode{ReadOnly: true, Exclusive: true})
		return err
	})
	if err != nil {
		return fatal(fmt.Errorf("open the source: %w", err))
	}
	return nil
}

func (r *run) askPrepare(ctx context.Context, m catalog.Migration, allocated int64) (reply PrepareReply, err error) {
	peer, err := r.peer(m)
	if err != nil {
		return reply, err
	}
	v, err := r.e.o.Volumes.Get(m.VolumeID)
	if err != nil {
		return reply, err
	}
	t, err := r.e.volumeType(v)
	if err != nil {
		return reply, err
	}
	request := PrepareRequest{
		Token: r.token(m), Host: m.TargetHost, Volume: v, Type: t, TargetID: m.TargetID,
		AllocatedBytes: allocated, ChunkSize: m.ChunkSize, Algorithm: m.Algorithm,
	}
	err = r.touch(ctx, touchPeerPrepare, func() error {
		reply, err = peer.Prepare(ctx, request)
		return err
	})
	return reply, err
}

// judgePrepare: what the target refuses ends the migration, what did not reach it is tried again.
func judgePrepare(err error) error {
	switch {
	case errors.Is(err, ErrRefused), errors.Is(err, ErrAborted), errors.Is(err, ErrNoSpace), errors.Is(err, ErrInDoubt), errors.Is(err, ErrInvalid):
		return fatal(err)
	}
	return retry(0, fmt.Errorf("prepare the target: %w", err))
}

// checkPrepared refuses a target that is not the one this migration began with.
func checkPrepared(m catalog.Migration, reply PrepareReply) error {
	switch {
	case m.PeerStoreID != "" && reply.StoreID != m.PeerStoreID:
		return fmt.Errorf("target's store is %s and was %s: another agent answers at %s", reply.StoreID, m.PeerStoreID, node(m.TargetHost))
	case reply.Target.ID != m.TargetID || reply.Target.Identity == "":
		return fmt.Errorf("target answered with the object %q (%q) for %s", reply.Target.ID, reply.Target.Identity, m.TargetID)
	case reply.Target.Size != m.SourceObject.Size:
		return fmt.Errorf("target has %d bytes, the source %d", reply.Target.Size, m.SourceObject.Size)
	}
	return nil
}

// allocatedBytes is how much of a device is data.
func allocatedBytes(ctx context.Context, d dataplane.Device) (bytes int64, err error) {
	size, err := d.Size()
	if err != nil {
		return 0, err
	}
	err = d.Extents(ctx, 0, size, func(e dataplane.Extent) error {
		if !e.Zero {
			bytes += e.Length
		}
		return nil
	})
	return bytes, err
}
