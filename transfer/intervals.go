package transfer

import (
	"slices"
	"sort"
)

// interval says that the chunks from first to end are verified, and that their records are found by reading the file's
// appends from offset on.
type interval struct {
	first, end int64
	offset     int64 // of the append with the first record
	next       int64 // of the append after the last record
	alone      bool  // those appends say nothing of chunks behind end, so the next append may join them
}

// intervals is what a checkpoint knows, without the digests: sorted, not overlapping. Neighbours that were appended one
// after the other are one interval, so a copy from beginning to end needs a handful.
type intervals []interval

// maxIntervalBytes bounds what must be read to find a chunk in the middle of an interval.
const maxIntervalBytes = 1 << 20

// search is the index of the first interval that ends after chunk.
func (v intervals) search(chunk int64) int {
	return sort.Search(len(v), func(i int) bool { return v[i].end > chunk })
}

func (v intervals) contains(chunk int64) bool {
	i := v.search(chunk)
	return i < len(v) && v[i].first <= chunk
}

// gap is the first stretch at or after chunk that is in no interval, up to limit; first == limit: there is none.
func (v intervals) gap(chunk, limit int64) (first, end int64) {
	i := v.search(chunk)
	for i < len(v) && v[i].first <= chunk {
		chunk = v[i].end
		i++
	}
	if i < len(v) {
		return min(chunk, limit), min(v[i].first, limit)
	}
	return min(chunk, limit), limit
}

// remove takes the chunks out.
func (v intervals) remove(first, end int64) intervals {
	i := v.search(first)
	j := i
	var rest []interval
	for ; j < len(v) && v[j].first < end; j++ {
		if left := v[j]; left.first < first {
			left.end, left.alone = first, false
			rest = append(rest, left)
		}
		if right := v[j]; right.end > end {
			right.first = end
			rest = append(rest, right)
		}
	}
	if i == j {
		return v
	}
	return slices.Replace(v, i, j, rest...)
}

// insert puts the chunks in, in place of what was known of them.
func (v intervals) insert(n interval) intervals {
	v = v.remove(n.first, n.end)
	i := v.search(n.first)
	if i > 0 {
		before := &v[i-1]
		follows := before.end == n.first && before.next == n.offset && before.alone && n.alone
		if follows && n.next-before.offset <= maxIntervalBytes {
			before.end, before.next = n.end, n.next
			return v
		}
	}
	return slices.Insert(v, i, n)
}

// bytes is how much the intervals cover.
func (v intervals) bytes(g Geometry) (n int64) {
	for _, i := range v {
		n += g.Bytes(i.first, i.end-i.first)
	}
	return n
}
