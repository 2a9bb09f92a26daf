package migration

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/dataplane"
)

// Commit is P3; see Peer.
func (t *Target) Commit(ctx context.Context, k Token) error {
	_, unlock := t.session(k.MigrationID)
	defer unlock()
	g, err := t.load(k.MigrationID)
	if err != nil {
		return err
	}
	if err := check(g, k); err != nil {
		return err
	}
	return t.commit(ctx, k.MigrationID)
}

// commit makes this agent the owner, durably.
func (t *Target) commit(ctx context.Context, id string) error {
	err := t.o.touch(ctx, id, touchGuestCommit, func() error {
		return t.o.Store.Update(func(tx catalog.Tx) error { return t.commitRecord(tx, id) })
	})
	if err == nil {
		t.o.Logger.Info("volume taken over", "migration", id)
	}
	return err
}

// commitRecord is P3 in a transaction: the guest's volume becomes this agent's. Doing it again changes nothing.
func (t *Target) commitRecord(tx catalog.Tx, id string) error {
	g, err := catalog.Guests.Get(tx, id)
	if err != nil {
		return err
	}
	switch g.State {
	case catalog.GuestCommitted:
		return nil
	case catalog.GuestReady, catalog.GuestInDoubt:
	case catalog.GuestAborting, catalog.GuestAborted:
		return refuse(ErrAborted, "migration %s was aborted here: %s", id, g.Reason)
	default:
		return refuse(ErrInDoubt, "migration %s is only %s here", id, g.State)
	}
	if g.Record == nil {
		return refuse(ErrInDoubt, "migration %s is %s without a record", id, g.State)
	}
	record := *g.Record
	record.UpdatedAt = time.Now().UTC()
	if err := volume.Adopt(tx, record); err != nil {
		return err
	}
	g.State, g.Reason, g.UpdatedAt = catalog.GuestCommitted, "", record.UpdatedAt
	return catalog.Guests.Put(tx, id, g)
}

// UpdateMigrated gives the object the volume's own name; see Peer. If the volume has gone, or has other work to do, the
// name stays as it is, and _name_id says so, as Cinder does for a volume in use.
func (t *Target) UpdateMigrated(ctx context.Context, k Token) error {
	_, unlock := t.session(k.MigrationID)
	defer unlock()
	g, err := t.load(k.MigrationID)
	if err != nil {
		return err
	}
	if err := check(g, k); err != nil {
		return err
	}
	return t.rename(ctx, g)
}

func (t *Target) rename(ctx context.Context, g catalog.Guest) error {
	if g.Renamed {
		return nil
	}
	if g.State != catalog.GuestCommitted {
		return refuse(ErrBusy, "migration %s is %s here", g.MigrationID, g.State)
	}
	g, err := t.update(ctx, g.MigrationID, touchGuestRenaming, func(tx catalog.Tx, g *catalog.Guest) error {
		v, err := catalog.Volumes.Get(tx, g.VolumeID)
		if err != nil && !errors.Is(err, catalog.ErrNotFound) {
			return err
		}
		mine := err == nil && v.NameID == g.Target.ID && v.Identity == g.Target.Identity
		if mine && v.MigrationID != "" && g.Renaming {
			return renameLater(*g, v)
		}
		mine = mine && v.MigrationID == ""
		g.Renaming, g.Renamed = mine, !mine
		return nil
	})
	if err != nil || g.Renamed {
		return err
	}
	return t.o.Volumes.Rename(ctx, g.VolumeID, func(ctx context.Context, v catalog.Volume) error { return t.renameObject(ctx, g, v) })
}

// renameLater: another migration has taken the volume on since the rename was begun, and knows the object by the name
// that the record has.
func renameLater(g catalog.Guest, v catalog.Volume) error {
	return refuse(ErrBusy, "volume %s is not renamed while migration %s holds it (migration %s)", v.ID, v.MigrationID, g.MigrationID)
}

// renameObject calls the driver and writes what it said. The volume's record is not changed by others meanwhile.
func (t *Target) renameObject(ctx context.Context, g catalog.Guest, v catalog.Volume) error {
	backend, err := t.o.Volumes.Backend(g.Host)
	if err != nil {
		return err
	}
	var update *dataplane.VolumeUpdate
	if v.MigrationID != "" {
		return renameLater(g, v)
	}
	if updater, ok := backend.Driver.(dataplane.MigrationUpdater); ok && v.NameID == g.Target.ID {
		err = t.o.touch(ctx, g.MigrationID, touchGuestRename, func() error {
			own := v.Volume
			own.NameID, own.Name = "", t.o.Volumes.ObjectName(v.ID)
			update, err = updater.UpdateMigratedVolume(ctx, own, v.Volume, string(v.PreviousStatus))
			return err
		})
	}
	if err != nil && !errors.Is(err, dataplane.ErrExists) {
		return fmt.Errorf("rename the target: %w", err)
	}
	_, err = t.update(ctx, g.MigrationID, touchGuestRenamed, func(tx catalog.Tx, g *catalog.Guest) error {
		g.Renamed, g.Renaming = true, false
		now, err := catalog.Volumes.Get(tx, g.VolumeID)
		if errors.Is(err, catalog.ErrNotFound) || err == nil && now.NameID != g.Target.ID {
			return nil
		}
		if err != nil {
			return err
		}
		now.Volume = update.Apply(now.Volume)
		now.PreviousStatus = ""
		return catalog.Volumes.Put(tx, now.ID, now)
	})
	return err
}

// Abort records that a migration will never be, and removes its object; see Peer.
func (t *Target) Abort(ctx context.Context, k Token) error {
	s, unlock := t.session(k.MigrationID)
	defer unlock()
	g, err := t.load(k.MigrationID)
	if errors.Is(err, ErrUnknown) {
		return t.tombstone(ctx, k)
	}
	if err != nil {
		return err
	}
	if err := check(g, k); err != nil && !errors.Is(err, ErrStale) {
		return err
	}
	return t.abort(ctx, s, g, "aborted by the source")
}

// tombstone refuses, for as long as the source has not said Forget, whatever of the migration may still come.
func (t *Target) tombstone(ctx context.Context, k Token) error {
	now := time.Now().UTC()
	g := catalog.Guest{
		MigrationID: k.MigrationID, State: catalog.GuestAborted, Attempt: k.Attempt, Epoch: k.Epoch,
		SourceNode: k.Node, SourceStoreID: k.StoreID, Reason: "aborted by the source before it came here",
		CreatedAt: now, UpdatedAt: now,
	}
	return t.o.touch(ctx, k.MigrationID, touchGuestAborted, func() error {
		return t.o.Store.Update(func(tx catalog.Tx) error {
			if _, err := catalog.Guests.Get(tx, g.MigrationID); !errors.Is(err, catalog.ErrNotFound) {
				return err
			}
			return catalog.Guests.Put(tx, g.MigrationID, g)
		})
	})
}

// abort ends a guest that is not committed. The session is locked.
func (t *Target) abort(ctx context.Context, s *session, g catalog.Guest, reason string) error {
	g, err := t.update(ctx, g.MigrationID, touchGuestAborting, func(_ catalog.Tx, g *catalog.Guest) error {
		switch g.State {
		case catalog.GuestCommitted:
			return refuse(ErrTooLate, "migration %s is committed here", g.MigrationID)
		case catalog.GuestAborted, catalog.GuestAborting:
			return nil
		}
		g.State, g.Reason = catalog.GuestAborting, reason
		return nil
	})
	if err != nil || g.State == catalog.GuestAborted {
		return err
	}
	if err := t.o.touch(ctx, g.MigrationID, touchGuestFence, func() error { return t.fence(ctx, s) }); err != nil {
		return err
	}
	err = t.o.touch(ctx, g.MigrationID, touchGuestDelete, func() error { return t.deleteObject(ctx, g) })
	if err != nil {
		return fmt.Errorf("delete the target of migration %s: %w", g.MigrationID, err)
	}
	_, err = t.update(ctx, g.MigrationID, touchGuestAborted, func(_ catalog.Tx, g *catalog.Guest) error {
		g.State = catalog.GuestAborted
		return nil
	})
	return err
}

// deleteObject removes what was made for the migration: by identity, or, if the crash came before that was recorded,
// by the mark.
func (t *Target) deleteObject(ctx context.Context, g catalog.Guest) error {
	if g.Target.Identity != "" {
		return t.o.Volumes.DeleteObject(ctx, g.Host, g.Target)
	}
	backend, err := t.o.Volumes.Backend(g.Host)
	if err != nil {
		return err
	}
	var made []dataplane.Volume
	err = backend.Driver.List(ctx, func(o dataplane.Object) error {
		if o.Mark.MigrationID == g.MigrationID && o.Mark.StoreID == t.o.Store.ID() {
			made = append(made, o.Volume)
		}
		return nil
	})
	for _, v := range made {
		err = errors.Join(err, t.o.Volumes.DeleteObject(ctx, g.Host, v))
	}
	return err
}

// Forget drops the record of a migration that is committed or aborted; see Peer.
func (t *Target) Forget(ctx context.Context, k Token) error {
	_, unlock := t.session(k.MigrationID)
	defer unlock()
	g, err := t.load(k.MigrationID)
	if errors.Is(err, ErrUnknown) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := check(g, k); err != nil {
		return err
	}
	if !g.State.Final() || g.State == catalog.GuestCommitted && !g.Renamed {
		return refuse(ErrBusy, "migration %s is %s here", g.MigrationID, g.State)
	}
	return t.o.touch(ctx, g.MigrationID, touchGuestForget, func() error {
		return t.o.Store.Update(func(tx catalog.Tx) error { return catalog.Guests.Delete(tx, g.MigrationID) })
	})
}
