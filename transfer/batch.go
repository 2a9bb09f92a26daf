package transfer

import (
	"sync"
	"sync/atomic"
)

// batch is a stretch of chunks that is flushed, verified and recorded together.
type batch struct {
	first   int64
	digests []Digest // of the source; zero digests where nothing need be read
	chosen  []bool   // the chunks that are being copied now
	held    []bool   // the chunks that the target held already
	base    []Digest // what the target is known to hold, or nil
	bad     []bool   // the chunks that must not be recorded: not read whole, or different whatever one does; or nil
	data    int64    // chunks that must be read
	slots   int      // of the copier, held

	pending sync.WaitGroup
	open    atomic.Int64 // jobs pending
	mu      sync.Mutex
	err     error
}

// newBatch takes the chunks from first; data says which must be read.
func newBatch(first int64, data []bool, z *zeroDigests) *batch {
	b := &batch{
		first: first, digests: make([]Digest, len(data)), chosen: all(int64(len(data))), held: make([]bool, len(data)),
		slots: 1,
	}
	for i := range data {
		if !data[i] {
			b.digests[i] = z.of(first + int64(i))
			continue
		}
		b.data++
	}
	return b
}

// end is the chunk after the batch's last.
func (b *batch) end() int64 { return b.first + int64(len(b.digests)) }

// runs are the batch's digests, but for the chunks that could not be read whole.
func (b *batch) runs() (runs []Run) {
	from := 0
	for i := 0; i <= len(b.digests); i++ {
		if i < len(b.digests) && !b.isBad(i) {
			continue
		}
		if i > from {
			runs = append(runs, Run{First: b.first + int64(from), Count: int64(i - from), Digests: b.digests[from:i]})
		}
		from = i + 1
	}
	return runs
}

func (b *batch) isBad(i int) bool { return b.bad != nil && b.bad[i] }

// keep says whether the target is known to hold the i-th chunk's digest; then there is nothing to copy.
func (b *batch) keep(i int64) bool {
	if b.base == nil || b.base[i] != b.digests[i] {
		return false
	}
	b.chosen[i], b.held[i] = false, true
	return true
}

// merge takes the next batch in, which begins where b ends; the work on both is done.
func (b *batch) merge(next *batch) {
	if b.bad != nil || next.bad != nil {
		b.bad = append(orFalse(b.bad, len(b.digests)), orFalse(next.bad, len(next.digests))...)
	}
	b.digests = append(b.digests, next.digests...)
	b.chosen = append(b.chosen, next.chosen...)
	b.held = append(b.held, next.held...)
	b.base = nil
	b.data += next.data
	b.slots += next.slots
}

// spoil marks the chunk and all behind it.
func (b *batch) spoil(chunk int64) {
	b.bad = orFalse(b.bad, len(b.digests))
	for i := chunk - b.first; i < int64(len(b.bad)); i++ {
		b.bad[i] = true
	}
}

func orFalse(flags []bool, n int) []bool {
	if flags == nil {
		return make([]bool, n)
	}
	return flags
}

// add takes a job.
func (b *batch) add() {
	b.open.Add(1)
	b.pending.Add(1)
}

// done ends a job; the batch's first error is kept.
func (b *batch) done(err error) {
	b.mu.Lock()
	if b.err == nil {
		b.err = err
	}
	b.mu.Unlock()
	b.open.Add(-1)
	b.pending.Done()
}

// idle says that wait would not wait.
func (b *batch) idle() bool { return b.open.Load() == 0 }

// wait waits for all jobs and returns the first error of any.
func (b *batch) wait() error {
	b.pending.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}
