package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"unicode"
	"unicode/utf8"
)

// The errors of a store; they come wrapped with the file, table or key they are about.
var (
	// ErrNotFound: no record has the key.
	ErrNotFound = errors.New("no such record")
	// ErrInvalid: no such table, or a key or record that a store does not take. Nothing was written.
	ErrInvalid = errors.New("not a valid record")
	// ErrReadOnly: a write in a View or inside Each.
	ErrReadOnly = errors.New("cannot write here")
	// ErrLocked: another process has the store open.
	ErrLocked = errors.New("store is in use by another agent")
	// ErrVersion: the store was written by a newer agent.
	ErrVersion = errors.New("store is of a newer version")
	// ErrCorrupt: the store's file, or a record in it, is damaged.
	ErrCorrupt = errors.New("store is damaged")
	// ErrNoSpace: the file system is full. Nothing was written.
	ErrNoSpace = errors.New("no space for the store")
	// ErrFailed: an earlier commit broke off, and whether it is durable is not known: the store answers nothing any
	// more and has to be opened anew, which finds out.
	ErrFailed = errors.New("store failed")
	// ErrClosed: the store was closed, or the View or Update that a Tx belongs to is over.
	ErrClosed = errors.New("store is closed")
)

const (
	// MaxKey is the longest key in bytes: the width of Cinder's column for host, the longest of our keys.
	MaxKey = 255
	// MaxRecord is the longest record in bytes. A record has about one kilobyte, a migration with a long history a few
	// dozen; the limit keeps a commit inside the room that the store holds ready.
	MaxRecord = 256 << 10
)

// Tx reads and writes records inside one View or Update, in the goroutine that runs fn, and no longer than that
// (ErrClosed). Each sees what was put before it in the same Tx.
type Tx interface {
	// Get returns a copy of the record: ErrNotFound, ErrCorrupt.
	Get(table, key string) ([]byte, error)
	// Put writes the record, over an older one. ErrInvalid for an unknown table, a key or a record outside the limits;
	// ErrReadOnly in a View or inside Each.
	Put(table, key string, value []byte) error
	// Delete removes the record; deleting nothing is success. ErrInvalid and ErrReadOnly as Put.
	Delete(table, key string) error
	// Each calls fn with a copy of every record, in the order of the keys' bytes, and returns fn's first error as it is.
	// fn may read but not write.
	Each(table string, fn func(key string, value []byte) error) error
}

// Store keeps records. All methods may be called at the same time. View and Update are not to be called inside one
// another, nor Close inside either; fn is short and does no I/O.
type Store interface {
	// ID is the store_id: a UUID made once with the store.
	ID() string
	// View runs fn on one state of the store, which no Update changes under it. What it sees is durable.
	View(fn func(Tx) error) error
	// Update runs fn alone among writers. All that fn wrote is durable when Update returns nil, and none of it is there
	// when fn returned an error, which comes back as it is, or panicked. fn may run again: it has no effects but its
	// writes. ErrNoSpace, ErrFailed.
	Update(fn func(Tx) error) error
	// Watch returns a channel that holds a token after Updates that wrote something; tokens not taken merge into one.
	// It is closed when ctx ends or the store closes.
	Watch(ctx context.Context) <-chan struct{}
	// Close waits for Views and Updates that run and ends watches and leases. A second Close is ErrClosed.
	Close() error
}

// Leaser gives the right to act alone.
type Leaser interface {
	// Acquire waits until nobody holds the lease of that name, or ctx ends. The name keeps the rules for keys.
	Acquire(ctx context.Context, name string) (Lease, error)
}

// Lease is the right to act alone in the name it was acquired for, until Release or until Done is closed.
type Lease interface {
	// Token is larger than the token of every lease that was ever granted before, also across restarts. Who acts
	// passes it on; who is acted on refuses a token lower than the highest it has seen.
	Token() uint64
	// Done is closed when the lease is over: released, or lost.
	Done() <-chan struct{}
	// Release gives the lease up. A second Release does nothing.
	Release() error
}

// Room says whether store has the space to take on new work: nil, or ErrNoSpace. A store that holds space ready for its
// commits has a method Room; before work is begun that must later be committed (a volume is created, a migration
// accepted or prepared) it is asked, so that the commit at the end does not find the disk full.
func Room(store Store) error {
	if s, ok := store.(interface{ Room() error }); ok {
		return s.Room()
	}
	return nil
}

// checkTable refuses tables that do not exist, so that a misspelt name is not an empty table.
func checkTable(table string) error {
	if !slices.Contains(tables, table) {
		return fmt.Errorf("table %q: %w", table, ErrInvalid)
	}
	return nil
}

// checkKey holds keys to what ids and hosts look like: text of bounded length without control characters.
func checkKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("empty key: %w", ErrInvalid)
	case len(key) > MaxKey:
		return fmt.Errorf("key of %d bytes, %d are allowed: %w", len(key), MaxKey, ErrInvalid)
	case !utf8.ValidString(key):
		return fmt.Errorf("key %q is not UTF-8: %w", key, ErrInvalid)
	}
	for _, r := range key {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("key %q has a character that does not print: %w", key, ErrInvalid)
		}
	}
	return nil
}
