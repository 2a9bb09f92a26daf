package transfer

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"sync"
)

const (
	// salvagePiece in bytes is read at a time of a chunk that cannot be read whole, and salvageBlock at a time of a piece
	// that cannot: a block of today's disks is lost whole.
	salvagePiece = 64 << 10
	salvageBlock = MinChunkSize
	// maxErrorRanges bounds an ErrorMap: a source with more is not worth copying by us.
	maxErrorRanges = 64 << 10
)

// ErrorRange is a stretch of the source, in bytes, that could not be read.
type ErrorRange struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

// End is the first byte after the range.
func (r ErrorRange) End() int64 { return r.Offset + r.Length }

// ErrorMap is where a source could not be read. The zero value is ready; safe for concurrent use.
type ErrorMap struct {
	mu     sync.Mutex
	ranges []ErrorRange // ascending, not touching
}

// Add takes a range in: ErrTooLarge if there would be too many.
func (m *ErrorMap) Add(r ErrorRange) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := sort.Search(len(m.ranges), func(i int) bool { return m.ranges[i].End() >= r.Offset })
	j := i
	for ; j < len(m.ranges) && m.ranges[j].Offset <= r.End(); j++ {
		end := max(r.End(), m.ranges[j].End())
		r.Offset = min(r.Offset, m.ranges[j].Offset)
		r.Length = end - r.Offset
	}
	if i == j && len(m.ranges) == maxErrorRanges {
		return fmt.Errorf("more than %d unreadable ranges: %w", maxErrorRanges, ErrTooLarge)
	}
	m.ranges = slices.Replace(m.ranges, i, j, r)
	return nil
}

// Ranges are in ascending order and do not touch.
func (m *ErrorMap) Ranges() []ErrorRange {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.ranges)
}

// Bytes is how much could not be read.
func (m *ErrorMap) Bytes() (n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.ranges {
		n += r.Length
	}
	return n
}

// salvage reads what it can of the part's i-th chunk, in smaller and smaller pieces, and notes the blocks that it cannot,
// which are zeroes in what it returns. A chunk with such blocks is bad.
func (c *copier) salvage(ctx context.Context, buf []byte, p *part, i int64) ([]byte, error) {
	off, n := c.Range(p.first + i)
	whole, step := c.source.aligned(n), max(salvagePiece, c.source.minBlock)
	for at := int64(0); at < whole; at += step {
		lost, err := c.salvageRange(ctx, buf[at:min(at+step, whole)], off+at, max(salvageBlock, c.source.minBlock))
		if err != nil {
			return nil, err
		}
		p.bad[i] = p.bad[i] || lost
	}
	return buf[:n], nil
}

// salvageRange fills p from off, in blocks if it must, and says whether one of them is lost.
func (c *copier) salvageRange(ctx context.Context, p []byte, off, block int64) (lost bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	err = c.source.readRange(p, off)
	switch {
	case err == nil || !mayPass(err):
		return false, err
	case int64(len(p)) <= block:
		return true, c.lose(p, off, err)
	}
	for at := int64(0); at < int64(len(p)); at += block {
		one, err := c.salvageRange(ctx, p[at:min(at+block, int64(len(p)))], off+at, block)
		if err != nil {
			return false, err
		}
		lost = lost || one
	}
	return lost, nil
}

// lose makes a block zeroes that cannot be read.
func (c *copier) lose(p []byte, off int64, err error) error {
	clear(p)
	lost := ErrorRange{Offset: off, Length: min(int64(len(p)), c.VolumeSize-off)}
	c.Logger.Warn("source cannot be read", "offset", lost.Offset, "length", lost.Length, "error", err)
	return c.Unreadable.Add(lost)
}
