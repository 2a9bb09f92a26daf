package transfer

import (
	"context"
	"errors"
	"time"
)

// flush waits for the batches' chunks and makes them durable. Batches whose chunks are all there share a flush.
func (c *copier) flush(ctx context.Context, copied <-chan *batch, flushed chan<- *batch) error {
	var next *batch
	for {
		group := take(next, copied)
		if group == nil {
			return nil
		}
		if err := group[0].wait(); err != nil {
			return err
		}
		group, next = gather(group, copied)
		if err := c.settle(ctx, group, !c.Compare); err != nil {
			return err
		}
		for _, b := range group {
			flushed <- b // has room for every slot
		}
	}
}

// take is the batch that is there, or the next one that comes; nil at the end.
func take(next *batch, copied <-chan *batch) []*batch {
	if next == nil {
		var ok bool
		if next, ok = <-copied; !ok {
			return nil
		}
	}
	return []*batch{next}
}

// gather adds to the group the batches behind it that need no waiting. next is one that came and does.
func gather(group []*batch, copied <-chan *batch) (_ []*batch, next *batch) {
	for {
		select {
		case b, ok := <-copied:
			if !ok {
				return group, nil
			}
			if !b.idle() {
				return group, b
			}
			group = append(group, b)
		default:
			return group, nil
		}
	}
}

// settle waits for what was started, writes the runs of zeroes, and flushes: then all writes of the batches are answered
// and durable.
func (c *copier) settle(ctx context.Context, group []*batch, zeroes bool) error {
	if err := wait(group); err != nil {
		return err
	}
	if zeroes {
		for _, b := range group {
			if err := c.writeZeroes(ctx, b); err != nil {
				return err
			}
		}
		if err := wait(group); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	defer observe(c.Observers.Flush, time.Now())
	return c.target.flush()
}

func wait(group []*batch) error {
	for _, b := range group {
		if err := b.wait(); err != nil {
			return err
		}
	}
	return nil
}

// commit verifies batches and records them. Whatever ends it, what was verified is recorded.
func (c *copier) commit(ctx context.Context, flushed <-chan *batch) error {
	r := recorder{copier: c, timer: time.NewTimer(recordTime)}
	defer r.timer.Stop()
	return errors.Join(r.all(ctx, flushed), r.record())
}

// all takes batches until there are no more.
func (r *recorder) all(ctx context.Context, flushed <-chan *batch) error {
	var next *batch
	for {
		b, ok, err := r.next(next, flushed)
		if err != nil || !ok {
			return err
		}
		next = r.mergeMore(b, flushed)
		if r.Verifier != nil {
			err = r.verify(ctx, b)
		}
		var mismatch *MismatchError
		if err == nil || errors.As(err, &mismatch) {
			err = errors.Join(err, r.add(b))
		}
		if err != nil {
			return err
		}
	}
}

// mergeMore takes the batches that wait behind b into it, as many as may be verified with one call. next is one that did
// not go in.
func (c *copier) mergeMore(b *batch, flushed <-chan *batch) (next *batch) {
	most := max(verifyBytes/c.ChunkSize, 1)
	for {
		select {
		case n, ok := <-flushed:
			if !ok {
				return nil
			}
			if n.first() != b.end() || b.data+n.data > most || n.end()-b.first() > windowChunks {
				return n
			}
			b.merge(n)
		default:
			return nil
		}
	}
}

// recorder appends what is verified to the ledger, several batches at a time, for each append is a flush.
type recorder struct {
	*copier
	timer  *time.Timer
	waits  []*batch // verified, not recorded
	slots  int      // that they hold
	digest int      // how many they have
}

// next is the batch that is there, or the next one that comes; ok is false at the end. Meanwhile it records what has waited
// long enough.
func (r *recorder) next(there *batch, flushed <-chan *batch) (b *batch, ok bool, err error) {
	for there == nil {
		select {
		case b, ok = <-flushed:
			return b, ok, nil
		case <-r.timer.C:
			if err := r.record(); err != nil {
				return nil, false, err
			}
			r.timer.Reset(recordTime)
		}
	}
	return there, true, nil
}

// add takes a verified batch.
func (r *recorder) add(b *batch) error {
	if r.digest+b.digests() > MaxAppendDigests {
		if err := r.record(); err != nil {
			return err
		}
	}
	r.waits = append(r.waits, b)
	r.slots += b.slots
	r.digest += b.digests()
	if r.slots < recordBatches {
		return nil
	}
	return r.record()
}

// record makes the verification durable, and then counts it.
func (r *recorder) record() error {
	if len(r.waits) == 0 {
		return nil
	}
	var runs []Run
	for _, b := range r.waits {
		runs = append(runs, b.runs()...)
	}
	began := time.Now()
	if err := r.ledger.Append(runs); err != nil {
		r.waits = nil // a checkpoint that failed stays so
		return err
	}
	observe(r.Observers.Append, began)
	for _, b := range r.waits {
		for _, p := range b.parts {
			added, unread := p.counts(r.Geometry, &r.zero)
			r.Progress.verified(added)
			r.unread = r.unread || unread
		}
	}
	for range r.slots {
		<-r.copier.slots
	}
	r.waits, r.slots, r.digest = r.waits[:0], 0, 0
	return nil
}
