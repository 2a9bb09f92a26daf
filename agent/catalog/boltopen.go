package catalog

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/internal/durable"
)

const (
	// fileMode: records name projects and users, and nobody but the agent has to read them.
	fileMode = 0o600
	// defaultLockTimeout is enough for an agent that is just ending.
	defaultLockTimeout = 5 * time.Second
	// lockRetry is the time between two attempts at the lock.
	lockRetry = 50 * time.Millisecond
	// mapSize is how much of the address space is mapped from the start. While the store is smaller, a commit never
	// waits for Views to end because of a new mapping. It costs no memory.
	mapSize = 256 << 20
)

// BoltOptions are for OpenBolt. The zero value is ready.
type BoltOptions struct {
	// LockTimeout is how long another process is waited for; 0 means 5 s.
	LockTimeout time.Duration
	// Reserve is the room for commits in bytes; 0 means DefaultReserve.
	Reserve int64
	// CommitDuration observes how long commits take, in seconds; nil allowed.
	CommitDuration Observer
	// Logger takes what an operator should know; nil discards it.
	Logger *slog.Logger
}

// OpenBolt opens the store in the file path, with the mode 0600, and makes it if there is none; its directory must
// exist. All pages and records are checked before anything is changed. Beside it the file path.session is kept.
//
// ErrLocked if another process has it open, ErrVersion if a newer agent wrote it, ErrCorrupt if it is damaged. The
// caller closes the store.
func OpenBolt(path string, o BoltOptions) (*Bolt, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, fileMode)
	if err != nil {
		return nil, fmt.Errorf("open catalog: %w", err)
	}
	b := &Bolt{path: path, file: file, log: o.Logger, observer: o.CommitDuration}
	b.room.reserve = o.Reserve
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	if b.room.reserve <= 0 {
		b.room.reserve = DefaultReserve
	}
	if o.LockTimeout <= 0 {
		o.LockTimeout = defaultLockTimeout
	}
	if err := guard(func() error { return b.open(o.LockTimeout) }); err != nil {
		file.Close()
		return nil, fmt.Errorf("open catalog: %w", b.wayOut(err))
	}
	return b, nil
}

// guard returns a panic of fn, or a fault of it in mapped memory, as ErrCorrupt: both are bbolt's answer to damage.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrCorrupt, r)
		}
	}()
	return fn()
}

// wayOut adds the file, and what to do about it.
func (b *Bolt) wayOut(err error) error {
	switch {
	case errors.Is(err, ErrLocked):
		return fmt.Errorf("%s: %w: one agent at a time may have it; stop the other one", b.path, err)
	case errors.Is(err, ErrVersion):
		return fmt.Errorf("%s: %w: start the agent of that version, or a newer one", b.path, err)
	case errors.Is(err, ErrCorrupt):
		return fmt.Errorf("%s: %w: keep this file for inquiry, put the latest backup in its place, remove %s, start again",
			b.path, err, b.path+openingsSuffix)
	}
	return fmt.Errorf("%s: %w", b.path, err)
}

func (b *Bolt) open(patience time.Duration) error {
	if err := lock(b.file, patience, b.log); err != nil {
		return err
	}
	torn, err := b.check()
	if err != nil {
		return err
	}
	b.db, err = bolt.Open(b.path, fileMode, &bolt.Options{
		OpenFile:        func(string, int, os.FileMode) (*os.File, error) { return b.file, nil },
		FreelistType:    bolt.FreelistMapType,
		InitialMmapSize: mapSize,
	})
	if err != nil {
		return err
	}
	if err := durable.SyncDir(filepath.Dir(b.path)); err != nil {
		return errors.Join(err, b.db.Close())
	}
	if err := b.begin(torn); err != nil {
		return errors.Join(err, b.db.Close())
	}
	if err := b.keepRoom(); err != nil {
		b.log.Warn("catalog has less room than it should; new work will be refused", "path", b.path, "error", err)
	}
	return nil
}

// lock takes the file for this process, with the lock that bbolt takes too. If it has to wait it says so, once.
func lock(file *os.File, patience time.Duration, log *slog.Logger) error {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	tick := time.NewTicker(lockRetry)
	defer tick.Stop()
	told := false
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			return os.NewSyscallError("flock", err)
		}
		if err == unix.EWOULDBLOCK && !told {
			told = true
			log.Warn("another process has the catalog: waiting for it to end", "path", file.Name(), "patience", patience)
		}
		select {
		case <-timeout.C:
			return ErrLocked
		case <-tick.C:
		}
	}
}

// check looks at the pages of a file that is not new.
func (b *Bolt) check() (torn bool, err error) {
	info, err := b.file.Stat()
	switch {
	case err != nil:
		return false, err
	case !info.Mode().IsRegular():
		return false, errors.New("not a regular file")
	case info.Size() == 0:
		return false, nil
	}
	if torn, err = checkPages(b.file, info.Size()); err != nil {
		return false, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return torn, nil
}

// begin checks the records, or makes the tables, and counts the opening. The count is written to the store first and to
// the file then: a crash in between leaves the file behind the store, which means nothing.
func (b *Bolt) begin(torn bool) error {
	before, err := readOpenings(b.path)
	if err != nil {
		return err
	}
	_, err = b.write(func(tx *bolt.Tx, m *storeMeta) (bool, error) {
		isNew, err := load(tx, m)
		if err != nil {
			return false, err
		}
		m.Restored = m.Restored || torn || wentBack(tx, *m, before, isNew)
		m.Openings = max(m.Openings, before.Openings) + 1
		return true, nil
	})
	if err != nil {
		return err
	}
	b.id, b.created, b.openings = b.meta.StoreID, b.meta.Created, b.meta.Openings
	if b.restored.Store(b.meta.Restored); b.meta.Restored {
		b.log.Warn("catalog is older than it was before", "path", b.path, "openings", b.openings)
	}
	return writeOpenings(b.path, openings{Version: 1, StoreID: b.id, Openings: b.openings})
}
