package transfer

import (
	"context"
	"errors"
	"time"
)

// verify returns nil when the target gives back the batch's digests, and a *MismatchError when a chunk of it never does: those
// before it are verified then, all others marked bad. Chunks that differ are copied again, from the
// source read anew; in Compare the first time is how a chunk gets copied at all.
func (c *copier) verify(ctx context.Context, b *batch) error {
	first, count := b.first, int64(len(b.digests))
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
		}
		if try == tries {
			b.spoil(differ[0].Chunk)
			return differ[0]
		}
		choose(b, differ)
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
	runs, err := c.Verifier.Digests(ctx, first, count)
	var found []Digest
	if err == nil {
		found, err = expand(runs, first, count, &c.zero)
	}
	if err != nil {
		return nil, c.verifyError(first, count, err)
	}
	var differ []*MismatchError
	for i, target := range found {
		chunk := first + int64(i)
		if source := b.digests[chunk-b.first]; source != target {
			off, _ := c.Range(chunk)
			differ = append(differ, &MismatchError{Chunk: chunk, Offset: off, Source: source, Target: target})
		}
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
	c.Logger.Warn("target differs", "chunks", len(differ), "chunk", m.Chunk, "offset", m.Offset,
		"source_digest", m.Source.String(), "target_digest", m.Target.String())
}

// choose makes the chunks that differ the batch's chosen ones.
func choose(b *batch, differ []*MismatchError) {
	clear(b.chosen)
	for _, m := range differ {
		b.chosen[m.Chunk-b.first] = true
	}
}

// hold notes that the target held all chunks but those that differ.
func hold(b *batch, differ []*MismatchError) {
	for i := range b.held {
		b.held[i] = true
	}
	for _, m := range differ {
		b.held[m.Chunk-b.first] = false
	}
}

// again copies the batch's chosen chunks once more and flushes. compared: none was written yet, so zeroes may be zeroed.
func (c *copier) again(ctx context.Context, b *batch, compared bool) error {
	err := c.each(ctx, b, func(i int64) func(context.Context, []byte) error {
		if !compared {
			return func(ctx context.Context, buf []byte) error { return c.rewriteChunk(ctx, buf, b, i) }
		}
		if b.digests[i] == c.zero.of(b.first+i) {
			return nil
		}
		return func(ctx context.Context, buf []byte) error { return c.copyChunk(ctx, buf, b, i, true) }
	})
	if err != nil {
		return err
	}
	return c.settle(ctx, []*batch{b}, compared)
}
