package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Bolt is a Store and a Leaser in one file of bbolt, for one process.
type Bolt struct {
	path string
	file *os.File // bbolt's own, and closed by it
	db   *bolt.DB

	// id, created and openings never change.
	id       string
	created  time.Time
	openings uint64
	log      *slog.Logger
	observer Observer
	watchers watchers
	leases   leases
	room     room
	closed   atomic.Bool
	restored atomic.Bool

	// syncing is held while a commit becomes durable, for bbolt would show it to new readers before it is.
	syncing sync.RWMutex
	// failed is why the store answers nothing any more, meta its record as it was last committed; guarded by syncing.
	failed error
	meta   storeMeta

	views, commits, failures atomic.Uint64
}

// Observer takes durations in seconds; a prometheus.Histogram is one.
type Observer interface{ Observe(float64) }

// BoltStats are counters since OpenBolt, and sizes in bytes.
type BoltStats struct {
	Views, Commits, Failures uint64
	// UsedBytes of the file hold the store. RoomBytes more are allocated on the file system and hold nothing.
	UsedBytes, RoomBytes int64
}

// ID implements Store.
func (b *Bolt) ID() string { return b.id }

// Created is when the store was made.
func (b *Bolt) Created() time.Time { return b.created }

// Path is the store's file.
func (b *Bolt) Path() string { return b.path }

// View implements Store.
func (b *Bolt) View(fn func(Tx) error) error {
	tx, err := b.snapshot()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	b.views.Add(1)
	t := &boltTx{tx: tx}
	defer t.end()
	return fn(t)
}

// snapshot begins a transaction on the last durable state.
func (b *Bolt) snapshot() (*bolt.Tx, error) {
	b.syncing.RLock()
	defer b.syncing.RUnlock()
	if b.failed != nil {
		return nil, b.failed
	}
	tx, err := b.db.Begin(false)
	return tx, b.beginError(err)
}

// Update implements Store.
func (b *Bolt) Update(fn func(Tx) error) error {
	wrote, err := b.write(func(tx *bolt.Tx, m *storeMeta) (bool, error) {
		t := &boltTx{tx: tx, totals: &m.totals}
		defer t.end()
		err := fn(t)
		return t.wrote, err
	})
	if wrote && err == nil {
		b.watchers.notify()
	}
	return err
}

// write runs fn in a transaction, and commits what it wrote together with the record of the store, which fn may change.
func (b *Bolt) write(fn func(*bolt.Tx, *storeMeta) (wrote bool, err error)) (wrote bool, err error) {
	tx, err := b.db.Begin(true)
	if err != nil {
		return false, b.beginError(err)
	}
	defer tx.Rollback() // does nothing after the commit
	m, err := b.lastMeta()
	if err != nil {
		return false, err
	}
	if wrote, err = fn(tx, &m); err != nil || !wrote {
		return false, err
	}
	if err := saveMeta(tx, &m); err != nil {
		return false, err
	}
	if err := b.commit(tx, m); err != nil {
		b.failures.Add(1)
		return true, err
	}
	b.commits.Add(1)
	return true, nil
}

func (b *Bolt) commit(tx *bolt.Tx, m storeMeta) error {
	start := time.Now()
	if err := b.commitSync(tx, m); err != nil {
		return err
	}
	if b.observer != nil {
		b.observer.Observe(time.Since(start).Seconds())
	}
	if err := b.keepRoom(); err != nil {
		b.log.Debug("catalog has less room than it should", "path", b.path, "error", err)
	}
	return nil
}

// commitSync commits, and tells a full file system from failures after which the state is not known: a failed sync may
// have dropped pages, and what bbolt has mapped may not be what the medium holds.
func (b *Bolt) commitSync(tx *bolt.Tx, m storeMeta) error {
	b.syncing.Lock()
	defer b.syncing.Unlock()
	err := tx.Commit()
	if err == nil {
		b.meta = m
		return nil
	}
	if isFull(err) {
		return fmt.Errorf("commit to %s: %w: %w", b.path, ErrNoSpace, err)
	}
	b.failed = fmt.Errorf("commit to %s: %w: %w", b.path, ErrFailed, err)
	b.log.Error("catalog failed", "path", b.path, "error", err)
	return b.failed
}

// isFull says that a write of pages, before any sync, met a full file system or quota: bbolt then goes back to the
// state before, which is whole.
func isFull(err error) bool {
	var write *fs.PathError
	return errors.As(err, &write) && (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT))
}

// lastMeta is the record of the store for the one who writes next.
func (b *Bolt) lastMeta() (storeMeta, error) {
	b.syncing.RLock()
	defer b.syncing.RUnlock()
	return b.meta, b.failed
}

// beginError maps bbolt's refusal to begin a transaction.
func (b *Bolt) beginError(err error) error {
	if err == nil {
		return nil
	}
	if b.closed.Load() {
		return fmt.Errorf("%s: %w", b.path, ErrClosed)
	}
	return fmt.Errorf("%s: %w: %w", b.path, ErrFailed, err)
}

// Watch implements Store.
func (b *Bolt) Watch(ctx context.Context) <-chan struct{} { return b.watchers.add(ctx) }

// Close implements Store.
func (b *Bolt) Close() error {
	if b.closed.Swap(true) {
		return fmt.Errorf("%s: %w", b.path, ErrClosed)
	}
	b.watchers.close()
	b.leases.close()
	if err := b.db.Close(); err != nil {
		return fmt.Errorf("close %s: %w", b.path, err)
	}
	return nil
}

// Stats may be called at any time, also after Close.
func (b *Bolt) Stats() BoltStats {
	used, free := b.room.sizes()
	return BoltStats{
		Views: b.views.Load(), Commits: b.commits.Load(), Failures: b.failures.Load(),
		UsedBytes: used, RoomBytes: free,
	}
}
