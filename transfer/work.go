package transfer

import (
	"context"
	"time"
)

// job is a piece of work on a batch. do gets a buffer of one chunk.
type job struct {
	batch *batch
	do    func(ctx context.Context, buf []byte) error
}

// work does jobs until the copy is finished or fails.
func (c *copier) work(ctx context.Context) error {
	buf := getBuffer(c.ChunkSize)
	defer putBuffer(buf)
	for {
		select {
		case j := <-c.jobs:
			err := j.do(ctx, buf)
			j.batch.done(err)
			if err != nil {
				return err
			}
		case <-c.finished:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// submit hands a job to a worker. Every job that was taken is done, so batch.wait never waits for ever.
func (c *copier) submit(ctx context.Context, b *batch, do func(context.Context, []byte) error) error {
	b.pending.Add(1)
	select {
	case c.jobs <- job{b, do}:
		return nil
	case <-ctx.Done():
		b.pending.Done()
		return ctx.Err()
	}
}

// start has the batch's chosen chunks copied (in Compare: digested), but for those that are known to be zeroes.
func (c *copier) start(ctx context.Context, b *batch) error {
	return c.each(ctx, b, func(chunk int64) func(context.Context, []byte) error {
		digest := &b.digests[chunk-b.first]
		if *digest == c.zero.of(chunk) {
			return nil
		}
		return func(ctx context.Context, buf []byte) error {
			return c.copyChunk(ctx, buf, chunk, digest, !c.Compare)
		}
	})
}

// each submits a job for each chosen chunk; where jobFor answers nil there is nothing to do.
func (c *copier) each(ctx context.Context, b *batch, jobFor func(chunk int64) func(context.Context, []byte) error) error {
	for i, chosen := range b.chosen {
		if !chosen {
			continue
		}
		if do := jobFor(b.first + int64(i)); do != nil {
			if err := c.submit(ctx, b, do); err != nil {
				return err
			}
		}
	}
	return nil
}

// copyChunk reads and digests a chunk and writes it, unless it is all zeroes: then it is left to writeZeroes, which
// takes it together with its neighbours.
func (c *copier) copyChunk(ctx context.Context, buf []byte, chunk int64, digest *Digest, write bool) error {
	p, err := c.readChunk(ctx, buf, chunk)
	if err != nil {
		return err
	}
	if isZero(p) {
		*digest = c.zero.of(chunk)
		return nil
	}
	*digest = c.Sum(p)
	if !write {
		return nil
	}
	return c.writeChunk(ctx, buf, chunk)
}

// rewriteChunk is copyChunk that writes zeroes as data: a target that differed where zeroes were asked for is not asked
// again.
func (c *copier) rewriteChunk(ctx context.Context, buf []byte, chunk int64, digest *Digest) error {
	p, err := c.readChunk(ctx, buf, chunk)
	if err != nil {
		return err
	}
	*digest = c.Sum(p)
	return c.writeChunk(ctx, buf, chunk)
}

func (c *copier) readChunk(ctx context.Context, buf []byte, chunk int64) ([]byte, error) {
	_, n := c.Range(chunk)
	if c.Limiter != nil {
		if err := c.Limiter.WaitN(ctx, int(n)); err != nil {
			return nil, err
		}
	}
	defer observe(c.Observers.Read, time.Now())
	return c.source.read(buf, chunk)
}

func (c *copier) writeChunk(ctx context.Context, buf []byte, chunk int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	defer observe(c.Observers.Write, time.Now())
	if err := c.target.write(buf, chunk); err != nil {
		return err
	}
	_, n := c.Range(chunk)
	c.Progress.sent(n)
	return nil
}

// writeZeroes makes the chosen chunks that are zeroes read as zeroes on the target: each run with one request, or with
// as few as maxZero allows.
func (c *copier) writeZeroes(ctx context.Context, b *batch) error {
	most := max(maxZero/c.ChunkSize, 1)
	for i := int64(0); i < int64(len(b.digests)); {
		n := c.zeroRun(b, i, most)
		if n == 0 {
			i++
			continue
		}
		first := b.first + i
		err := c.submit(ctx, b, func(context.Context, []byte) error {
			defer observe(c.Observers.Zero, time.Now())
			return c.target.zero(first, n)
		})
		if err != nil {
			return err
		}
		i += n
	}
	return b.wait()
}

// zeroRun is how many chunks from the batch's i-th on, at most most, are chosen and zeroes.
func (c *copier) zeroRun(b *batch, i, most int64) (n int64) {
	for n < most && i+n < int64(len(b.digests)) && b.chosen[i+n] && b.digests[i+n] == c.zero.of(b.first+i+n) {
		n++
	}
	return n
}
