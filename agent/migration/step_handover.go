package migration

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/internal/durable"
)

// ready asks the target to end write access, read everything back and say ready (P1), then passes the point of no
// return (P2).
func ready(ctx context.Context, r *run, m catalog.Migration) error {
	peer, err := r.peer(m)
	if err != nil {
		return err
	}
	v, err := r.e.o.Volumes.Get(m.VolumeID)
	if err != nil {
		return fatal(err)
	}
	var reply ReadyReply
	err = r.touch(ctx, touchPeerReady, func() error {
		reply, err = peer.Ready(ctx, ReadyRequest{Token: r.token(m), Root: m.Root, Record: handedOver(v, m)})
		return err
	})
	if err != nil {
		return r.judgeReady(ctx, m, err)
	}
	if !reply.Done {
		r.readBack.Store(reply.VerifiedBytes)
		return wait(retryPause, errors.New("the target reads back"))
	}
	m.Class = reply.Class.String() // of all of it, which counts more than what Prepare promised
	return r.pointOfNoReturn(ctx, m)
}

// judgeReady: a target that lost the attempt, or holds something else than was copied, is prepared anew; in the second
// case nothing of the checkpoint is believed any more.
func (r *run) judgeReady(ctx context.Context, m catalog.Migration, err error) error {
	switch {
	case errors.Is(err, ErrRootDiffers):
		if err := durable.Remove(r.e.o.checkpointPath(m.ID)); err != nil {
			return fatal(fmt.Errorf("void the checkpoint: %w", err))
		}
		return r.bounce(ctx, m, err)
	case errors.Is(err, ErrStale), errors.Is(err, ErrUnknown):
		return r.bounce(ctx, m, err)
	case errors.Is(err, ErrAborted), errors.Is(err, ErrRefused), errors.Is(err, ErrInDoubt):
		return fatal(err)
	case errors.Is(err, ErrBusy):
		return wait(retryPause, err)
	}
	return retry(0, fmt.Errorf("ready: %w", err))
}

// handedOver is the record that the target's agent will have: the swap of Cinder's finish_volume_migration
// (objects/volume.py) at the next epoch. The object keeps the temporary volume's name until the rename.
func handedOver(v catalog.Volume, m catalog.Migration) catalog.Volume {
	v.NameID, v.Name = m.TargetID, m.Target.Name
	v.ProviderLocation, v.Identity = m.Target.ProviderLocation, m.Target.Identity
	v.Host = m.TargetHost
	v.Status, v.PreviousStatus = m.PreviousStatus, m.PreviousStatus
	v.MigrationStatus, v.MigrationID = catalog.MigrationSuccess, ""
	v.OwnerEpoch = m.Epoch + 1
	v.Manifest = m.ID
	return v
}

// pointOfNoReturn is P2: in one transaction the volume stops being this agent's. Inside one node P3 is part of it.
func (r *run) pointOfNoReturn(ctx context.Context, m catalog.Migration) error {
	if node(m.TargetHost) == r.e.o.Node {
		defer r.e.target.lock(m.ID)()
	}
	err := r.touch(ctx, touchP2, func() error {
		return r.e.o.Volumes.Claim(m.VolumeID, func(tx catalog.Tx, v catalog.Volume) error { return r.e.decide(tx, v, m) })
	})
	switch {
	case errors.Is(err, errNotOurs), errors.Is(err, volume.ErrInUse), errors.Is(err, volume.ErrNotFound), errors.Is(err, volume.ErrMoved), errors.Is(err, volume.ErrStatus):
		return fatal(err)
	}
	return err
}

// errNotOurs: a condition of P2 does not hold.
var errNotOurs = errors.New("volume is not as the migration left it")

// decide is the transaction of P2: on the conditions that the migration was not aborted and that nobody else had the
// volume since it was accepted.
func (e *Engine) decide(tx catalog.Tx, v catalog.Volume, m catalog.Migration) error {
	now, err := catalog.Migrations.Get(tx, m.ID)
	if err != nil {
		return err
	}
	if now.State != m.State || now.Attempt != m.Attempt {
		return fmt.Errorf("migration %s is %s at attempt %d, not %s at %d any more", m.ID, now.State, now.Attempt, m.State, m.Attempt)
	}
	if v.OwnerEpoch != m.Epoch || v.MigrationID != m.ID || v.Identity != m.SourceObject.Identity {
		return fmt.Errorf("volume %s at epoch %d, held by %q: %w", v.ID, v.OwnerEpoch, v.MigrationID, errNotOurs)
	}
	now.Record, now.Class, now.UpdatedAt = &v, m.Class, time.Now().UTC()
	if err := catalog.Volumes.Put(tx, m.TargetID, oldSource(v, m)); err != nil {
		return err
	}
	if node(m.TargetHost) == e.o.Node {
		err = e.target.commitRecord(tx, m.ID)
	} else {
		err = volume.Release(tx, v.ID, node(m.TargetHost), m.Epoch+1, now.UpdatedAt)
	}
	if err != nil {
		return err
	}
	if err := moveTo(tx, &now, catalog.StateCommitting); err != nil {
		return err
	}
	return catalog.Migrations.Put(tx, m.ID, now)
}

// oldSource is what the temporary record becomes by the swap: the volume's old object, to be deleted.
func oldSource(v catalog.Volume, m catalog.Migration) catalog.Volume {
	n := v
	n.Volume = m.SourceObject
	n.ID, n.NameID = m.TargetID, nameID(m.SourceObject.NameID, v.ID)
	n.Host, n.Status, n.PreviousStatus = m.SourceHost, catalog.StatusDeleting, ""
	n.Description = "migration src for " + v.ID
	n.MigrationStatus, n.MigrationID = catalog.MigrationDeleting, m.ID
	n.UseQuota = false
	return n
}

// nameID is the id that an object's name is made of (objects/volume.py name_id).
func nameID(own, id string) string {
	if own != "" {
		return own
	}
	return id
}

// commit repeats P3 until the target has it.
func commit(ctx context.Context, r *run, m catalog.Migration) error {
	r.letGo()
	err := r.tell(ctx, m, touchPeerCommit, func(peer Peer) error { return peer.Commit(ctx, r.token(m)) })
	if err != nil {
		return retry(0, fmt.Errorf("commit: the volume stays unavailable until %s has heard of it: %w", node(m.TargetHost), err))
	}
	return r.advance(ctx, touchCommitted, m, catalog.StateDisposing, nil)
}

// tell makes one call to the target's agent.
func (r *run) tell(ctx context.Context, m catalog.Migration, t Touch, call func(Peer) error) error {
	peer, err := r.peer(m)
	if err != nil {
		return err
	}
	return r.touch(ctx, t, func() error { return call(peer) })
}
