package transfer

import (
	"encoding/json"
	"fmt"
)

// Run is the digests of Count consecutive chunks from First, in one of three forms: Zero (all read as zeroes, no
// Digests), one digest that all chunks have, or one digest for each chunk. It crosses the calls between agents as JSON.
type Run struct {
	First   int64    `json:"first"`
	Count   int64    `json:"count"`
	Zero    bool     `json:"zero,omitempty"`
	Digests []Digest `json:"digests,omitempty"`
}

// Validate checks that the run is one of the three forms and not empty: ErrOrder. It does not know the volume's size.
func (r Run) Validate() error {
	digests := int64(len(r.Digests))
	form := r.Zero && digests == 0 || !r.Zero && (digests == 1 || digests == r.Count)
	if r.First < 0 || r.Count < 1 || r.First > MaxChunks || r.Count > MaxChunks-r.First || !form {
		return fmt.Errorf("run %d+%d with %d digests: %w", r.First, r.Count, digests, ErrOrder)
	}
	return nil
}

// End is the chunk after the run's last.
func (r Run) End() int64 { return r.First + r.Count }

// UnmarshalJSON refuses what Validate refuses.
func (r *Run) UnmarshalJSON(text []byte) error {
	type plain Run
	var p plain
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	*r = Run(p)
	return r.Validate()
}

// follows checks that the run is valid, begins at next and does not reach past end: ErrOrder.
func (r Run) follows(next, end int64) error {
	if err := r.Validate(); err != nil {
		return err
	}
	if r.First != next || r.End() > end {
		return fmt.Errorf("run %d+%d where %d was due: %w", r.First, r.Count, next, ErrOrder)
	}
	return nil
}

// digest is that of one of the run's chunks.
func (r Run) digest(chunk int64, z *zeroDigests) Digest {
	switch {
	case r.Zero:
		return z.of(chunk)
	case len(r.Digests) == 1:
		return r.Digests[0]
	}
	return r.Digests[chunk-r.First]
}

// clip is the part of the run inside first to end.
func (r Run) clip(first, end int64) (Run, bool) {
	first, end = max(first, r.First), min(end, r.End())
	if first >= end {
		return Run{}, false
	}
	if int64(len(r.Digests)) > 1 {
		r.Digests = r.Digests[first-r.First : end-r.First]
	}
	r.First, r.Count = first, end-first
	return r, true
}

// span is a stretch of chunks with one digest. zero says that it is the digest of zeroes; only a zero span holds chunks
// of two lengths.
type span struct {
	first, count int64
	digest       Digest
	zero         bool
}

// spans calls fn for the stretches that the run is made of, in order.
func (r Run) spans(z *zeroDigests, fn func(span) error) error {
	if r.Zero {
		return fn(span{first: r.First, count: r.Count, digest: z.full, zero: true})
	}
	if len(r.Digests) == 1 {
		return repeatedSpans(r, z, fn)
	}
	for i, d := range r.Digests {
		chunk := r.First + int64(i)
		if err := fn(span{first: chunk, count: 1, digest: d, zero: d == z.of(chunk)}); err != nil {
			return err
		}
	}
	return nil
}

// repeatedSpans sets the volume's last chunk apart: the digest of zeroes is another one there.
func repeatedSpans(r Run, z *zeroDigests, fn func(span) error) error {
	body, last := r.Count, r.End()-1
	if last == z.last {
		body--
	}
	if body > 0 {
		s := span{first: r.First, count: body, digest: r.Digests[0], zero: r.Digests[0] == z.full}
		if err := fn(s); err != nil {
			return err
		}
	}
	if last != z.last {
		return nil
	}
	return fn(span{first: last, count: 1, digest: r.Digests[0], zero: r.Digests[0] == z.tail})
}

// expand returns the digest of each of the count chunks from first; runs must cover exactly these, in order: ErrOrder.
// Runs come from outside: memory is bounded by count alone.
func expand(runs []Run, first, count int64, z *zeroDigests) ([]Digest, error) {
	digests := make([]Digest, 0, count)
	for _, r := range runs {
		if err := r.follows(first+int64(len(digests)), first+count); err != nil {
			return nil, err
		}
		for chunk := r.First; chunk < r.End(); chunk++ {
			digests = append(digests, r.digest(chunk, z))
		}
	}
	if int64(len(digests)) != count {
		return nil, fmt.Errorf("digests of %d chunks of %d: %w", len(digests), count, ErrOrder)
	}
	return digests, nil
}
