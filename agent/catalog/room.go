package catalog

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// bbolt never writes over pages in use, so each commit needs free ones, and it grows its file by truncate, which
// allocates nothing: on a full file system a commit would fail, also the one that hands a volume over. So the file is
// allocated ahead of its use, and that room is given to no one: new work asks Room first.

// DefaultReserve is the room in bytes that is held ready: enough for a dozen records of the largest size with their
// pages, and for thousands of usual ones.
const DefaultReserve = 16 * MaxRecord

// room tells what of the file is allocated.
type room struct {
	reserve int64

	mu        sync.Mutex
	used      int64 // the end of the pages that were ever used
	allocated int64 // all before this offset is allocated on the file system
	// unsupported says that the file system cannot allocate ahead.
	unsupported bool
}

func (r *room) sizes() (used, free int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.used, max(0, r.allocated-r.used)
}

// Room is nil if the room for commits is whole, or can be made so, else ErrNoSpace. It is what the function Room asks.
// On a file system that cannot allocate ahead (NFS, ZFS) it is always nil.
func (b *Bolt) Room() error { return b.keepRoom() }

// keepRoom measures the room after a commit and makes it whole if it can.
func (b *Bolt) keepRoom() error {
	tx, err := b.snapshot()
	if err != nil {
		return err
	}
	used := tx.Size()
	if err := tx.Rollback(); err != nil {
		return err
	}
	b.room.mu.Lock()
	defer b.room.mu.Unlock()
	b.room.used = max(b.room.used, used)
	// A commit that grows the file must not cut off what is allocated here.
	b.syncing.RLock()
	defer b.syncing.RUnlock()
	if err := b.room.keep(b.file); err != nil {
		return fmt.Errorf("%s: %w", b.path, err)
	}
	return nil
}

// keep allocates more when less than the reserve is left: twice as much, so that it is not needed after each commit,
// else just enough, else what the file has, which takes no space if it is a file of ours.
func (r *room) keep(file *os.File) error {
	if r.unsupported || r.allocated-r.used >= r.reserve {
		return nil
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	for _, end := range []int64{r.used + 2*r.reserve, r.used + r.reserve, info.Size()} {
		if err = allocate(file, end); err == nil {
			r.allocated = max(r.allocated, end)
			break
		}
	}
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
		r.unsupported = true
		return nil
	case r.allocated-r.used >= r.reserve:
		return nil
	}
	return fmt.Errorf("%d of %d bytes are left for commits: %w: %w", max(0, r.allocated-r.used), r.reserve, ErrNoSpace, err)
}

// allocate gives the file's first size bytes their place on the file system. The file becomes no shorter.
func allocate(file *os.File, size int64) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var callErr error
	err = raw.Control(func(fd uintptr) {
		for callErr = unix.EINTR; callErr == unix.EINTR; {
			callErr = unix.Fallocate(int(fd), 0, 0, size)
		}
	})
	if err = errors.Join(err, callErr); err != nil {
		return err
	}
	return file.Sync()
}
