package migration

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/nbd"
	"github.com/cvold/cvold/transfer"
)

// Limits of the target's half.
const (
	// fenceWait bounds the drain of an attempt's export, and its device's Close.
	fenceWait = 30 * time.Second
	// readyWait is how long one call of Ready waits for the read-back before it answers "not yet".
	readyWait = 2 * time.Second
	// highWater is the part of a back end, in percent, past which a copy is stopped: a full file system hurts others.
	highWater = 95
	// overSubscription is Cinder's default max_over_subscription_ratio: how many times a back end's capacity may be
	// promised, since volumes are thin.
	overSubscription = 20
	// guestsMax is how many migrations may come here at the same time.
	guestsMax = 64
)

// TargetOptions are what the target's half needs beside Options.
type TargetOptions struct {
	Options
	// NBD serves the targets.
	NBD *nbd.Server
	// Address is where peers reach NBD; Unix is where this agent itself does. Their Export is not set.
	Address, Unix NBDAddress
	// Version of the agent, for Describe.
	Version string
	// AskEvery: see DefaultAskEvery, which 0 means.
	AskEvery time.Duration
}

// Target is the target's half: it makes objects for volumes that come here, and becomes their owner. All methods may be
// called at the same time; the calls of one migration wait for one another. Close it before the store and the volumes.
type Target struct {
	o TargetOptions

	mu       sync.Mutex
	sessions map[string]*session
	closed   bool

	ctx  context.Context
	stop context.CancelCauseFunc
	wg   sync.WaitGroup
}

// session is what the target holds open for one migration.
type session struct {
	mu   sync.Mutex // held by one call of this migration at a time
	refs int        // guarded by Target.mu

	attempt uint64
	device  dataplane.Device
	export  string
	medium  dataplane.Device
	reads   *reads // of medium; nil when it is
	verify  *readBack
	reply   PrepareReply
}

// idle says that nothing is held.
func (s *session) idle() bool {
	return s.device == nil && s.export == "" && s.medium == nil && s.verify == nil
}

// NewTarget makes the target's half. Start it.
func NewTarget(o TargetOptions) *Target {
	if o.AskEvery == 0 {
		o.AskEvery = DefaultAskEvery
	}
	ctx, stop := context.WithCancelCause(context.Background())
	return &Target{o: o, sessions: map[string]*session{}, ctx: ctx, stop: stop}
}

// lock holds a migration's calls and gives back what ends it.
func (t *Target) lock(id string) (unlock func()) {
	_, unlock = t.session(id)
	return unlock
}

// session locks what is held for a migration; that is dropped with the lock when it is nothing.
func (t *Target) session(id string) (s *session, unlock func()) {
	s = t.refer(id)
	s.mu.Lock()
	return s, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		defer s.mu.Unlock()
		t.drop(id, s)
	}
}

// freeSession is session if no call holds it now; with one that does, free is false.
func (t *Target) freeSession(id string) (s *session, unlock func(), free bool) {
	s = t.refer(id)
	free = s.mu.TryLock()
	return s, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if free {
			defer s.mu.Unlock()
		}
		t.drop(id, s)
	}, free
}

// refer finds or makes a session, which stays until drop.
func (t *Target) refer(id string) *session {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.sessions[id]
	if s == nil {
		s = &session{}
		t.sessions[id] = s
	}
	s.refs++
	return s
}

// drop gives a reference back, with t.mu held.
func (t *Target) drop(id string, s *session) {
	s.refs--
	if s.refs == 0 && s.idle() {
		delete(t.sessions, id)
	}
}

// load reads a guest's record: ErrUnknown.
func (t *Target) load(id string) (g catalog.Guest, err error) {
	err = t.o.Store.View(func(tx catalog.Tx) error {
		g, err = catalog.Guests.Get(tx, id)
		return err
	})
	if errors.Is(err, catalog.ErrNotFound) {
		return g, refuse(ErrUnknown, "no migration %s comes here", id)
	}
	return g, err
}

func (t *Target) all() (all []catalog.Guest, err error) {
	err = t.o.Store.View(func(tx catalog.Tx) error {
		all, err = catalog.Guests.All(tx)
		return err
	})
	return all, err
}

// update changes a guest's record in one transaction and gives back what it became.
func (t *Target) update(ctx context.Context, id string, touch Touch, fn func(tx catalog.Tx, g *catalog.Guest) error) (g catalog.Guest, err error) {
	err = t.o.touch(ctx, id, touch, func() error {
		return t.o.Store.Update(func(tx catalog.Tx) error {
			if g, err = catalog.Guests.Get(tx, id); err != nil {
				return err
			}
			if err := fn(tx, &g); err != nil {
				return err
			}
			g.UpdatedAt = time.Now().UTC()
			return catalog.Guests.Put(tx, id, g)
		})
	})
	return g, err
}

// check holds a call's token against the record: the caller, its store, the epoch and the attempt.
func check(g catalog.Guest, k Token) error {
	switch {
	case g.SourceNode != k.Node:
		return refuse(ErrRefused, "migration %s belongs to node %s, not %s", g.MigrationID, g.SourceNode, k.Node)
	case g.SourceStoreID != k.StoreID:
		return refuse(ErrInDoubt, "migration %s belongs to the store %s, not %s", g.MigrationID, g.SourceStoreID, k.StoreID)
	case g.Epoch != k.Epoch:
		return refuse(ErrStale, "migration %s is of epoch %d, not %d", g.MigrationID, g.Epoch, k.Epoch)
	case k.Attempt < g.Attempt:
		return refuse(ErrStale, "migration %s is at attempt %d; a call of attempt %d is too late", g.MigrationID, g.Attempt, k.Attempt)
	}
	return nil
}

// geometry of a guest's transfer.
func geometry(g catalog.Guest) (transfer.Geometry, error) {
	algorithm, err := transfer.ParseAlgorithm(g.Algorithm)
	return transfer.Geometry{VolumeSize: g.Target.Size, ChunkSize: g.ChunkSize, Algorithm: algorithm}, err
}

// fence ends what a session holds: no request of the attempt is in flight any more when it returns nil. On an error
// nothing may be built on the object, for a write may still land; what hangs is then still held, and fence may be called
// again to wait for it.
func (t *Target) fence(ctx context.Context, s *session) error {
	if err := t.endWriting(ctx, s); err != nil {
		return err
	}
	// A device that is closed while a call hangs in it is abandoned for good, so the calls come first.
	if err := t.endReading(ctx, s); err != nil {
		return err
	}
	var failed error
	for _, d := range []*dataplane.Device{&s.device, &s.medium} {
		if *d != nil {
			if err := (*d).Close(); errors.Is(err, dataplane.ErrAbandoned) {
				failed = err
			}
			*d = nil
		}
	}
	s.attempt = 0
	return failed
}

// endWriting ends the read-back and the export of a session, and leaves its devices.
func (t *Target) endWriting(ctx context.Context, s *session) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fenceWait)
	defer cancel()
	if s.verify != nil {
		if err := s.verify.end(ctx); err != nil {
			return err
		}
		s.verify = nil
	}
	if s.export == "" {
		return nil
	}
	if err := t.o.NBD.Remove(ctx, s.export); err != nil && !errors.Is(err, nbd.ErrNoExport) {
		return fmt.Errorf("drain export %s: %w", s.export, err)
	}
	s.export = ""
	return nil
}

// endReading ends the calls of Digests of a session.
func (t *Target) endReading(ctx context.Context, s *session) error {
	if s.reads == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fenceWait)
	defer cancel()
	if err := s.reads.end(ctx); err != nil {
		return err
	}
	s.reads = nil
	return nil
}

// goes runs fn in a goroutine that Close waits for; ErrBusy once Close was called.
func (t *Target) goes(fn func()) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return refuse(ErrBusy, "the agent shuts down")
	}
	t.wg.Go(fn)
	return nil
}

// Close lets go of everything without changing a record: what is under way goes on after the next start. It waits a
// bounded time, and leaves what hangs with a back end to whoever closes the devices.
func (t *Target) Close(ctx context.Context) error {
	t.stop(errShutdown)
	t.mu.Lock()
	t.closed = true
	open := make([]string, 0, len(t.sessions))
	for id := range t.sessions {
		open = append(open, id)
	}
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, fenceWait)
	defer cancel()
	fenced := make(chan error, len(open))
	for _, id := range open {
		t.wg.Go(func() {
			s, unlock := t.session(id)
			defer unlock()
			fenced <- t.fence(ctx, s)
		})
	}
	done := make(chan struct{})
	go func() { t.wg.Wait(); close(done) }()
	var failed []error
	select {
	case <-done:
	case <-ctx.Done():
		failed = append(failed, context.Cause(ctx))
	}
	for range len(fenced) {
		failed = append(failed, <-fenced)
	}
	return errors.Join(failed...)
}
