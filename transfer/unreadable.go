package transfer

import (
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
	// settled are chunks with unreadable blocks whose other blocks are durable on the target; ascending, not touching.
	settled []ErrorRange
	untried bool // the ranges need not have been tried
}

// Add takes a range in: ErrTooLarge if there would be too many.
func (m *ErrorMap) Add(r ErrorRange) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return join(&m.ranges, r)
}

// settle notes a chunk that was salvaged, and is durable.
func (m *ErrorMap) settle(chunk ErrorRange) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return join(&m.settled, chunk)
}

// join takes a range into others, which are ascending and do not touch: ErrTooLarge.
func join(ranges *[]ErrorRange, r ErrorRange) error {
	all := *ranges
	i := sort.Search(len(all), func(i int) bool { return all[i].End() >= r.Offset })
	j := i
	for ; j < len(all) && all[j].Offset <= r.End(); j++ {
		end := max(r.End(), all[j].End())
		r.Offset = min(r.Offset, all[j].Offset)
		r.Length = end - r.Offset
	}
	if i == j && len(all) == maxErrorRanges {
		return fmt.Errorf("more than %d unreadable ranges: %w", maxErrorRanges, ErrTooLarge)
	}
	*ranges = slices.Replace(all, i, j, r)
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
