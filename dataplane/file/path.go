package file

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
)

// OpenPath opens a file or a block device that is no volume of ours, for commands without a daemon. A file's blocks are
// bytes, a block device's its logical blocks. The size is that at the time of opening.
//
// Who writes excludes other writers, by QEMU's locks; a block device that is mounted, or in use otherwise, is not opened
// for writing. Exclusive excludes readers with QEMU's locks, too, and on a file that has other openers it fails.
// ErrBusy, ErrNotFound, ErrReadOnly; ErrNotSupported for what is neither file nor block device. The caller closes it.
func OpenPath(ctx context.Context, path string, mode dataplane.Mode) (dataplane.Device, error) {
	if mode.Medium {
		mode = dataplane.Mode{Medium: true, ReadOnly: true}
	}
	d, err := openPath(ctx, path, mode)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, border(err))
	}
	return d, nil
}

// FromFile makes a device of a file or block device that is open already, as OpenPath would, but takes no lock: it is for a
// command that stands in for one that takes none. It has a descriptor of its own, which shares f's flags; O_DIRECT in
// them asks for aligned writes, and with mode.Medium reads may be of any range. f stays the caller's.
func FromFile(f *os.File, mode dataplane.Mode) (dataplane.Device, error) {
	var d *device
	err := withFD(f, func(open uintptr) error {
		flags, err := unix.FcntlInt(open, unix.F_GETFL, 0)
		if err != nil {
			return err
		}
		fd, err := unix.FcntlInt(open, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if d, err = newPathDevice(fd, f.Name(), mode, mode.Medium && flags&unix.O_DIRECT != 0); err != nil {
			_ = unix.Close(fd)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", f.Name(), border(err))
	}
	return d, nil
}

// withFD calls do with the file's descriptor, which stays open meanwhile.
func withFD(f *os.File, do func(fd uintptr) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var done error
	err = conn.Control(func(fd uintptr) { done = do(fd) })
	return errors.Join(err, done)
}

func openPath(ctx context.Context, path string, mode dataplane.Mode) (dataplane.Device, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nil, err
	}
	if err := checkKind(&st); err != nil {
		return nil, err
	}
	kind := st.Mode & unix.S_IFMT
	fd, direct, err := openRaw(path, mode, kind == unix.S_IFBLK)
	if err != nil {
		return nil, err
	}
	d, err := newPathDevice(fd, path, mode, direct)
	if err == nil && kind == unix.S_IFREG && mode.Exclusive {
		err = alone(ctx, fd)
	}
	held := locks{fd: fd, held: make(map[int64]bool)}
	if err == nil && mode.Direct && !mode.Medium {
		err = d.goDirect()
	}
	if err == nil {
		var u users
		u.add(mode, 1)
		err = held.change(u.bytes())
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return d, nil
}

// openRaw opens the path; for Medium past the page cache, if that can be.
func openRaw(path string, mode dataplane.Mode, block bool) (fd int, direct bool, err error) {
	flags := unix.O_RDWR | unix.O_CLOEXEC | unix.O_NONBLOCK
	if mode.ReadOnly {
		flags = unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK
	}
	if block && (!mode.ReadOnly || mode.Exclusive) {
		flags |= unix.O_EXCL // of a block device: EBUSY if it is mounted or claimed
	}
	open := func(flags int) error {
		return again(func() error { fd, err = unix.Open(path, flags, 0); return err })
	}
	if mode.Medium && open(flags|unix.O_DIRECT) == nil {
		if tryDirect(fd) == nil {
			return fd, true, nil
		}
		_ = unix.Close(fd)
	}
	return fd, false, open(flags)
}

// newPathDevice is the device over fd, whose kind is looked at again: the path may have changed hands.
func newPathDevice(fd int, path string, mode dataplane.Mode, direct bool) (*device, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if err := checkKind(&st); err != nil {
		return nil, err
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	size, block, holes, err := shape(fd, &st)
	if err != nil {
		return nil, err
	}
	d := &device{
		can:     abilities{punch: true, zeroRange: true, holes: holes},
		release: func() {}, size: new(atomic.Int64), block: block, name: path, mode: mode, fd: fd,
		info: dataplane.Info{
			ReadOnly: mode.ReadOnly, MinBlock: block, PreferredBlock: max(preferredBlock, block), Medium: direct, Path: absolute,
			FastZero: !mode.ReadOnly,
		},
	}
	d.size.Store(size)
	if !direct {
		d.share()
	}
	return d, nil
}

// goDirect opens the file once more, past the page cache, for all requests that are aligned; the others go through fd.
func (f *device) goDirect() error {
	flags := unix.O_RDWR
	if f.mode.ReadOnly {
		flags = unix.O_RDONLY
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", f.fd), flags|unix.O_DIRECT|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("direct I/O: %w: %w", dataplane.ErrNotSupported, err)
	}
	f.direct, f.info.Direct, f.info.File = fd, true, nil
	release := f.release
	f.release = func() {
		_ = unix.Close(fd)
		release()
	}
	return nil
}

func checkKind(st *unix.Stat_t) error {
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFBLK {
		return fmt.Errorf("neither a file nor a block device: %w", dataplane.ErrNotSupported)
	}
	return nil
}

// share gives the file to those who can read it without copying; without a descriptor for it they copy.
func (f *device) share() {
	fd, err := unix.FcntlInt(uintptr(f.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return
	}
	shared := os.NewFile(uintptr(fd), f.name)
	f.info.File = shared
	f.release = func() { _ = shared.Close() }
}

// shape is how large it is, in which blocks, and whether its word on holes is believed.
func shape(fd int, st *unix.Stat_t) (size, block int64, holes bool, err error) {
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		if size, err = seek(fd, 0, unix.SEEK_END); err != nil {
			return 0, 0, false, err
		}
		logical, err := unix.IoctlGetInt(fd, unix.BLKSSZGET)
		if err != nil || bits.OnesCount(uint(logical)) != 1 {
			return 0, 0, false, errors.Join(fmt.Errorf("logical blocks of %d: %w", logical, dataplane.ErrNotSupported), err)
		}
		return size, int64(logical), false, nil
	}
	var fs unix.Statfs_t
	if err := again(func() error { return unix.Fstatfs(fd, &fs) }); err != nil {
		return 0, 0, false, err
	}
	return st.Size, 1, believed[int64(fs.Type)], nil
}
