package dataplane

import (
	"context"
	"fmt"
	"os"
)

// Device is an opened volume: a fixed number of bytes that can be read and written in any order.
//
// All methods may be called at the same time from several goroutines. Two writes that overlap and run at the same time
// leave either one's bytes in the overlap, never a third thing within a block of Info().MinBlock.
//
// Offsets and lengths are multiples of Info().MinBlock, else ErrUnaligned; a range that reaches past Size is
// ErrOutOfRange and touches nothing. A range of length 0 does nothing. Writing calls on a read-only device are ErrReadOnly.
// After Close every call is ErrClosed.
//
// The first four methods are those of go-nbd's backend.Backend, so each Device can be served by anything made for it.
// There are no optional methods, because a wrapper would lose them: who cannot tell holes answers one data extent, who
// cannot punch writes zeroes (AllData and WriteZeroes give these answers).
type Device interface {
	// ReadAt fills p from off. It returns len(p) and nil, or the bytes read and an error; unlike io.ReaderAt it never
	// returns io.EOF, for a range past the end is refused as a whole.
	ReadAt(p []byte, off int64) (int, error)

	// WriteAt writes p at off. The bytes are visible to later reads at once, and durable only after a Sync that began
	// after WriteAt returned. It does not keep p.
	WriteAt(p []byte, off int64) (int, error)

	// Sync makes all writes durable that were answered before it began. A failure is sticky: the medium may have
	// dropped what it could not write, so every later Sync of this Device fails too, and the writes since the last good
	// one must be made again on a Device opened anew.
	Sync() error

	// Size is the number of bytes, a multiple of Info().MinBlock. It changes only by Driver.Extend.
	Size() (int64, error)

	// ZeroAt makes n bytes at off read as zeroes, with the durability of WriteAt.
	ZeroAt(off, n int64, mode ZeroMode) error

	// Discard says that n bytes at off are not needed. What they read as afterwards is not defined.
	// A device that cannot discard does nothing and returns nil.
	Discard(off, n int64) error

	// Extents calls fn for consecutive extents that cover off to off+n without gap or overlap, in ascending order, in
	// the caller's goroutine. Zeroes may be reported as data, data never as zeroes. A write made during the call may or
	// may not be seen. It stops at the first error of fn and returns it as it is.
	Extents(ctx context.Context, off, n int64, fn func(Extent) error) error

	// Info never changes while the device is open.
	Info() Info

	// Close ends what is in flight with ErrClosed, waits for it, and releases the device. It does not flush. The
	// second Close is ErrClosed.
	Close() error
}

// ZeroMode says how ZeroAt may reach its end. The zero value: allocate if you must, be slow if you must.
type ZeroMode struct {
	// MayUnmap allows the range to give up its space (a hole); without it the space stays allocated.
	MayUnmap bool
	// FastOnly refuses with ErrNotSupported, before touching anything, if it would be no faster than writing zeroes.
	FastOnly bool
}

// Info is what a device says of itself.
type Info struct {
	// ReadOnly devices refuse WriteAt, ZeroAt and Discard with ErrReadOnly.
	ReadOnly bool
	// MinBlock is the alignment of offsets and lengths: a power of two, at least 1.
	MinBlock int64
	// PreferredBlock is the size and alignment below which I/O is slower: a power of two, at least MinBlock.
	PreferredBlock int64
	// MaxBlock is the longest ReadAt or WriteAt in bytes; 0 means no limit. ZeroAt, Discard and Extents have none.
	MaxBlock int64
	// FastZero says that ZeroAt with FastOnly can succeed.
	FastZero bool
	// Medium says that ReadAt is answered by the medium, not by a cache of this node.
	Medium bool
	// Direct says that ReadAt and WriteAt go past the page cache of this node (Mode.Direct).
	Direct bool
	// Path is the local file or block device behind the device, or empty. A wrapper that must see the I/O clears it.
	Path string
	// File is the open local file behind the device, or nil: what is read from it at an offset is what ReadAt would give, at
	// the same speed, so that it may be sent without a copy. It is good until Close. A wrapper that must see the I/O
	// clears it.
	File *os.File
}

// Extent is a run of bytes. Zero means it certainly reads as zeroes; otherwise nothing is known of its bytes.
type Extent struct {
	Offset, Length int64
	Zero           bool
}

// End is the offset of the first byte after the extent.
func (e Extent) End() int64 { return e.Offset + e.Length }

// CheckRange is the check with which every Device begins a call: nil, ErrOutOfRange or ErrUnaligned.
func CheckRange(off, n, size, minBlock int64) error {
	if off < 0 || n < 0 || off > size || n > size-off {
		return fmt.Errorf("range %d+%d in %d bytes: %w", off, n, size, ErrOutOfRange)
	}
	if minBlock > 1 && (off%minBlock != 0 || n%minBlock != 0) {
		return fmt.Errorf("range %d+%d with blocks of %d: %w", off, n, minBlock, ErrUnaligned)
	}
	return nil
}

// AllData answers Device.Extents for a device that cannot tell holes: one data extent.
func AllData(ctx context.Context, off, n int64, fn func(Extent) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if n == 0 {
		return nil
	}
	return fn(Extent{Offset: off, Length: n})
}

// zeroes is what WriteZeroes writes; it is never written to.
var zeroes [256 << 10]byte

// WriteZeroes answers Device.ZeroAt for a device that can only write: it writes zeroes through write, in pieces of at
// most max bytes (0: a size of its own choice). FastOnly is refused.
func WriteZeroes(write func(p []byte, off int64) (int, error), off, n, max int64, mode ZeroMode) error {
	if mode.FastOnly {
		return fmt.Errorf("fast zero of %d bytes: %w", n, ErrNotSupported)
	}
	if max <= 0 || max > int64(len(zeroes)) {
		max = int64(len(zeroes))
	}
	for n > 0 {
		piece := min(n, max)
		if _, err := write(zeroes[:piece], off); err != nil {
			return err
		}
		off, n = off+piece, n-piece
	}
	return nil
}
