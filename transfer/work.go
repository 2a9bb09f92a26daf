package transfer

import (
	"context"
	"time"
)

// start has the batch's chosen chunks copied (in Compare: digested), but for those that are known to be zeroes.
func (c *copier) start(ctx context.Context, b *batch) error {
	return c.each(ctx, b, func(i int64) func(context.Context, []byte) error {
		if b.digests[i] == c.zero.of(b.first+i) {
			return nil
		}
		return func(ctx context.Context, buf []byte) error { return c.copyChunk(ctx, buf, b, i, !c.Compare) }
	})
}

// each submits a job for each chosen chunk; where jobFor answers nil there is nothing to do.
func (c *copier) each(ctx context.Context, b *batch, jobFor func(i int64) func(context.Context, []byte) error) error {
	for i := range int64(len(b.chosen)) {
		if !b.chosen[i] {
			continue
		}
		if do := jobFor(i); do != nil {
			_, n := c.Range(b.first + i)
			if err := c.pool.submit(ctx, job{batch: b, bytes: n, do: do}); err != nil {
				return err
			}
		}
	}
	return nil
}

// copyChunk reads and digests the batch's i-th chunk and writes it, unless the target holds it, or it is all zeroes: those
// are left to writeZeroes, which takes them together with their neighbours.
func (c *copier) copyChunk(ctx context.Context, buf []byte, b *batch, i int64, write bool) error {
	p, err := c.readChunk(ctx, buf, b, i)
	if err != nil {
		return err
	}
	zero := isZero(p)
	b.digests[i] = c.sum(p, b.first+i, zero)
	if b.keep(i) || zero || !write {
		return nil
	}
	return c.writeChunk(ctx, buf, b.first+i)
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
func (c *copier) rewriteChunk(ctx context.Context, buf []byte, b *batch, i int64) error {
	p, err := c.readChunk(ctx, buf, b, i)
	if err != nil {
		return err
	}
	b.digests[i] = c.Sum(p)
	return c.writeChunk(ctx, buf, b.first+i)
}

func (c *copier) readChunk(ctx context.Context, buf []byte, b *batch, i int64) (p []byte, err error) {
	chunk := b.first + i
	_, n := c.Range(chunk)
	if c.Limiter != nil {
		if err := c.Limiter.WaitN(ctx, int(n)); err != nil {
			return nil, err
		}
	}
	defer observe(c.Observers.Read, time.Now())
	err = c.retry(ctx, func() error { p, err = c.source.read(buf, chunk); return err })
	if err != nil && c.Unreadable != nil && mayPass(err) {
		b.bad[i] = true
		return c.salvage(ctx, buf, chunk)
	}
	return p, err
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
	for i := int64(0); i < int64(len(b.digests)); {
		n := c.zeroRun(b, i, most)
		if n == 0 {
			i++
			continue
		}
		first := b.first + i
		err := c.pool.submit(ctx, job{batch: b, do: func(ctx context.Context, _ []byte) error {
			defer observe(c.Observers.Zero, time.Now())
			return c.retry(ctx, func() error { return c.target.zero(first, n, !c.Preallocate) })
		}})
		if err != nil {
			return err
		}
		i += n
	}
	return nil
}

// zeroRun is how many chunks from the batch's i-th on, at most most, are chosen, zeroes, and not known to be so.
func (c *copier) zeroRun(b *batch, i, most int64) (n int64) {
	for n < most && i+n < int64(len(b.digests)) && b.chosen[i+n] && b.digests[i+n] == c.zero.of(b.first+i+n) {
		n++
	}
	return n
}
