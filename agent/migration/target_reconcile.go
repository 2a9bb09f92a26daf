package migration

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cvold/cvold/agent/catalog"
)

// DefaultAskEvery is how often the target's half asks after migrations that it has had no news of.
const DefaultAskEvery = 15 * time.Second

// Start goes on with what the catalog has under way, now and from time to time.
func (t *Target) Start(context.Context) error {
	t.wg.Add(1)
	go func() {
		defer t.wg.Done()
		t.Reconcile(t.ctx)
		tick := time.NewTicker(t.o.AskEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				t.Reconcile(t.ctx)
			case <-t.ctx.Done():
				return
			}
		}
	}()
	return nil
}

// Reconcile brings every guest a step on that no call of the source is about to: it removes what was aborted, renames
// what was being renamed, and asks the source what became of the rest.
func (t *Target) Reconcile(ctx context.Context) {
	guests, err := t.all()
	if err != nil {
		t.o.Logger.Error("guests not read", "error", err)
		return
	}
	for _, g := range guests {
		if ctx.Err() != nil {
			return
		}
		if err := t.reconcile(ctx, g.MigrationID); err != nil && ctx.Err() == nil {
			t.o.Logger.Warn("guest waits", "migration", g.MigrationID, "state", g.State, "error", err)
		}
	}
}

func (t *Target) reconcile(ctx context.Context, id string) error {
	s, unlock, free := t.freeSession(id)
	defer unlock()
	if !free {
		return nil // a call is at work; if it hangs, the other guests do not wait for it
	}
	g, err := t.load(id)
	if err != nil {
		return ignoreUnknown(err)
	}
	switch g.State {
	case catalog.GuestAborting:
		return t.abort(ctx, s, g, g.Reason)
	case catalog.GuestCommitted:
		if g.Renaming {
			return t.rename(ctx, g)
		}
		return nil
	case catalog.GuestAborted:
		return nil
	}
	if s.export != "" || s.verify != nil || g.SourceNode == t.o.Node {
		return nil // the source is at work, or is this agent and goes on by itself
	}
	return t.ask(ctx, s, g)
}

// ask does what the source says of a migration that it has not spoken of since this agent was started.
func (t *Target) ask(ctx context.Context, s *session, g catalog.Guest) error {
	peer, err := t.o.Peer(g.SourceNode)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, describeWait)
	defer cancel()
	k := Token{MigrationID: g.MigrationID, Attempt: g.Attempt, Epoch: g.Epoch, StoreID: t.o.Store.ID(), Node: t.o.Node}
	reply, err := peer.Outcome(ctx, k)
	if err != nil {
		return fmt.Errorf("ask %s: %w", g.SourceNode, err)
	}
	same := reply.StoreID == g.SourceStoreID
	switch {
	case reply.Outcome == OutcomeCommitted && same && g.State != catalog.GuestPreparing && g.State != catalog.GuestPrepared:
		return t.commit(ctx, g.MigrationID)
	case reply.Outcome == OutcomeUndecided && same:
		return nil
	case reply.Outcome == OutcomeCommitted && same:
		return t.doubt(ctx, g, fmt.Sprintf("node %s has handed the volume over, and this catalog says %s: it is older than the hand-over", g.SourceNode, g.State))
	case same:
		return t.abort(ctx, s, g, "the source says: "+string(reply.Outcome)+" "+reply.Reason)
	case g.State == catalog.GuestReady:
		return t.doubt(ctx, g, fmt.Sprintf("node %s answers with the store %s, and the migration is of %s", g.SourceNode, reply.StoreID, g.SourceStoreID))
	case g.State == catalog.GuestInDoubt:
		return nil
	}
	return t.abort(ctx, s, g, "the source's store "+g.SourceStoreID+" is gone, and the hand-over had not begun")
}

// doubt keeps everything and serves nothing: one of the two stores is not the one that began the migration.
func (t *Target) doubt(ctx context.Context, g catalog.Guest, why string) error {
	if g.State == catalog.GuestInDoubt {
		return nil
	}
	reason := why + ": see cvol migration resolve"
	t.o.Logger.Error("migration is in doubt", "migration", g.MigrationID, "volume", g.VolumeID, "reason", reason)
	_, err := t.update(ctx, g.MigrationID, touchGuestReady, func(_ catalog.Tx, g *catalog.Guest) error {
		g.State, g.Reason = catalog.GuestInDoubt, reason
		return nil
	})
	return err
}

func ignoreUnknown(err error) error {
	if errors.Is(err, ErrUnknown) {
		return nil
	}
	return err
}
