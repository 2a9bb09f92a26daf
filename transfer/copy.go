package transfer

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/cvold/cvold/dataplane"
)

// Copy makes the first VolumeSize bytes of target those of source: for each chunk that the checkpoint does not hold as
// verified, it copies it, flushes, verifies, and appends it to the checkpoint. Nobody else may write to either device
// meanwhile. When it returns nil, all chunks are verified (with a Verifier: read back) and durable, and the checkpoint
// is complete.
//
// A chunk that was read back wrong, and was good after it was copied again, may have gone over another one that was verified
// before. So all is read back once more then.
//
// It returns the first error: a *DeviceError (unwrapping to the device's own, ErrNoSpace for instance), a *MismatchError
// after a chunk was copied again maxRecopies times and still differed, an error of the checkpoint, the verifier or the
// limiter, or that of ctx. After an error the checkpoint holds what was verified before, and no more; after a failed
// flush or append the caller opens the target, or the checkpoint, anew and calls Copy again. ErrUnreadable is the one
// error that comes after all was done that can be done.
//
// When it returns, no goroutine of it uses the devices any more. It waits for calls under way, so a device that may hang
// must be one that gives up (dataplane.ErrAbandoned). It closes nothing.
func Copy(ctx context.Context, source, target dataplane.Device, config Config) error {
	config, err := config.complete()
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	if err := copyAll(ctx, source, target, config); err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	config.Progress.SetPhase(PhaseDone)
	return nil
}

// copier is one Copy. Batches pass through its stages in order:
//
//	look ─▶ plan ─▶ (workers) ─▶ flush ─▶ commit
//
// look asks what there is to copy; plan gives a batch's chunks to the workers and hands the batch on; flush waits until they are done, so that the flush
// comes after the reply to every write; commit verifies, has chunks that differ copied again by the same workers, and
// appends to the checkpoint. What waits at a stage goes through it together: the slower a flush, the more it covers.
// slots holds a token for each batch under way.
type copier struct {
	Config
	source, target *end
	zero           zeroDigests
	pool           *pool
	slots          chan struct{}
	ledger         ledger
	since          *since
	unread         bool           // a batch with chunks that cannot be read went through commit
	differed       *MismatchError // the last chunk that was written and read back wrong
}

func newCopier(source, target dataplane.Device, config Config) (*copier, error) {
	s, err := newEnd(source, "source", config.Geometry, config.RequestSize)
	if err != nil {
		return nil, err
	}
	t, err := newEnd(target, "target", config.Geometry, config.RequestSize)
	if err != nil {
		return nil, err
	}
	c := &copier{
		Config: config, source: s, target: t,
		zero:   config.zeroDigests(),
		pool:   newPool(config, firstWorkers(s.device.Info(), t.device.Info())),
		slots:  make(chan struct{}, maxBatches),
		ledger: &forgetful{geometry: config.Geometry},
	}
	if config.Checkpoint != nil {
		c.ledger = config.Checkpoint
	}
	if config.Since != nil {
		c.since = newSince(config.Since)
	}
	return c, nil
}

// begin empties a checkpoint that is not to be believed, and starts the counting; not in later rounds, which count on.
func (c *copier) begin(round int) error {
	phase := PhaseCopying
	if c.Compare {
		phase = PhaseComparing
		if c.ledger.VerifiedBytes() > 0 {
			if err := c.ledger.Invalidate(0, c.Chunks()); err != nil {
				return err
			}
		}
	}
	if round > 0 {
		c.Progress.again(phase, c.ledger.VerifiedBytes())
		return nil
	}
	c.Progress.begin(phase, c.VolumeSize, c.ledger.VerifiedBytes())
	return nil
}

func (c *copier) run(ctx context.Context) error {
	g, running := errgroup.WithContext(ctx)
	windows := make(chan window)
	copied := make(chan *batch, maxBatches)
	flushed := make(chan *batch, maxBatches)
	c.pool.run(running, g)
	g.Go(func() error {
		defer close(windows)
		return c.look(running, windows)
	})
	g.Go(func() error {
		defer close(copied)
		return c.plan(running, windows, copied)
	})
	g.Go(func() error {
		defer close(flushed)
		return c.flush(running, copied, flushed)
	})
	g.Go(func() error {
		defer close(c.pool.closed)
		return c.commit(running, flushed)
	})
	if err := g.Wait(); err != nil {
		return err
	}
	if c.unread {
		return ErrUnreadable
	}
	if first, end := c.ledger.gap(0); first < end {
		return errors.Join(ErrIncomplete, ctx.Err())
	}
	return nil
}
