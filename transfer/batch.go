package transfer

import (
	"sort"
	"sync"
)

// batch is a stretch of chunks that is flushed, verified and recorded together.
type batch struct {
	parts []*part // one behind the other
	data  int64   // chunks that must be read
	slots int     // of the copier, held
	// untypical: it is copied while the source looks for its holes. How fast that is says nothing about the right depth.
	untypical bool

	mu     sync.Mutex
	open   int           // jobs
	closed chan struct{} // when open is 0; nil: there was none yet
	err    error
}

// first is the batch's first chunk, end the one after its last.
func (b *batch) first() int64 { return b.parts[0].first }
func (b *batch) end() int64   { return b.parts[len(b.parts)-1].end() }

// at is the part that has the chunk.
func (b *batch) at(chunk int64) *part {
	return b.parts[sort.Search(len(b.parts), func(i int) bool { return b.parts[i].end() > chunk })]
}

// merge takes the next batch in, which begins where b ends; the work on both is done.
func (b *batch) merge(next *batch) {
	b.parts = append(b.parts, next.parts...)
	b.data += next.data
	b.slots += next.slots
}

// runs are the batch's digests, but for the chunks that must not be recorded.
func (b *batch) runs() (runs []Run) {
	for _, p := range b.parts {
		runs = p.runs(runs)
	}
	return runs
}

// digests is how many the runs have.
func (b *batch) digests() (n int) {
	for _, p := range b.parts {
		n += len(p.digests)
	}
	return n
}

// markData marks which of the chunks from first are no zeroes; all are of the batch.
func (b *batch) markData(first int64, data []bool, z *zeroDigests) {
	for next := first; next < first+int64(len(data)); {
		p := b.at(next)
		end := min(p.end(), first+int64(len(data)))
		for ; next < end && !p.hole(); next++ {
			data[next-first] = data[next-first] || p.digests[next-p.first] != z.of(next)
		}
		next = end
	}
}

// spoil marks the chunk and all behind it: they must not be recorded.
func (b *batch) spoil(chunk int64, z *zeroDigests) {
	for _, p := range b.parts {
		if p.end() <= chunk {
			continue
		}
		p.expand(z)
		p.spoiled = true
		if p.bad == nil {
			p.bad = make([]bool, p.count)
		}
		for i := max(chunk-p.first, 0); i < p.count; i++ {
			p.bad[i] = true
		}
	}
}

// doubt marks the parts with chunks that were written and differ.
func (b *batch) doubt(differ []*MismatchError) {
	for _, m := range differ {
		b.at(m.Chunk).doubted = true
	}
}

// add takes a job.
func (b *batch) add() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open == 0 {
		b.closed = make(chan struct{})
	}
	b.open++
}

// done ends a job; the batch's first error is kept.
func (b *batch) done(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
	if b.open--; b.open == 0 {
		close(b.closed)
	}
}

// idle says that wait would not wait.
func (b *batch) idle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open == 0
}

// finished is closed when all jobs are done. There must be no more to come.
func (b *batch) finished() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed == nil {
		b.closed = make(chan struct{})
		close(b.closed)
	}
	return b.closed
}

// wait waits for all jobs and returns the first error of any.
func (b *batch) wait() error {
	<-b.finished()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}
