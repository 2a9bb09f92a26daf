package migration

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/transfer"
)

// View is a migration as it is shown: its record and how far it is.
type View struct {
	catalog.Migration
	Progress transfer.ProgressSnapshot
	// ReadBackBytes is how much the target has read back before it says ready.
	ReadBackBytes int64
	// Role is "source" for a migration of this agent's volume, "target" for one that comes here.
	Role string
}

// Get shows one migration of either half: ErrNotFound.
func (e *Engine) Get(id string) (View, error) {
	m, err := e.load(id)
	if errors.Is(err, ErrNotFound) {
		if g, guestErr := e.target.load(id); guestErr == nil {
			return guestView(g), nil
		}
	}
	if err != nil {
		return View{}, err
	}
	return e.view(m), nil
}

// List shows the migrations of both halves, the newest first.
func (e *Engine) List() ([]View, error) {
	all, err := e.all()
	if err != nil {
		return nil, err
	}
	guests, err := e.target.all()
	if err != nil {
		return nil, err
	}
	views := make([]View, 0, len(all)+len(guests))
	for _, m := range all {
		views = append(views, e.view(m))
	}
	for _, g := range guests {
		if node(g.Host) != g.SourceNode {
			views = append(views, guestView(g))
		}
	}
	slices.SortFunc(views, func(a, b View) int { return b.CreatedAt.Compare(a.CreatedAt) })
	return views, nil
}

func (e *Engine) view(m catalog.Migration) View {
	v := View{Migration: m, Role: "source"}
	if r := e.running(m.ID); r != nil {
		v.Progress, v.ReadBackBytes = r.progress.Snapshot(), r.readBack.Load()
	}
	if v.Progress.TotalBytes == 0 {
		v.Progress = transfer.ProgressSnapshot{
			TotalBytes: m.SourceObject.Size, VerifiedBytes: m.VerifiedBytes, ZeroBytes: m.SkippedBytes, SentBytes: m.SentBytes, ResumedBytes: m.ResumedBytes,
			Started: m.CreatedAt,
		}
	}
	v.Progress.Phase = string(m.State)
	return v
}

func guestView(g catalog.Guest) View {
	return View{Role: "target", Migration: catalog.Migration{
		ID: g.MigrationID, VolumeID: g.VolumeID, TargetID: g.Target.ID, SourceHost: g.SourceNode, TargetHost: g.Host,
		State: catalog.MigrationState(g.State), Attempt: g.Attempt, Epoch: g.Epoch, PeerStoreID: g.SourceStoreID,
		Target: g.Target, Root: g.Root, Class: g.Class, Reason: g.Reason, CreatedAt: g.CreatedAt, UpdatedAt: g.UpdatedAt,
	}}
}

// Wait answers as soon as the migration's state is not since, or is final, or ctx ends: then with the state as it is
// and no error.
func (e *Engine) Wait(ctx context.Context, id, since string) (View, error) {
	changed := e.o.Store.Watch(ctx)
	for {
		v, err := e.Get(id)
		if err != nil || string(v.State) != since || v.State.Final() {
			return v, err
		}
		select {
		case _, open := <-changed:
			if !open {
				return e.Get(id)
			}
		case <-ctx.Done():
			return e.Get(id)
		}
	}
}

// Abort ends a migration before the point of no return: ErrLocked if lock_volume was asked for, ErrTooLate past it or
// if it has ended. It answers once the decision is durable; removing the target goes on.
func (e *Engine) Abort(ctx context.Context, id, reason string) error {
	m, err := e.load(id)
	if err != nil {
		return err
	}
	if m.State.BeforeCommit() && m.LockVolume {
		return refuse(ErrLocked, "migration %s holds volume %s locked, as it was asked to: wait for its end", m.ID, m.VolumeID)
	}
	return e.abort(ctx, id, reason)
}

// Preempt ends an unlocked migration of the volume so that another command can have it, and waits until the source is
// let go, also by one that was aborted before: nil if none runs. ErrLocked, ErrTooLate.
func (e *Engine) Preempt(ctx context.Context, volumeID, reason string) error {
	v, err := e.o.Volumes.Get(volumeID)
	if err != nil {
		return err
	}
	id := v.MigrationID
	if id == "" {
		id = e.aborting(volumeID)
	}
	if id == "" {
		return nil
	}
	held := e.running(id)
	err = e.Abort(ctx, id, reason)
	if errors.Is(err, ErrTooLate) || errors.Is(err, ErrNotFound) {
		_, err = e.o.Volumes.Get(volumeID) // it ended, or the volume went, while we asked
		return err
	}
	if err != nil || held == nil {
		return err
	}
	select {
	case <-held.freed:
	case <-held.done:
	case <-ctx.Done():
		return refuse(ErrConflict, "volume %s is still held by its migration: try again", volumeID)
	}
	return nil
}

// aborting is the migration of the volume that was aborted and runs still, or empty: it may not have let go of the source.
func (e *Engine) aborting(volumeID string) string {
	e.mu.Lock()
	running := slices.Collect(maps.Keys(e.runs))
	e.mu.Unlock()
	for _, id := range running {
		if m, err := e.load(id); err == nil && m.VolumeID == volumeID && m.State == catalog.StateAborting {
			return id
		}
	}
	return ""
}

// Outcome is what this agent's half says of a migration to its target.
func (e *Engine) Outcome(_ context.Context, t Token) (OutcomeReply, error) {
	reply := OutcomeReply{Outcome: OutcomeUnknown, StoreID: e.o.Store.ID()}
	m, err := e.load(t.MigrationID)
	switch {
	case errors.Is(err, ErrNotFound):
		return reply, nil
	case err != nil:
		return reply, err
	case node(m.TargetHost) != t.Node:
		return reply, refuse(ErrRefused, "migration %s does not go to node %s", m.ID, t.Node)
	case m.State.Committed():
		reply.Outcome = OutcomeCommitted
	case m.State.BeforeCommit():
		reply.Outcome = OutcomeUndecided
	default:
		reply.Outcome, reply.Reason = OutcomeAborted, m.Reason
	}
	return reply, nil
}

// Manifest is the file of the manifest that describes the volume as it came here, or as it went: ErrNotFound.
func (e *Engine) Manifest(volumeID string) (string, error) {
	id, err := e.manifestOf(volumeID)
	if err != nil {
		return "", err
	}
	path := e.o.manifestPath(id)
	if _, err := os.Stat(path); id == "" || errors.Is(err, fs.ErrNotExist) {
		return "", refuse(ErrNotFound, "volume %s has no manifest here: it was not migrated", volumeID)
	} else if err != nil {
		return "", fmt.Errorf("manifest of volume %s: %w", volumeID, err)
	}
	return path, nil
}

// manifestOf is the migration whose manifest is the volume's newest, or empty.
func (e *Engine) manifestOf(volumeID string) (id string, err error) {
	err = e.o.Store.View(func(tx catalog.Tx) error {
		v, err := catalog.Volumes.Get(tx, volumeID)
		if err == nil && v.Manifest != "" {
			id = v.Manifest
			return nil
		}
		all, err := catalog.Migrations.All(tx)
		var newest time.Time
		for _, m := range all {
			if m.VolumeID == volumeID && m.Root != "" && m.CreatedAt.After(newest) {
				id, newest = m.ID, m.CreatedAt
			}
		}
		return err
	})
	return id, err
}
