package migration

import (
	"context"
	"fmt"

	"golang.org/x/sync/semaphore"

	"github.com/cvold/cvold/dataplane"
)

// readsMax is how many calls of Digests may read at the same time: a source makes one, and repeats it when the link was
// lost.
const readsMax = 64

// reads are the calls of Digests that read the medium of one attempt.
type reads struct {
	medium dataplane.Device
	under  *semaphore.Weighted
	ctx    context.Context // ends them
	cancel context.CancelFunc
}

// newReads lets calls read medium until end, or until parent ends.
func newReads(parent context.Context, medium dataplane.Device) *reads {
	r := &reads{medium: medium, under: semaphore.NewWeighted(readsMax)}
	r.ctx, r.cancel = context.WithCancel(parent)
	return r
}

// begin lets one call in; it reads with the context given back, and calls leave.
func (r *reads) begin(ctx context.Context) (reading context.Context, leave func(), err error) {
	if !r.under.TryAcquire(1) {
		return nil, nil, refuse(ErrBusy, "%d calls read the target back already", readsMax)
	}
	reading, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(r.ctx, cancel)
	return reading, func() {
		stop()
		cancel()
		r.under.Release(1)
	}, nil
}

// end ends the calls and waits until none reads any more, no longer than ctx: a medium may hang. It may be called again.
func (r *reads) end(ctx context.Context) error {
	r.cancel()
	if err := r.under.Acquire(ctx, readsMax); err != nil {
		return fmt.Errorf("end the reading back: %w", context.Cause(ctx))
	}
	r.under.Release(readsMax)
	return nil
}
