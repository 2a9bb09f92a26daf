package view

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
)

// How a view is called in the table of mounts: "cvold" of type "fuse.cvold".
const (
	sourceName = "cvold"
	typeName   = "cvold"
	mountType  = "fuse." + typeName
)

const (
	// staleTimeout is how long a mount that stands in the way is asked whether it lives.
	staleTimeout = 5 * time.Second
	// maxStale bounds how many dead views, one over another, are taken away.
	maxStale = 16
)

// mount is the kernel's side of a view.
type mount struct {
	point  string
	direct bool // by mount(2); else through fusermount3
}

// attach mounts, and returns the mountpoint as the library wants it: a device that is mounted already, or the path for
// fusermount3.
//
// The direct mount is not left to the library, because its descriptor would be inherited by programs that this process
// starts, and the mount would hang instead of being dead when this process is killed and they live on.
func (m mount) attach(others bool) (string, error) {
	if !m.direct {
		return m.point, nil
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("open /dev/fuse: %w", err)
	}
	data := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d,max_read=%d", fd, os.Geteuid(), os.Getegid(), requestSize)
	if others {
		data += ",allow_other,default_permissions"
	}
	const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount(sourceName, m.point, mountType, flags, data); err != nil {
		_ = unix.Close(fd)
		return "", err
	}
	return "/dev/fd/" + strconv.Itoa(fd), nil // the library's from now on
}

// abandon takes back a mount that nobody answers for.
func (m mount) abandon() error {
	if !m.direct {
		return nil // fusermount3 has not mounted, or the library has undone it
	}
	return m.cut()
}

// detach unmounts. A mount in use is detached with ErrBusy as the answer: for root its connection is cut too, so that
// its users get errors at once; for others they may go on until they close.
func (m mount) detach(ctx context.Context) error {
	if m.direct {
		return m.detachDirect()
	}
	if err := fusermount(ctx, "-u", m.point); err == nil || !m.stands() {
		return nil
	}
	if err := fusermount(ctx, "-u", "-z", m.point); err != nil {
		return err
	}
	return errInUse
}

var errInUse = fmt.Errorf("it was detached while in use: %w", dataplane.ErrBusy)

func (m mount) detachDirect() error {
	if !m.stands() { // somebody has unmounted it; what is there now is not ours
		return nil
	}
	err := unix.Unmount(m.point, unix.UMOUNT_NOFOLLOW)
	if !errors.Is(err, unix.EBUSY) {
		return err
	}
	if err := m.cut(); err != nil {
		return err
	}
	return errInUse
}

// cut detaches the mount and aborts its connection: FUSE does so when it is told to unmount by force.
func (m mount) cut() error {
	err := unix.Unmount(m.point, unix.MNT_FORCE|unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EPERM) { // force is for the root of the machine, not of a container
		err = unix.Unmount(m.point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
	return err
}

func fusermount(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "fusermount3", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("fusermount3 %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// stands says whether a view is mounted at the point.
func (m mount) stands() bool {
	kind, err := mountedAt(m.point)
	return err == nil && kind == mountType
}

// detachStale takes away views that killed processes left at the point.
func (m mount) detachStale(ctx context.Context) error {
	for range maxStale {
		kind, err := mountedAt(m.point)
		if err != nil || !strings.HasPrefix(kind, "fuse") {
			return err
		}
		if kind != mountType {
			return fmt.Errorf("a file system of type %s is mounted: %w", kind, dataplane.ErrBusy)
		}
		if err := m.isDead(ctx); err != nil {
			return err
		}
		if err := m.detachDead(ctx); err != nil {
			return fmt.Errorf("detach a dead view: %w", err)
		}
	}
	return fmt.Errorf("more than %d dead views: %w", maxStale, dataplane.ErrBusy)
}

func (m mount) detachDead(ctx context.Context) error {
	if m.direct {
		return unix.Unmount(m.point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
	return fusermount(ctx, "-u", "-z", m.point)
}

// isDead is nil if no process answers for the mount any more: the kernel says so at once. Another process's view may hang
// instead; then the goroutine that asks is left behind, because nothing can end its call.
func (m mount) isDead(ctx context.Context) error {
	answer := make(chan error, 1)
	go func() {
		var st unix.Statfs_t
		answer <- unix.Statfs(m.point, &st)
	}()
	timer := time.NewTimer(staleTimeout)
	defer timer.Stop()
	select {
	case err := <-answer:
		if errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED) {
			return nil
		}
		return fmt.Errorf("a view of another process is mounted: %w", dataplane.ErrBusy)
	case <-timer.C:
		return fmt.Errorf("a view that does not answer is mounted: %w", dataplane.ErrBusy)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// mountedAt is the type of the file system that is mounted at the path, topmost, and "" if none is. It reads the table
// of mounts and does not touch the path.
func mountedAt(path string) (string, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	kind := ""
	for line := range strings.Lines(string(table)) {
		if point, now, ok := parseMountinfo(strings.TrimSuffix(line, "\n")); ok && point == path {
			kind = now
		}
	}
	return kind, nil
}

// parseMountinfo takes mountpoint and type from a line of /proc/self/mountinfo, as proc_pid_mountinfo(5) has it: six
// fields, any number of optional ones, a hyphen, the type.
func parseMountinfo(line string) (point, kind string, ok bool) {
	fields := strings.Split(line, " ")
	for i := 6; i+1 < len(fields); i++ {
		if fields[i] == "-" {
			return unescape(fields[4]), fields[i+1], true
		}
	}
	return "", "", false
}

// unescape undoes the kernel's octal escapes of space, tab, newline and backslash.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		if len(s) >= 4 && s[0] == '\\' {
			if c, err := strconv.ParseUint(s[1:4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				s = s[4:]
				continue
			}
		}
		b.WriteByte(s[0])
		s = s[1:]
	}
	return b.String()
}
