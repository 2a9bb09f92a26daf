package transfer

import (
	"fmt"

	"github.com/cvold/cvold/dataplane"
)

// end is one end of a copy: a device, and what is needed to read and write chunks on it. Safe for concurrent use.
//
// A device with blocks larger than the volume's unit of size may be a little larger than the volume; the last chunk is
// then read and written up to the end of its block, with zeroes after the volume's bytes.
type end struct {
	device   dataplane.Device
	name     string // "source" or "target"
	geometry Geometry
	minBlock int64
	piece    int64 // the longest request, a multiple of minBlock
}

// newEnd checks that the volume fits on the device: ErrInvalid.
func newEnd(d dataplane.Device, name string, g Geometry) (*end, error) {
	size, err := d.Size()
	if err != nil {
		return nil, &DeviceError{Device: name, Op: "size", Err: err}
	}
	info := d.Info()
	minBlock := max(info.MinBlock, 1)
	if g.ChunkSize%minBlock != 0 {
		return nil, fmt.Errorf("chunks of %d on a %s with blocks of %d: %w", g.ChunkSize, name, minBlock, ErrInvalid)
	}
	e := &end{device: d, name: name, geometry: g, minBlock: minBlock, piece: g.ChunkSize}
	if info.MaxBlock > 0 {
		e.piece = max(min(info.MaxBlock, g.ChunkSize)/minBlock*minBlock, minBlock)
	}
	if e.aligned(g.VolumeSize) > size {
		return nil, fmt.Errorf("volume of %d bytes on a %s of %d: %w", g.VolumeSize, name, size, ErrInvalid)
	}
	return e, nil
}

// aligned rounds a length up to whole blocks.
func (e *end) aligned(n int64) int64 { return (n + e.minBlock - 1) / e.minBlock * e.minBlock }

// read fills the beginning of buf, a chunk long, with a chunk's bytes and returns them.
func (e *end) read(buf []byte, chunk int64) ([]byte, error) {
	off, n := e.geometry.Range(chunk)
	for p := buf[:e.aligned(n)]; len(p) > 0; {
		piece := p[:min(int64(len(p)), e.piece)]
		got, err := e.device.ReadAt(piece, off)
		if err = whole(got, len(piece), err); err != nil {
			return nil, e.fail("read", off, int64(len(piece)), err)
		}
		off, p = off+int64(len(piece)), p[len(piece):]
	}
	return buf[:n], nil
}

// write writes a chunk from the beginning of buf, which is a chunk long.
func (e *end) write(buf []byte, chunk int64) error {
	off, n := e.geometry.Range(chunk)
	padded := e.aligned(n)
	clear(buf[n:padded])
	for p := buf[:padded]; len(p) > 0; {
		piece := p[:min(int64(len(p)), e.piece)]
		got, err := e.device.WriteAt(piece, off)
		if err = whole(got, len(piece), err); err != nil {
			return e.fail("write", off, int64(len(piece)), err)
		}
		off, p = off+int64(len(piece)), p[len(piece):]
	}
	return nil
}

// zero makes count chunks from first read as zeroes, in one request.
func (e *end) zero(first, count int64) error {
	off, _ := e.geometry.Range(first)
	n := e.aligned(e.geometry.Bytes(first, count))
	if err := e.device.ZeroAt(off, n, dataplane.ZeroMode{MayUnmap: true}); err != nil {
		return e.fail("zero", off, n, err)
	}
	return nil
}

func (e *end) flush() error {
	if err := e.device.Sync(); err != nil {
		return e.fail("flush", 0, 0, err)
	}
	return nil
}

func (e *end) fail(op string, off, n int64, err error) error {
	return &DeviceError{Device: e.name, Op: op, Offset: off, Length: n, Err: err}
}

// whole turns a short transfer without an error, which no device may answer, into one.
func whole(got, want int, err error) error {
	if err == nil && got != want {
		return fmt.Errorf("%d bytes of %d: %w", got, want, dataplane.ErrIO)
	}
	return err
}
