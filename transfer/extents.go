package transfer

import (
	"context"
	"errors"
	"fmt"

	"github.com/cvold/cvold/dataplane"
)

// windowChunks is how many chunks are planned, or digested, at a time. It bounds the memory that depends on extents (a
// byte a chunk, of three windows) and how stale they are when they are used; for volumes of holes it is the size of a batch.
const windowChunks = 32 << 10

// dataChunks says of each of count chunks from first whether it must be read. A chunk need not be read only if it lies
// wholly inside extents that the device calls zeroes.
func (e *end) dataChunks(ctx context.Context, first, count int64) ([]bool, error) {
	off, _ := e.geometry.Range(first)
	n := e.aligned(e.geometry.Bytes(first, count))
	data := make([]bool, count)
	next := off
	err := e.device.Extents(ctx, off, n, func(x dataplane.Extent) error {
		if x.Offset != next || x.Length <= 0 || x.Length > off+n-x.Offset {
			return fmt.Errorf("extent %d+%d where %d was due: %w", x.Offset, x.Length, next, dataplane.ErrIO)
		}
		next = x.End()
		if !x.Zero {
			mark(data, (x.Offset-off)/e.geometry.ChunkSize, (x.End()-1-off)/e.geometry.ChunkSize)
		}
		return nil
	})
	if err == nil && next != off+n {
		err = fmt.Errorf("extents end at %d: %w", next, dataplane.ErrIO)
	}
	if err != nil {
		return nil, e.fail("extents", off, n, err)
	}
	return data, nil
}

// isZero says that the device calls count chunks from first zeroes. One that cannot say has to be asked for them.
func (e *end) isZero(ctx context.Context, first, count int64) bool {
	off, _ := e.geometry.Range(first)
	n := e.aligned(e.geometry.Bytes(first, count))
	next := off
	err := e.device.Extents(ctx, off, n, func(x dataplane.Extent) error {
		if !x.Zero || x.Offset != next || x.Length <= 0 {
			return errNotZero
		}
		next = x.End()
		return nil
	})
	return err == nil && next == off+n
}

var errNotZero = errors.New("not zero")

// mark sets first to last, both included.
func mark(data []bool, first, last int64) {
	for i := first; i <= last; i++ {
		data[i] = true
	}
}

// all is dataChunks for who believes nothing.
func all(count int64) []bool {
	data := make([]bool, count)
	mark(data, 0, count-1)
	return data
}
