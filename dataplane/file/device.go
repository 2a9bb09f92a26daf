package file

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
)

const (
	// preferredBlock is the page: smaller writes make the kernel read first.
	preferredBlock = 4096
	// ioPiece is how much one system call moves, in bytes: Close waits for the piece, not for the whole.
	ioPiece = 4 << 20
	// erasePiece is how much one system call zeroes or punches, in bytes, for the same reason.
	erasePiece = 1 << 30
)

// device is an open file.
type device struct {
	can     abilities
	release func() // gives back what is shared with other devices, after fd is closed
	size    *atomic.Int64
	block   int64 // alignment of offsets and lengths
	name    string
	mode    dataplane.Mode
	info    dataplane.Info
	fd      int
	direct  int // the file once more, past the page cache; 0: not
	gate    gate
	writing sync.Mutex

	sync    sync.Mutex // one at a time: the kernel reports a failed flush to one caller only
	syncErr error      // the first failure, which stays
}

// Open is dataplane.Driver.Open. Several devices of one volume work together, whatever their modes.
//
// A device whose Close answered ErrAbandoned keeps the file and its locks until the call that hangs has ended.
func (d *Driver) Open(ctx context.Context, v dataplane.Volume, mode dataplane.Mode) (dataplane.Device, error) {
	leave, err := d.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	if mode.Medium {
		mode = dataplane.Mode{Medium: true, ReadOnly: true}
	}
	vol, err := d.acquire(ctx, v, mode)
	if err != nil {
		return nil, d.failed("open", v.Name, err)
	}
	dev, err := d.open(v, vol, mode)
	if err != nil {
		d.release(vol, mode)
		return nil, d.failed("open", v.Name, err)
	}
	return dev, nil
}

func (d *Driver) open(v dataplane.Volume, vol *volume, mode dataplane.Mode) (*device, error) {
	flags := unix.O_RDWR
	if mode.ReadOnly {
		flags = unix.O_RDONLY
	}
	fd, o, err := d.openObject(v, flags)
	if err != nil {
		return nil, err
	}
	direct := false
	if mode.Medium {
		fd, direct = d.mediumOf(v, fd)
	}
	info := dataplane.Info{
		ReadOnly: mode.ReadOnly, MinBlock: sector, PreferredBlock: preferredBlock, Medium: direct, Path: d.path(v.Name),
		FastZero: !mode.ReadOnly && (d.can.punch || d.can.zeroRange),
	}
	vol.size.Store(max(o.size, vol.size.Load()))
	return &device{
		can: d.can, release: func() { d.release(vol, mode) }, size: &vol.size, block: sector,
		name: v.Name, mode: mode, info: info, fd: fd,
	}, nil
}

// mediumOf is a description that reads the medium, if there can be one, instead of fd.
func (d *Driver) mediumOf(v dataplane.Volume, fd int) (int, bool) {
	direct, err := d.openDirect(v.Name)
	if err != nil {
		return fd, false
	}
	if o, err := d.inspect(direct); err != nil || o.mustBe(v) != nil {
		_ = unix.Close(direct)
		return fd, false
	}
	_ = unix.Close(fd)
	return direct, true
}

// begin is how each call begins: gate.leave must follow if err is nil.
func (f *device) begin(what string, off, n int64, writes bool) error {
	if err := f.gate.enter(); err != nil {
		return fmt.Errorf("%s %s: %w", what, f.name, err)
	}
	err := dataplane.CheckRange(off, n, f.size.Load(), f.block)
	if err == nil && writes && f.mode.ReadOnly {
		err = dataplane.ErrReadOnly
	}
	if err != nil {
		f.gate.leave()
		return fmt.Errorf("%s %s: %w", what, f.name, err)
	}
	return nil
}

// failed is an error of a call's end.
func (f *device) failed(what string, off, n int64, err error) error {
	return fmt.Errorf("%s %d+%d of %s: %w", what, off, n, f.name, border(err))
}

// ReadAt is dataplane.Device.ReadAt.
func (f *device) ReadAt(p []byte, off int64) (int, error) {
	if err := f.begin("read", off, int64(len(p)), false); err != nil {
		return 0, err
	}
	defer f.gate.leave()
	read := f.readBuffered
	switch {
	case f.direct != 0 && aligned(p, off):
		read = func(p []byte, off int64) (int, error) { return readWhole(f.direct, p, off) }
	case f.info.Medium:
		read = f.readDirect
	case f.mode.Medium:
		read = f.readUncached
	}
	return f.inPieces("read", p, off, read)
}

// WriteAt is dataplane.Device.WriteAt.
func (f *device) WriteAt(p []byte, off int64) (int, error) {
	if err := f.begin("write", off, int64(len(p)), true); err != nil {
		return 0, err
	}
	defer f.gate.leave()
	if f.direct != 0 && aligned(p, off) {
		return f.inPieces("write", p, off, func(p []byte, off int64) (int, error) { return writeSome(f.direct, p, off) })
	}
	return f.inPieces("write", p, off, f.writeBuffered)
}

// inPieces moves p by calls of move, and stops between them when the device is closed.
func (f *device) inPieces(what string, p []byte, off int64, move func([]byte, int64) (int, error)) (done int, err error) {
	for done < len(p) {
		if err := f.gate.ended(); err != nil {
			return done, f.failed(what, off, int64(len(p)), err)
		}
		n, err := move(p[done:min(len(p), done+ioPiece)], off+int64(done))
		done += n
		if err != nil {
			return done, f.failed(what, off, int64(len(p)), err)
		}
	}
	return done, nil
}

// writeBuffered writes through the page cache, one call at a time: the kernel does not do two for one file, but lets the
// second one spin on a processor that could read or digest meanwhile.
func (f *device) writeBuffered(p []byte, off int64) (int, error) {
	f.writing.Lock()
	defer f.writing.Unlock()
	return writeSome(f.fd, p, off)
}

// readBuffered reads through the page cache.
func (f *device) readBuffered(p []byte, off int64) (int, error) { return readWhole(f.fd, p, off) }

func readWhole(fd int, p []byte, off int64) (int, error) {
	n, err := readFull(fd, p, off)
	if err == nil && n < len(p) {
		err = fmt.Errorf("the file ends at %d: %w", off+int64(n), dataplane.ErrIO)
	}
	return n, err
}

// readUncached is the best try where O_DIRECT does not work: it asks the kernel to write and forget the range first.
func (f *device) readUncached(p []byte, off int64) (int, error) {
	if err := f.flush(unix.Fdatasync); err != nil {
		return 0, err
	}
	if err := unix.Fadvise(f.fd, off, int64(len(p)), unix.FADV_DONTNEED); err != nil {
		return 0, err
	}
	return f.readBuffered(p, off)
}

// Sync is dataplane.Device.Sync.
func (f *device) Sync() error {
	if err := f.begin("sync", 0, 0, false); err != nil {
		return err
	}
	defer f.gate.leave()
	if err := f.flush(unix.Fdatasync); err != nil {
		return fmt.Errorf("sync %s: %w", f.name, border(err))
	}
	return nil
}

// flush is every way in which the device calls fsync or fdatasync, for a failure that is told once has to be kept.
func (f *device) flush(sync func(fd int) error) error {
	f.sync.Lock()
	defer f.sync.Unlock()
	if f.syncErr != nil {
		return fmt.Errorf("failed before: %w", f.syncErr)
	}
	f.syncErr = again(func() error { return sync(f.fd) })
	return f.syncErr
}

// Size is dataplane.Device.Size.
func (f *device) Size() (int64, error) {
	if err := f.begin("size of", 0, 0, false); err != nil {
		return 0, err
	}
	defer f.gate.leave()
	return f.size.Load(), nil
}

// Info is dataplane.Device.Info.
func (f *device) Info() dataplane.Info { return f.info }

// Close is dataplane.Device.Close. ErrAbandoned if a call hangs in the kernel.
func (f *device) Close() error {
	err := f.gate.close(closeTimeout, func() {
		_ = unix.Close(f.fd)
		f.release()
	})
	if err != nil {
		return fmt.Errorf("close %s: %w", f.name, err)
	}
	return nil
}
