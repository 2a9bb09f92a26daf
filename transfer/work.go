package transfer

import (
	"context"
	"time"
)

// start has the batch's chosen chunks copied (in Compare: digested), but for those that are known to be zeroes.
func (c *copier) start(ctx context.Context, b *batch) error {
	return c.each(ctx, b, func(p *part, i int64) func(context.Context, []byte) error {
		if p.digests[i] == c.zero.of(p.first+i) {
			return nil
		}
		return func(ctx context.Context, buf []byte) error { return c.copyChunk(ctx, buf, p, i, !c.Compare) }
	})
}

// each submits a job for each chosen chunk that is in no hole; where jobFor answers nil there is nothing to do.
func (c *copier) each(ctx context.Context, b *batch, jobFor func(p *part, i int64) func(context.Context, []byte) error) error {
	for _, p := range b.parts {
		for i := range int64(len(p.chosen)) {
			if !p.chosen[i] {
				continue
			}
			if do := jobFor(p, i); do != nil {
				j := job{batch: b, do: do}
				if !b.untypical {
					_, j.bytes = c.Range(p.first + i)
				}
				if err := c.pool.submit(ctx, j); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// copyChunk reads and digests the part's i-th chunk and writes it, unless the target holds it, or it is all zeroes: those
// are left to writeZeroes, which takes them together with their neighbours.
func (c *copier) copyChunk(ctx context.Context, buf []byte, p *part, i int64, write bool) error {
	bytes, err := c.readChunk(ctx, buf, p, i)
	if err != nil {
		return err
	}
	zero := isZero(bytes)
	p.digests[i] = c.sum(bytes, p.first+i, zero)
	if p.keep(i) || zero || !write {
		return nil
	}
	return c.writeChunk(ctx, buf, p.first+i)
}

// unknown is the digest of a chunk of data in a copy without digests.
var unknown = Digest{0: 1}

func (c *copier) sum(p []byte, chunk int64, zero bool) Digest {
	switch {
	case zero:
		return c.zero.of(chunk)
	case c.NoDigests:
		return unknown
	}
	return c.Sum(p)
}

// rewriteChunk is copyChunk that writes zeroes as data, and what the target is said to hold: a target that differed is not
// believed again.
func (c *copier) rewriteChunk(ctx context.Context, buf []byte, p *part, i int64) error {
	bytes, err := c.readChunk(ctx, buf, p, i)
	if err != nil {
		return err
	}
	p.digests[i] = c.Sum(bytes)
	return c.writeChunk(ctx, buf, p.first+i)
}

func (c *copier) readChunk(ctx context.Context, buf []byte, p *part, i int64) (bytes []byte, err error) {
	chunk := p.first + i
	_, n := c.Range(chunk)
	if c.Limiter != nil {
		if err := c.Limiter.WaitN(ctx, int(n)); err != nil {
			return nil, err
		}
	}
	defer observe(c.Observers.Read, time.Now())
	err = c.retry(ctx, func() error { bytes, err = c.source.read(buf, chunk); return err })
	if err != nil && c.Unreadable != nil && mayPass(err) {
		return c.salvage(ctx, buf, p, i)
	}
	return bytes, err
}

func (c *copier) writeChunk(ctx context.Context, buf []byte, chunk int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	defer observe(c.Observers.Write, time.Now())
	if err := c.retry(ctx, func() error { return c.target.write(buf, chunk) }); err != nil {
		return err
	}
	_, n := c.Range(chunk)
	c.Progress.sent(n)
	return nil
}

// writeZeroes has the chosen chunks that are zeroes read as zeroes on the target: each run with one request, or with as
// few as maxZero allows.
func (c *copier) writeZeroes(ctx context.Context, b *batch) error {
	most := max(maxZero/c.ChunkSize, 1)
	for _, p := range b.parts {
		for i := int64(0); i < p.count; {
			n := p.zeroRun(i, most, &c.zero)
			if n == 0 {
				i++
				continue
			}
			first := p.first + i
			err := c.pool.submit(ctx, job{batch: b, do: func(ctx context.Context, _ []byte) error { return c.writeZeroRun(ctx, first, n) }})
			if err != nil {
				return err
			}
			i += n
		}
	}
	return nil
}

// writeZeroRun makes count chunks from first zeroes, unless the target says that they are.
func (c *copier) writeZeroRun(ctx context.Context, first, count int64) error {
	defer observe(c.Observers.Zero, time.Now())
	if !c.Preallocate && c.target.isZero(ctx, first, count) {
		return nil
	}
	return c.retry(ctx, func() error { return c.target.zero(first, count, !c.Preallocate) })
}
