package migration

import (
	"context"
	"errors"
	"fmt"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/internal/durable"
	"github.com/cvold/cvold/transfer"
)

// dispose deletes the old source, or keeps it if the copy was verified less well than the configuration asks for.
func dispose(ctx context.Context, r *run, m catalog.Migration) error {
	r.letGo()
	class, err := transfer.ParseClass(m.Class)
	if err != nil || m.KeepSource || !class.AtLeast(r.e.o.MinimumClass) {
		return r.advance(ctx, touchDisposed, m, catalog.StateRenaming, func(tx catalog.Tx, m *catalog.Migration) error {
			m.KeepSource = true
			note(m, m.UpdatedAt, "the source is kept: verified %q, and deleting asks for %s", m.Class, r.e.o.MinimumClass)
			return changeVolume(tx, m.TargetID, m.ID, func(n *catalog.Volume) {
				n.Status, n.MigrationID, n.MigrationStatus = catalog.StatusKept, "", catalog.MigrationNone
			})
		})
	}
	err = r.touch(ctx, touchSourceDelete, func() error {
		return r.e.o.Volumes.DeleteObject(ctx, m.SourceHost, m.SourceObject)
	})
	if err != nil {
		return retry(0, fmt.Errorf("delete the source: %w", err))
	}
	return r.advance(ctx, touchDisposed, m, catalog.StateRenaming, func(tx catalog.Tx, m *catalog.Migration) error {
		return catalog.Volumes.Delete(tx, m.TargetID)
	})
}

// rename lets the target object take the volume's own name (Cinder's update_migrated_volume).
func rename(ctx context.Context, r *run, m catalog.Migration) error {
	err := r.tell(ctx, m, touchPeerUpdate, func(peer Peer) error { return peer.UpdateMigrated(ctx, r.token(m)) })
	if err != nil && !errors.Is(err, ErrUnknown) {
		return retry(0, fmt.Errorf("rename the target: %w", err))
	}
	return r.advance(ctx, touchRenamed, m, catalog.StateForgetting, nil)
}

// forget closes the records of a migration that succeeded.
func forget(ctx context.Context, r *run, m catalog.Migration) error {
	if err := r.forgetTarget(ctx, m); err != nil {
		return err
	}
	if err := r.removeCheckpoint(ctx, m); err != nil {
		return err
	}
	err := r.advance(ctx, touchDone, m, catalog.StateSucceeded, func(tx catalog.Tx, _ *catalog.Migration) error { return prune(tx) })
	if err == nil {
		r.e.ended(m, catalog.StateSucceeded)
	}
	return err
}

// finishAbort removes what an aborted migration left at the target, and closes the records.
func finishAbort(ctx context.Context, r *run, m catalog.Migration) error {
	r.letGo()
	if m.Attempt > 0 {
		err := r.tell(ctx, m, touchPeerAbort, func(peer Peer) error { return peer.Abort(ctx, r.token(m)) })
		if err != nil {
			return retry(0, fmt.Errorf("abort at the target: %w", err))
		}
		if err := r.forgetTarget(ctx, m); err != nil {
			return err
		}
	}
	if err := r.removeCheckpoint(ctx, m); err != nil {
		return err
	}
	err := r.advance(ctx, touchFailed, m, catalog.StateFailed, func(tx catalog.Tx, _ *catalog.Migration) error {
		if err := catalog.Volumes.Delete(tx, m.TargetID); err != nil {
			return err
		}
		return prune(tx)
	})
	if err == nil {
		r.e.ended(m, catalog.StateFailed)
	}
	return err
}

func (r *run) forgetTarget(ctx context.Context, m catalog.Migration) error {
	err := r.tell(ctx, m, touchPeerForget, func(peer Peer) error { return peer.Forget(ctx, r.token(m)) })
	if err != nil {
		return retry(0, fmt.Errorf("forget at the target: %w", err))
	}
	return nil
}

func (r *run) removeCheckpoint(ctx context.Context, m catalog.Migration) error {
	err := r.touch(ctx, touchRemoveFile, func() error { return durable.Remove(r.e.o.checkpointPath(m.ID)) })
	if err != nil {
		return retry(0, fmt.Errorf("remove the checkpoint: %w", err))
	}
	return nil
}
