package transfer

import (
	"fmt"
	"time"

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
	piece    requestSize // of reads and writes, a multiple of minBlock
}

// newEnd checks that the volume fits on the device: ErrInvalid. longest bounds requests, in bytes; 0: chunks do, and how
// long the device takes.
func newEnd(d dataplane.Device, name string, g Geometry, longest int64) (*end, error) {
	size, err := d.Size()
	if err != nil {
		return nil, &DeviceError{Device: name, Op: "size", Err: err}
	}
	info := d.Info()
	minBlock := max(info.MinBlock, 1)
	if g.ChunkSize%minBlock != 0 {
		return nil, fmt.Errorf("chunks of %d on a %s with blocks of %d: %w", g.ChunkSize, name, minBlock, ErrInvalid)
	}
	e := &end{device: d, name: name, geometry: g, minBlock: minBlock}
	most := g.ChunkSize
	if longest > 0 {
		most = min(most, longest)
	}
	e.piece.init(longestRequest(info, most), minBlock, longest == 0)
	if e.aligned(g.VolumeSize) > size {
		return nil, fmt.Errorf("volume of %d bytes on a %s of %d: %w", g.VolumeSize, name, size, ErrInvalid)
	}
	return e, nil
}

// firstWorkers is how many chunks between two ends are in flight at first.
func firstWorkers(source, target dataplane.Info) int {
	switch {
	case source.Path == "" || target.Path == "":
		return linkWorkers
	case source.Direct || target.Direct:
		return diskWorkers
	default:
		return DefaultWorkers
	}
}

// longestRequest is the longest request of at most most bytes, a multiple of the blocks, that the device takes.
func longestRequest(info dataplane.Info, most int64) int64 {
	if info.MaxBlock > 0 {
		most = min(most, info.MaxBlock)
	}
	minBlock := max(info.MinBlock, 1)
	return max(most/minBlock*minBlock, minBlock)
}

// aligned rounds a length up to whole blocks.
func (e *end) aligned(n int64) int64 { return (n + e.minBlock - 1) / e.minBlock * e.minBlock }

// read fills the beginning of buf, a chunk long, with a chunk's bytes and returns them.
func (e *end) read(buf []byte, chunk int64) ([]byte, error) { return e.readChunks(buf, chunk, 1) }

// readChunks is read for count chunks from first, in requests that may go over the ends of chunks.
func (e *end) readChunks(buf []byte, first, count int64) ([]byte, error) {
	off, _ := e.geometry.Range(first)
	n := e.geometry.Bytes(first, count)
	if err := e.readRange(buf[:e.aligned(n)], off); err != nil {
		return nil, err
	}
	return buf[:n], nil
}

// readRange fills p from off, in requests of the right length.
func (e *end) readRange(p []byte, off int64) error {
	return e.pieces("read", p, off, e.device.ReadAt)
}

// write writes a chunk from the beginning of buf, which is a chunk long.
func (e *end) write(buf []byte, chunk int64) error {
	off, n := e.geometry.Range(chunk)
	padded := e.aligned(n)
	clear(buf[n:padded])
	return e.pieces("write", buf[:padded], off, e.device.WriteAt)
}

// pieces moves p in requests that are short enough.
func (e *end) pieces(op string, p []byte, off int64, move func([]byte, int64) (int, error)) error {
	for len(p) > 0 {
		piece := p[:min(int64(len(p)), e.piece.size())]
		began := time.Now()
		got, err := move(piece, off)
		if err = whole(got, len(piece), err); err != nil {
			return e.fail(op, off, int64(len(piece)), err)
		}
		e.piece.took(len(piece), time.Since(began))
		off, p = off+int64(len(piece)), p[len(piece):]
	}
	return nil
}

// zero makes count chunks from first read as zeroes, in one request.
func (e *end) zero(first, count int64, mayUnmap bool) error {
	off, _ := e.geometry.Range(first)
	return e.zeroRange(off, e.aligned(e.geometry.Bytes(first, count)), mayUnmap)
}

func (e *end) zeroRange(off, n int64, mayUnmap bool) error {
	if err := e.device.ZeroAt(off, n, dataplane.ZeroMode{MayUnmap: mayUnmap}); err != nil {
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
