package migration

import (
	"context"
	"errors"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/internal/durable"
)

// Resolve is the operator's word on a migration whose two agents cannot settle it: owner is the node that shall own the
// volume. It is to be said at both agents, with the same owner; said differently, both own a copy. At the agent that
// shall own the volume it makes it so; at the other one it gives up its claim.
func (e *Engine) Resolve(ctx context.Context, id, owner string) error {
	m, err := e.load(id)
	if errors.Is(err, ErrNotFound) {
		return e.target.resolve(ctx, id, owner)
	}
	if err != nil {
		return err
	}
	if owner != e.o.Node && owner != node(m.TargetHost) {
		return refuse(ErrInvalid, "migration %s is between %s and %s: %q is neither", id, node(m.SourceHost), node(m.TargetHost), owner)
	}
	if owner == e.o.Node {
		return e.keepHere(ctx, m)
	}
	return e.giveAway(ctx, m)
}

// keepHere makes this agent, the source, the owner again.
func (e *Engine) keepHere(ctx context.Context, m catalog.Migration) error {
	switch {
	case m.State.BeforeCommit():
		return e.abort(ctx, m.ID, "resolved by the operator: "+e.o.Node+" owns the volume")
	case m.State.Committed() && node(m.TargetHost) == e.o.Node:
		return refuse(ErrTooLate, "migration %s is %s: the volume is at %s, on this same node", m.ID, m.State, m.TargetHost)
	case m.State == catalog.StateCommitting:
		return e.settle(ctx, m, reclaim)
	case m.State == catalog.StateAborting:
		return e.settle(ctx, m, dropTarget)
	}
	return refuse(ErrTooLate, "migration %s is %s: %s has confirmed that it owns the volume", m.ID, m.State, node(m.TargetHost))
}

// giveAway ends the wait for a target that the operator says owns the volume. The source is kept.
func (e *Engine) giveAway(ctx context.Context, m catalog.Migration) error {
	if !m.State.Committed() || m.State.Final() {
		return refuse(ErrTooLate, "migration %s is %s: the volume was not handed over", m.ID, m.State)
	}
	return e.settle(ctx, m, func(tx catalog.Tx, m *catalog.Migration) error {
		m.KeepSource = true
		err := changeVolume(tx, m.TargetID, m.ID, func(n *catalog.Volume) {
			n.Status, n.MigrationID, n.MigrationStatus = catalog.StatusKept, "", catalog.MigrationNone
		})
		err = errors.Join(err, moveTo(tx, m, catalog.StateSucceeded))
		m.Reason = "resolved by the operator: " + node(m.TargetHost) + " has not confirmed that it owns the volume"
		return err
	})
}

// settle ends a migration by the operator's word, and its run with it.
func (e *Engine) settle(ctx context.Context, m catalog.Migration, fn func(catalog.Tx, *catalog.Migration) error) error {
	err := e.update(m.ID, func(tx catalog.Tx, now *catalog.Migration) error {
		if now.State != m.State {
			return refuse(ErrConflict, "migration %s is %s by now: look again", m.ID, now.State)
		}
		note(now, time.Now(), "resolved by the operator")
		return fn(tx, now)
	})
	if err != nil {
		return err
	}
	e.mu.Lock()
	r := e.runs[m.ID]
	if r != nil && r.interrupt != nil {
		r.interrupt()
	}
	e.mu.Unlock()
	if r != nil {
		select {
		case <-r.done:
		case <-ctx.Done():
			return nil
		}
	}
	return durable.Remove(e.o.checkpointPath(m.ID))
}

// reclaim undoes the point of no return: the volume is this agent's again, at an epoch above the target's.
func reclaim(tx catalog.Tx, m *catalog.Migration) error {
	if m.Record == nil {
		return refuse(ErrInvalid, "migration %s has no record of its volume", m.ID)
	}
	v := *m.Record
	v.OwnerEpoch = m.Epoch + 2
	v.Status, v.PreviousStatus, v.MigrationID = m.PreviousStatus, "", ""
	v.MigrationStatus, v.StatusReason = catalog.MigrationError, "taken back by the operator"
	err := errors.Join(catalog.Volumes.Put(tx, v.ID, v), catalog.Stubs.Delete(tx, v.ID))
	return errors.Join(err, dropTarget(tx, m))
}

// dropTarget ends a migration whose target is out of reach for good.
func dropTarget(tx catalog.Tx, m *catalog.Migration) error {
	if err := catalog.Volumes.Delete(tx, m.TargetID); err != nil {
		return err
	}
	return moveTo(tx, m, catalog.StateFailed)
}

// resolve is the target's part of Resolve.
func (t *Target) resolve(ctx context.Context, id, owner string) error {
	s, unlock := t.session(id)
	defer unlock()
	g, err := t.load(id)
	if errors.Is(err, ErrUnknown) {
		return refuse(ErrNotFound, "no migration %s", id)
	}
	if err != nil {
		return err
	}
	switch owner {
	case t.o.Node:
		if g.State == catalog.GuestCommitted {
			return nil
		}
		if g.State != catalog.GuestReady && g.State != catalog.GuestInDoubt {
			return refuse(ErrInvalid, "migration %s is %s: the target does not hold the whole volume", id, g.State)
		}
		return t.commit(ctx, id)
	case g.SourceNode:
		return t.abort(ctx, s, g, "resolved by the operator: "+owner+" owns the volume")
	}
	return refuse(ErrInvalid, "migration %s is between %s and %s: %q is neither", id, g.SourceNode, t.o.Node, owner)
}
