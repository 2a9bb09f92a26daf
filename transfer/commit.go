package transfer

import (
	"context"
	"errors"
	"time"
)

// flush waits for the batches' chunks and makes them durable. Batches whose chunks are all there share a flush.
func (c *copier) flush(ctx context.Context, copied <-chan *batch, flushed chan<- *batch) error {
	f := flusher{copied: copied, most: max(flushBytes/c.ChunkSize, 1)}
	for {
		group, err := f.gather()
		if err != nil || group == nil {
			return err
		}
		if err := c.settle(ctx, group, !c.Compare); err != nil {
			return err
		}
		began := time.Now()
		if err := c.target.flush(); err != nil {
			return err
		}
		observe(c.Observers.Flush, began)
		f.rest(began, time.Now())
		for _, b := range group {
			flushed <- b // has room for every slot
		}
	}
}

// flusher gathers batches for one flush.
type flusher struct {
	copied <-chan *batch
	most   int64     // chunks of data that are not kept waiting
	next   *batch    // came, and is not in a group yet
	until  time.Time // when the next flush may begin
}

// rest keeps the time between flushes in proportion to what one takes: where a flush costs a journal's commit, writes suffer
// from each.
func (f *flusher) rest(began, ended time.Time) { f.until = ended.Add(flushRest * ended.Sub(began)) }

// gather is the next group, nil at the end: the first batch, and those behind it that are copied before the rest is over, or
// need no waiting then.
func (f *flusher) gather() (group []*batch, err error) {
	rest := time.NewTimer(time.Until(f.until))
	defer rest.Stop()
	if !f.take(nil, false) {
		return nil, nil
	}
	data, rested := int64(0), !time.Now().Before(f.until)
	for {
		hurry := len(group) > 0 && (rested || data >= f.most)
		switch {
		case f.next == nil && !f.take(rest.C, hurry):
			return group, nil
		case f.next == nil: // the rest is over
			rested = true
		case len(group) == 0 || f.next.idle():
			if err := f.next.wait(); err != nil {
				return nil, err
			}
			group, data, f.next = append(group, f.next), data+f.next.data, nil
		case hurry:
			return group, nil
		default:
			select {
			case <-f.next.finished():
			case <-rest.C:
				rested = true
			}
		}
	}
}

// take waits for the next batch, in a hurry not at all. false: there is none. It leaves next nil when rest ends the wait.
func (f *flusher) take(rest <-chan time.Time, hurry bool) (ok bool) {
	if f.next != nil {
		return true
	}
	if hurry {
		select {
		case f.next, ok = <-f.copied:
		default:
		}
		return ok
	}
	select {
	case f.next, ok = <-f.copied:
		return ok
	case <-rest:
		return true
	}
}

// settle waits for what was started, and for the runs of zeroes that it has written: then all writes of the batches are
// answered.
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
	return ctx.Err()
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
	waits  []*batch  // verified, not recorded
	slots  int       // that they hold
	digest int       // how many they have
	oldest time.Time // when the first of them came
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
	if len(r.waits) == 0 {
		r.oldest = time.Now()
	}
	r.waits = append(r.waits, b)
	r.slots += b.slots
	r.digest += b.digests()
	if r.slots < recordBatches && time.Since(r.oldest) < recordTime {
		return nil // next sees to it, unless batches come so slowly that it never waits
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
			if err := r.settleSalvaged(p); err != nil {
				r.waits = nil
				return err
			}
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
