package file

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
)

// The bytes of QEMU's locks, RAW_LOCK_PERM_BASE and RAW_LOCK_SHARED_BASE of its block/file-posix.c, and the numbers of
// the permissions that we use, BLK_PERM_* of its block-common.h.
const (
	usesBase     = 100
	unsharedBase = 200

	permRead   = 0
	permWrite  = 1
	permResize = 3
	permCount  = 4
)

// The kernel's check for other opens is made again this often before it counts: a process that is being started holds
// copies of our descriptors, also closed ones, until its exec.
const (
	leaseTries = 10
	leasePause = 10 * time.Millisecond
)

// users counts the open devices of a volume by what they ask of others.
type users struct {
	readers, writers, exclusive int
}

// add counts a device of that mode, n times (-1 takes it away). Medium readers ask for nothing.
func (u *users) add(mode dataplane.Mode, n int) {
	switch {
	case mode.Medium:
		return
	case mode.ReadOnly:
		u.readers += n
	default:
		u.writers += n
	}
	if mode.Exclusive {
		u.exclusive += n
	}
}

// bytes are the lock bytes that all of them need together.
func (u *users) bytes() map[int64]bool {
	need := make(map[int64]bool)
	if u.readers+u.writers > 0 {
		need[usesBase+permRead] = true
	}
	if u.writers > 0 {
		need[usesBase+permWrite] = true
	}
	if u.writers+u.exclusive > 0 {
		need[unsharedBase+permWrite] = true
		need[unsharedBase+permResize] = true
	}
	if u.exclusive > 0 {
		need[unsharedBase+permRead] = true
	}
	return need
}

// locks are the locks of one volume, on a description of their own. The caller serialises the calls.
type locks struct {
	fd   int
	held map[int64]bool
}

// change makes the held bytes those that are needed. It fails with ErrBusy, and what was held, if someone else's bytes
// are opposed.
func (l *locks) change(need map[int64]bool) error {
	var added []int64
	for at := range need {
		if l.held[at] {
			continue
		}
		if err := l.set(at, unix.F_RDLCK); err != nil {
			l.drop(added)
			return err
		}
		added = append(added, at)
	}
	// Looked at after locking: of two that come at the same time each sees the other.
	for _, at := range added {
		if err := l.opposed(at); err != nil {
			l.drop(added)
			return err
		}
	}
	for at := range l.held {
		if !need[at] {
			l.drop([]int64{at})
		}
	}
	return nil
}

func (l *locks) set(at int64, kind int16) error {
	lock := unix.Flock_t{Type: kind, Start: at, Len: 1}
	err := again(func() error { return unix.FcntlFlock(uintptr(l.fd), unix.F_OFD_SETLK, &lock) })
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("someone holds a lock on all of it: %w", dataplane.ErrBusy)
	}
	if err == nil && kind == unix.F_RDLCK {
		l.held[at] = true
	}
	return err
}

// drop unlocks; closing would do it as well, but not while a process that is being started has a copy.
func (l *locks) drop(bytes []int64) {
	for _, at := range bytes {
		_ = l.set(at, unix.F_UNLCK)
		delete(l.held, at)
	}
}

// opposed looks whether someone holds the byte that contradicts this one.
func (l *locks) opposed(at int64) error {
	opposite := at - unsharedBase + usesBase
	if at < usesBase+permCount {
		opposite = at - usesBase + unsharedBase
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: opposite, Len: 1}
	if err := again(func() error { return unix.FcntlFlock(uintptr(l.fd), unix.F_OFD_GETLK, &lock) }); err != nil {
		return err
	}
	if lock.Type != unix.F_UNLCK {
		return fmt.Errorf("someone outside has it open, lock byte %d: %w", opposite, dataplane.ErrBusy)
	}
	return nil
}

// alone asks the kernel whether fd is the only open description of its file: ErrBusy if not. Where it can't tell (no
// leases on this file system, a file of another user) the answer is nil.
func alone(ctx context.Context, fd int) error {
	for try := 1; ; try++ {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_WRLCK)
		if err == nil {
			_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
			return err
		}
		if err != unix.EAGAIN {
			return nil
		}
		if try == leaseTries {
			return fmt.Errorf("someone outside has it open, without a lock: %w", dataplane.ErrBusy)
		}
		select {
		case <-time.After(leasePause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
