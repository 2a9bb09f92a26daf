package file

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
)

// The modes of fallocate(2): give the range's space up, and zero it but keep it.
const (
	punchMode = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	zeroMode  = unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE
)

func fallocate(fd int, mode uint32, off, n int64) error {
	return again(func() error { return unix.Fallocate(fd, mode, off, n) })
}

// ZeroAt is dataplane.Device.ZeroAt. With MayUnmap the range becomes a hole, else it stays or gets allocated, where the
// file system can do so.
func (f *device) ZeroAt(off, n int64, mode dataplane.ZeroMode) error {
	if err := f.begin("zero", off, n, true); err != nil {
		return err
	}
	defer f.gate.leave()
	err := fmt.Errorf("no fast way: %w", dataplane.ErrNotSupported)
	if mode.MayUnmap && f.can.punch {
		err = f.erase(punchMode, off, n)
	}
	if f.can.zeroRange && errors.Is(border(err), dataplane.ErrNotSupported) {
		err = f.erase(zeroMode, off, n)
	}
	if !mode.FastOnly && errors.Is(border(err), dataplane.ErrNotSupported) {
		write := func(p []byte, off int64) (int, error) {
			return f.inPieces("write", p, off, func(p []byte, off int64) (int, error) { return writeSome(f.fd, p, off) })
		}
		err = dataplane.WriteZeroes(write, off, n, 0, mode)
	}
	if err != nil {
		return f.failed("zero", off, n, err)
	}
	return nil
}

// Discard is dataplane.Device.Discard: the range becomes a hole.
func (f *device) Discard(off, n int64) error {
	if err := f.begin("discard", off, n, true); err != nil {
		return err
	}
	defer f.gate.leave()
	if !f.can.punch {
		return nil
	}
	err := border(f.erase(punchMode, off, n))
	if err != nil && !errors.Is(err, dataplane.ErrNotSupported) {
		return f.failed("discard", off, n, err)
	}
	return nil
}

// erase calls fallocate in pieces.
func (f *device) erase(mode uint32, off, n int64) error {
	for n > 0 {
		if err := f.gate.ended(); err != nil {
			return err
		}
		piece := min(n, erasePiece)
		if err := fallocate(f.fd, mode, off, piece); err != nil {
			return err
		}
		off, n = off+piece, n-piece
	}
	return nil
}

// Extents is dataplane.Device.Extents: what the file system calls a hole is zeroes, after a sync, where it is one whose
// word is believed; else all is data.
func (f *device) Extents(ctx context.Context, off, n int64, fn func(dataplane.Extent) error) error {
	if err := f.begin("extents of", off, n, false); err != nil {
		return err
	}
	defer f.gate.leave()
	if !f.can.holes {
		return dataplane.AllData(ctx, off, n, fn)
	}
	if err := f.flush(unix.Fsync); err != nil {
		return f.failed("extents", off, n, err)
	}
	for end := off + n; off < end; {
		if err := errors.Join(ctx.Err(), f.gate.ended()); err != nil {
			return err
		}
		e, err := f.extentAt(off, end)
		if err != nil {
			return f.failed("extents", off, end-off, err)
		}
		if err := fn(e); err != nil {
			return err
		}
		off = e.End()
	}
	return nil
}

// extentAt is the extent that begins at off, cut at end.
func (f *device) extentAt(off, end int64) (dataplane.Extent, error) {
	data, err := seek(f.fd, off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) { // no data from here on
		return dataplane.Extent{Offset: off, Length: end - off, Zero: true}, nil
	}
	if err != nil {
		return dataplane.Extent{}, err
	}
	data = data / sector * sector // a sector with any data is data
	if data > off {
		return dataplane.Extent{Offset: off, Length: min(data, end) - off, Zero: true}, nil
	}
	hole, err := seek(f.fd, max(off, data), unix.SEEK_HOLE)
	if err != nil && !errors.Is(err, unix.ENXIO) {
		return dataplane.Extent{}, err
	}
	hole = (hole + sector - 1) / sector * sector
	if err != nil || hole <= off || hole > end { // ENXIO: the file was cut meanwhile
		hole = end
	}
	return dataplane.Extent{Offset: off, Length: hole - off}, nil
}

func seek(fd int, off int64, whence int) (at int64, err error) {
	err = again(func() (err error) { at, err = unix.Seek(fd, off, whence); return err })
	return at, err
}
