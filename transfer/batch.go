package transfer

import "sync"

// batch is a stretch of chunks that is flushed, verified and recorded together.
type batch struct {
	first   int64
	digests []Digest // of the source; zero digests where nothing need be read
	chosen  []bool   // the chunks that are being copied now

	pending sync.WaitGroup
	mu      sync.Mutex
	err     error
}

// newBatch takes the chunks from first; data says which must be read.
func newBatch(first int64, data []bool, z *zeroDigests) *batch {
	b := &batch{first: first, digests: make([]Digest, len(data)), chosen: all(int64(len(data)))}
	for i := range data {
		if !data[i] {
			b.digests[i] = z.of(first + int64(i))
		}
	}
	return b
}

// run is the batch's digests as one run.
func (b *batch) run() Run {
	return Run{First: b.first, Count: int64(len(b.digests)), Digests: b.digests}
}

// done ends a job; the batch's first error is kept.
func (b *batch) done(err error) {
	b.mu.Lock()
	if b.err == nil {
		b.err = err
	}
	b.mu.Unlock()
	b.pending.Done()
}

// wait waits for all jobs and returns the first error of any.
func (b *batch) wait() error {
	b.pending.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}
