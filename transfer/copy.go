package transfer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cvold/cvold/dataplane"
)

// Copy makes the first VolumeSize bytes of target those of source: for each chunk that the checkpoint does not hold as
// verified, it copies it, flushes, verifies, and appends it to the checkpoint. Nobody else may write to either device
// meanwhile. When it returns nil, all chunks are verified and durable, and the checkpoint is complete.
//
// It returns the first error: a *DeviceError (unwrapping to the device's own, ErrNoSpace for instance), a *MismatchError
// after a chunk was copied again maxRecopies times and still differed, an error of the checkpoint, the verifier or the
// limiter, or that of ctx. After an error the checkpoint holds what was verified before, and no more; after a failed
// flush or append the caller opens the target, or the checkpoint, anew and calls Copy again.
//
// When it returns, no goroutine of it uses the devices any more. It waits for calls under way, so a device that may hang
// must be one that gives up (dataplane.ErrAbandoned). It closes nothing.
func Copy(ctx context.Context, source, target dataplane.Device, config Config) error {
	config, err := config.complete()
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	c, err := newCopier(source, target, config)
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	if err := c.begin(); err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	if err := c.run(ctx); err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	c.Progress.SetPhase(PhaseDone)
	return nil
}

// copier is one Copy. Batches pass through its stages in order:
//
//	plan ─▶ (workers) ─▶ flush ─▶ commit
//
// plan gives a batch's chunks to the workers and hands the batch on; flush waits until they are done, so that the flush
// comes after the reply to every write; commit verifies, has chunks that differ copied again by the same workers, and
// appends to the checkpoint. slots holds a token for each batch under way.
type copier struct {
	Config
	source, target *end
	zero           zeroDigests
	jobs           chan job
	slots          chan struct{}
	finished       chan struct{}
}

func newCopier(source, target dataplane.Device, config Config) (*copier, error) {
	s, err := newEnd(source, "source", config.Geometry)
	if err != nil {
		return nil, err
	}
	t, err := newEnd(target, "target", config.Geometry)
	if err != nil {
		return nil, err
	}
	return &copier{
		Config: config, source: s, target: t,
		zero:     config.zeroDigests(),
		jobs:     make(chan job),
		slots:    make(chan struct{}, maxBatches),
		finished: make(chan struct{}),
	}, nil
}

// begin empties a checkpoint that is not to be believed, and starts the counting.
func (c *copier) begin() error {
	phase := PhaseCopying
	if c.Compare {
		phase = PhaseComparing
		if c.Checkpoint.VerifiedBytes() > 0 {
			if err := c.Checkpoint.Invalidate(0, c.Chunks()); err != nil {
				return err
			}
		}
	}
	c.Progress.begin(phase, c.VolumeSize, c.Checkpoint.VerifiedBytes())
	return nil
}

func (c *copier) run(ctx context.Context) error {
	g, running := errgroup.WithContext(ctx)
	copied := make(chan *batch, maxBatches)
	flushed := make(chan *batch, maxBatches)
	for range c.Workers {
		g.Go(func() error { return c.work(running) })
	}
	g.Go(func() error {
		defer close(copied)
		return c.plan(running, copied)
	})
	g.Go(func() error {
		defer close(flushed)
		return c.flush(running, copied, flushed)
	})
	g.Go(func() error {
		defer close(c.finished)
		return c.commit(running, flushed)
	})
	if err := g.Wait(); err != nil {
		return err
	}
	if !c.Checkpoint.Complete() {
		return errors.Join(ErrIncomplete, ctx.Err())
	}
	return nil
}

// plan cuts what is not verified into batches and gives them to the workers.
func (c *copier) plan(ctx context.Context, copied chan<- *batch) error {
	for next := int64(0); ; {
		first, end := c.Checkpoint.gap(next)
		if first == end {
			return nil
		}
		next = min(end, first+windowChunks)
		if err := c.planWindow(ctx, first, next-first, copied); err != nil {
			return err
		}
	}
}

func (c *copier) planWindow(ctx context.Context, first, count int64, copied chan<- *batch) error {
	data := all(count)
	if !c.ReadHoles {
		var err error
		if data, err = c.source.dataChunks(ctx, first, count); err != nil {
			return err
		}
	}
	for len(data) > 0 {
		select {
		case c.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		n := c.cut(data)
		b := newBatch(first, data[:n], &c.zero)
		if err := c.start(ctx, b); err != nil {
			return err
		}
		copied <- b // has room for every slot
		first, data = first+n, data[n:]
	}
	return nil
}

// cut is how many of the chunks make the next batch.
func (c *copier) cut(data []bool) int64 {
	left := c.batch
	for i, read := range data {
		if read {
			if left == 0 {
				return int64(i)
			}
			left--
		}
	}
	return int64(len(data))
}

// flush waits for the batches' chunks and makes them durable.
func (c *copier) flush(ctx context.Context, copied <-chan *batch, flushed chan<- *batch) error {
	for b := range copied {
		if err := c.settle(ctx, b, !c.Compare); err != nil {
			return err
		}
		flushed <- b // has room for every slot
	}
	return nil
}

// settle waits for what was started, writes the runs of zeroes, and flushes: then all writes of the batch are answered
// and durable.
func (c *copier) settle(ctx context.Context, b *batch, zeroes bool) error {
	if err := b.wait(); err != nil {
		return err
	}
	if zeroes {
		if err := c.writeZeroes(ctx, b); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	defer observe(c.Observers.Flush, time.Now())
	return c.target.flush()
}

// commit verifies batches and records them.
func (c *copier) commit(ctx context.Context, flushed <-chan *batch) error {
	for b := range flushed {
		if err := c.verify(ctx, b); err != nil {
			return err
		}
		if err := c.record(ctx, b); err != nil {
			return err
		}
		<-c.slots
	}
	return nil
}

// record makes the batch's verification durable, and then counts it.
func (c *copier) record(ctx context.Context, b *batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	defer observe(c.Observers.Append, time.Now())
	if err := c.Checkpoint.Append([]Run{b.run()}); err != nil {
		return err
	}
	c.Progress.verified(c.count(b))
	return nil
}

func (c *copier) count(b *batch) (n counts) {
	for i, d := range b.digests {
		_, size := c.Range(b.first + int64(i))
		n.bytes += size
		if d == c.zero.of(b.first+int64(i)) {
			n.zeroBytes += size
			n.zeroChunks++
			continue
		}
		n.dataChunks++
	}
	return n
}
