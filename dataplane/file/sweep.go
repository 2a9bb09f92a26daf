package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The names that are the driver's own.
const (
	lockName      = ".cvold-lock"
	newPrefix     = ".cvold-new-"  // and an object id: a file that is not finished
	sidecarPrefix = ".cvold-mark-" // and an inode number: the mark of a file beside it
	sidecarSuffix = ".mark"        // of a sidecar that is not finished
)

// dirLockRetry is how often a lock that another process holds is tried again: it holds it for a few syncs.
const dirLockRetry = 5 * time.Millisecond

// dirLock lets one goroutine of all processes change the directory. The kernel releases it when its holder is killed,
// so who has it knows that nobody is in the middle of something.
type dirLock struct {
	fd    int
	local chan struct{}
}

func openDirLock(dir int) (dirLock, error) {
	fd, err := openat(dir, lockName, unix.O_RDWR|unix.O_CREAT, 0o600)
	if err != nil {
		return dirLock{fd: -1}, fmt.Errorf("open the lock: %w", err)
	}
	return dirLock{fd: fd, local: make(chan struct{}, 1)}, nil
}

func (l dirLock) take(ctx context.Context) (release func(), err error) {
	select {
	case l.local <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := l.takeForeign(ctx); err != nil {
		<-l.local
		return nil, err
	}
	return func() {
		_ = unix.FcntlFlock(uintptr(l.fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK})
		<-l.local
	}, nil
}

// takeForeign takes the lock from other processes (and other drivers of this one).
func (l dirLock) takeForeign(ctx context.Context) error {
	for {
		err := again(func() error {
			return unix.FcntlFlock(uintptr(l.fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
		})
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) {
			return err
		}
		select {
		case <-time.After(dirLockRetry):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// names lists the directory.
func (d *Driver) names() ([]string, error) {
	// Opened anew, because a description has one position in the directory.
	fd, err := openat(d.dir, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), d.config.Directory)
	defer func() { _ = f.Close() }()
	return f.Readdirnames(-1)
}

// sweep removes what a killed process left: files not finished, and marks of files that are gone. The directory's lock
// is held, so none of them belongs to anybody alive.
func (d *Driver) sweep() error {
	names, err := d.names()
	if err != nil {
		return err
	}
	var sidecars []uint64
	removed := false
	for _, name := range names {
		if unfinished(name) {
			if err := unix.Unlinkat(d.dir, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("remove %s: %w", name, err)
			}
			removed = true
		} else if inode, ok := sidecarOf(name); ok {
			sidecars = append(sidecars, inode)
		}
	}
	if removed {
		if err := d.syncDir(); err != nil {
			return err
		}
	}
	return d.sweepSidecars(names, sidecars)
}

func (d *Driver) sweepSidecars(names []string, sidecars []uint64) error {
	if len(sidecars) == 0 {
		return nil
	}
	present := make(map[uint64]bool)
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(d.dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil {
			present[st.Ino] = true
		} else if !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	for _, inode := range sidecars {
		if present[inode] {
			continue
		}
		if err := (sidecarMarks{}).remove(d.dir, inode); err != nil {
			return fmt.Errorf("remove the mark of inode %d: %w", inode, err)
		}
	}
	return nil
}

// unfinished says whether a name is exactly one that Create gives to what is not finished.
func unfinished(name string) bool {
	id, ok := strings.CutPrefix(strings.TrimSuffix(name, sidecarSuffix), newPrefix)
	if !ok || len(id) != 2*objectIDSize {
		return false
	}
	return strings.Trim(id, "0123456789abcdef") == ""
}

func sidecarOf(name string) (inode uint64, ok bool) {
	number, ok := strings.CutPrefix(name, sidecarPrefix)
	if !ok {
		return 0, false
	}
	inode, err := strconv.ParseUint(number, 10, 64)
	return inode, err == nil && sidecarName(inode) == name
}
