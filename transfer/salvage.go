package transfer

import (
	"context"
	"sort"
)

// salvager reads one chunk that cannot be read whole.
type salvager struct {
	*copier
	block   int64
	doubted bool // the target gave back other bytes than were written
}

// salvage reads what it can of the part's i-th chunk, in smaller and smaller pieces, and notes the blocks that it cannot,
// which are zeroes in what it returns, or what the target keeps. A chunk with such blocks is bad.
func (c *copier) salvage(ctx context.Context, buf []byte, p *part, i int64) ([]byte, error) {
	off, n := c.Range(p.first + i)
	s := salvager{copier: c, block: max(salvageBlock, c.source.minBlock), doubted: p.doubted || c.doubted}
	whole, step := c.source.aligned(n), max(salvagePiece, c.source.minBlock)
	for at := int64(0); at < whole; at += step {
		lost, err := s.read(ctx, buf[at:min(at+step, whole)], off+at)
		if err != nil {
			return nil, err
		}
		p.bad[i] = p.bad[i] || lost
	}
	return buf[:n], nil
}

// read fills p from off, in blocks if it must, and says whether one of them is lost.
func (s *salvager) read(ctx context.Context, p []byte, off int64) (lost bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	err = s.source.readRange(p, off)
	switch {
	case err == nil || !mayPass(err):
		return false, err
	case int64(len(p)) <= s.block:
		return s.lose(ctx, p, off, err)
	}
	for at := int64(0); at < int64(len(p)); at += s.block {
		one, err := s.read(ctx, p[at:min(at+s.block, int64(len(p)))], off+at)
		if err != nil {
			return false, err
		}
		lost = lost || one
	}
	return lost, nil
}

// lose makes a block that cannot be read what the target holds of the source, and the rest of it zeroes; lost says that there
// is such a rest. What a target holds that is in doubt is kept, and counts as lost.
func (s *salvager) lose(ctx context.Context, p []byte, off int64, why error) (lost bool, err error) {
	clear(p)
	block := ErrorRange{Offset: off, Length: min(int64(len(p)), s.VolumeSize-off)}
	missing := []ErrorRange{block}
	if s.Unread != nil {
		missing = s.Unread.within(block)
	}
	if len(missing) != 1 || missing[0] != block {
		if err := s.readTarget(ctx, p[:block.Length], off); err != nil {
			return false, err
		}
		s.Logger.Warn("source cannot be read any more, the target keeps what it has", "offset", off, "length", block.Length, "error", why)
	}
	for _, r := range missing {
		clear(p[r.Offset-off : r.End()-off])
	}
	if s.doubted {
		missing = []ErrorRange{block}
	}
	for _, r := range missing {
		s.Logger.Warn("source cannot be read", "offset", r.Offset, "length", r.Length, "error", why)
		if err := s.Unreadable.Add(r); err != nil {
			return false, err
		}
	}
	return len(missing) > 0, nil
}

// readTarget fills p with what the target holds from off on. Its blocks may be longer than p.
func (s *salvager) readTarget(ctx context.Context, p []byte, off int64) error {
	before := off % s.target.minBlock
	buf := make([]byte, s.target.aligned(before+int64(len(p))))
	err := s.retry(ctx, func() error { return s.target.readRange(buf, off-before) })
	copy(p, buf[before:])
	return err
}

// within is what of the map lies in r, in ascending order.
func (m *ErrorMap) within(r ErrorRange) []ErrorRange {
	m.mu.Lock()
	defer m.mu.Unlock()
	return clip(m.ranges, r)
}

// clip is what of ranges, which are ascending, lies in r.
func clip(ranges []ErrorRange, r ErrorRange) (in []ErrorRange) {
	for i := sort.Search(len(ranges), func(i int) bool { return ranges[i].End() > r.Offset }); i < len(ranges) && ranges[i].Offset < r.End(); i++ {
		first, end := max(ranges[i].Offset, r.Offset), min(ranges[i].End(), r.End())
		in = append(in, ErrorRange{Offset: first, Length: end - first})
	}
	return in
}

// settleSalvaged notes the part's salvaged chunks once they are flushed and verified.
func (c *copier) settleSalvaged(p *part) error {
	if p.spoiled || c.Unreadable == nil {
		return nil
	}
	for i := range p.bad {
		if !p.bad[i] {
			continue
		}
		off, n := c.Range(p.first + int64(i))
		if err := c.Unreadable.settle(ErrorRange{Offset: off, Length: n}); err != nil {
			return err
		}
	}
	return nil
}
