package transfer

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// verify returns nil when the target gives back the batch's digests, and a *MismatchError when a chunk of it never does: those
// before it are verified then, all others marked bad. Chunks that differ are copied again, from the
// source read anew; in Compare the first time is how a chunk gets copied at all.
func (c *copier) verify(ctx context.Context, b *batch) error {
	first, count := b.first(), b.end()-b.first()
	tries := maxRecopies
	if c.Compare {
		tries++
	}
	for try := 0; ; try++ {
		differ, err := c.differing(ctx, b, first, count)
		if err != nil {
			return err
		}
		compared := c.Compare && try == 0
		if compared {
			hold(b, differ)
		}
		if differ == nil {
			return nil
		}
		if !compared {
			c.report(differ)
			b.doubt(differ)
		}
		if try == tries {
			b.spoil(differ[0].Chunk, &c.zero)
			return differ[0]
		}
		c.choose(b, differ)
		first, count = differ[0].Chunk, differ[len(differ)-1].Chunk-differ[0].Chunk+1
		if err := c.again(ctx, b, compared); err != nil {
			return err
		}
	}
}

// differing asks the verifier for count chunks from first and returns those that differ, in order.
func (c *copier) differing(ctx context.Context, b *batch, first, count int64) ([]*MismatchError, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	defer observe(c.Observers.Verify, time.Now())
	runs, err := ask(ctx, c.Verifier, first, count, func(first int64, data []bool) { b.markData(first, data, &c.zero) })
	var differ []*MismatchError
	if err == nil {
		differ, err = c.compare(b, runs, first, count)
	}
	if err != nil {
		return nil, c.verifyError(first, count, err)
	}
	return differ, nil
}

// ask asks the verifier. Of a device of this node it is not believed that there is a hole where mark marks data.
func ask(ctx context.Context, v Verifier, first, count int64, mark func(first int64, data []bool)) ([]Run, error) {
	d, ok := v.(deviceVerifier)
	if !ok {
		return v.Digests(ctx, first, count)
	}
	return digests(ctx, d.medium, d.geometry, first, count, ScanOptions{Workers: d.workers, mark: mark})
}

// compare finds the chunks in which the runs differ from the batch; the runs must be those of count chunks from first.
func (c *copier) compare(b *batch, runs []Run, first, count int64) (differ []*MismatchError, err error) {
	next := first
	for _, r := range runs {
		if err := r.follows(next, first+count); err != nil {
			return nil, err
		}
		for next < r.End() {
			p := b.at(next)
			end := min(r.End(), p.end())
			if p.hole() && r.Zero {
				next = end
			}
			for ; next < end; next++ {
				if source, target := p.digest(next, &c.zero), r.digest(next, &c.zero); source != target {
					off, _ := c.Range(next)
					differ = append(differ, &MismatchError{Chunk: next, Offset: off, Source: source, Target: target})
				}
			}
		}
	}
	if next != first+count {
		return nil, fmt.Errorf("digests of %d chunks of %d: %w", next-first, count, ErrOrder)
	}
	return differ, nil
}

// verifyError says where it was, unless the verifier's device has said so.
func (c *copier) verifyError(first, count int64, err error) error {
	var device *DeviceError
	if errors.As(err, &device) {
		return err
	}
	off, _ := c.Range(first)
	return c.target.fail("verify", off, c.Bytes(first, count), err)
}

// report logs and counts chunks that were written and differ; the log names the first one only.
func (c *copier) report(differ []*MismatchError) {
	c.Progress.mismatches(int64(len(differ)))
	m := differ[0]
	c.differed = m
	c.Logger.Warn("target differs", "chunks", len(differ), "chunk", m.Chunk, "offset", m.Offset,
		"source_digest", m.Source.String(), "target_digest", m.Target.String())
}

// choose makes the chunks that differ the batch's chosen ones. What the target was said to hold is not believed again.
func (c *copier) choose(b *batch, differ []*MismatchError) {
	for _, p := range b.parts {
		p.chooseNone()
		p.base = nil
	}
	for _, m := range differ {
		p := b.at(m.Chunk)
		c.expand(p)
		p.chosen[m.Chunk-p.first], p.held[m.Chunk-p.first] = true, false
	}
}

// expand is part.expand, with a place for what cannot be read.
func (c *copier) expand(p *part) {
	p.expand(&c.zero)
	if c.Unreadable != nil && p.bad == nil {
		p.bad = make([]bool, p.count)
	}
}

// hold notes that the target held all chunks but those that differ.
func hold(b *batch, differ []*MismatchError) {
	for _, p := range b.parts {
		for i := range p.held {
			p.held[i] = true
		}
	}
	for _, m := range differ {
		if p := b.at(m.Chunk); !p.hole() {
			p.held[m.Chunk-p.first] = false
		}
	}
}

// again copies the batch's chosen chunks once more and flushes. compared: none was written yet, so zeroes may be zeroed.
func (c *copier) again(ctx context.Context, b *batch, compared bool) error {
	err := c.each(ctx, b, func(p *part, i int64) func(context.Context, []byte) error {
		if !compared {
			return func(ctx context.Context, buf []byte) error { return c.rewriteChunk(ctx, buf, p, i) }
		}
		if p.digests[i] == c.zero.of(p.first+i) {
			return nil
		}
		return func(ctx context.Context, buf []byte) error { return c.copyChunk(ctx, buf, p, i, true) }
	})
	if err != nil {
		return err
	}
	if err := c.settle(ctx, []*batch{b}, compared); err != nil {
		return err
	}
	defer observe(c.Observers.Flush, time.Now())
	return c.target.flush()
}
