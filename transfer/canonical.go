package transfer

import "fmt"

// maxRunDigests is the most digests in one canonical run. It bounds what a reader holds in memory (128 KiB) and is
// large enough that a run's head costs nothing.
const maxRunDigests = 4096

// canonical cuts a stream of runs into canonical ones: the same digests give the same runs, however they came.
//
//   - Zero chunks are always in a zero run, as long as they last.
//   - Two or more equal neighbours are always in a run of one digest, as long as they last.
//   - All others are in runs of one digest a chunk, as long as they last, but cut after maxRunDigests.
//
// A gap in the stream ends a run. emit owns its run only until it returns.
type canonical struct {
	zero zeroDigests
	emit func(Run) error

	last     span // what may still grow; count 0: nothing
	first    int64
	distinct []Digest // chunks from first, up to last
}

func newCanonical(g Geometry, emit func(Run) error) *canonical {
	return &canonical{zero: g.zeroDigests(), emit: emit}
}

// add takes the next run; it must begin after the one before: ErrOrder.
func (c *canonical) add(r Run) error {
	if err := r.Validate(); err != nil {
		return err
	}
	next := c.last.first + c.last.count
	if r.First < next {
		return fmt.Errorf("run %d+%d after chunk %d: %w", r.First, r.Count, next, ErrOrder)
	}
	if r.First > next {
		if err := c.finish(); err != nil {
			return err
		}
	}
	return r.spans(&c.zero, c.addSpan)
}

func (c *canonical) addSpan(s span) error {
	same := c.last.zero == s.zero && (s.zero || c.last.digest == s.digest)
	if c.last.count > 0 && same {
		c.last.count += s.count
		return nil
	}
	if err := c.settle(); err != nil {
		return err
	}
	c.last = s
	return nil
}

// settle gives the last span its run, or its place among the distinct digests.
func (c *canonical) settle() error {
	s := c.last
	switch {
	case s.count == 0:
		return nil
	case s.zero:
		return c.emitAfterDistinct(Run{First: s.first, Count: s.count, Zero: true})
	case s.count > 1:
		return c.emitAfterDistinct(Run{First: s.first, Count: s.count, Digests: []Digest{s.digest}})
	}
	if len(c.distinct) == 0 {
		c.first = s.first
	}
	c.distinct = append(c.distinct, s.digest)
	if len(c.distinct) < maxRunDigests {
		return nil
	}
	return c.emitDistinct()
}

func (c *canonical) emitAfterDistinct(r Run) error {
	if err := c.emitDistinct(); err != nil {
		return err
	}
	return c.emit(r)
}

func (c *canonical) emitDistinct() error {
	if len(c.distinct) == 0 {
		return nil
	}
	r := Run{First: c.first, Count: int64(len(c.distinct)), Digests: c.distinct}
	c.distinct = c.distinct[:0]
	return c.emit(r)
}

// finish emits what is held; the stream may go on after a gap.
func (c *canonical) finish() error {
	if err := c.settle(); err != nil {
		return err
	}
	c.last = span{first: c.last.first + c.last.count}
	return c.emitDistinct()
}
