package transfer

import "sync"

// ledger is the record of what a copy need not do any more.
type ledger interface {
	gap(chunk int64) (first, end int64)
	Append(runs []Run) error
	Invalidate(first, count int64) error
	VerifiedBytes() int64
}

// forgetful is the ledger of a copy without a checkpoint: it lasts as long as the copy, and keeps no digests.
type forgetful struct {
	geometry Geometry

	mu       sync.Mutex
	verified intervals
}

func (f *forgetful) gap(chunk int64) (first, end int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.verified.gap(chunk, f.geometry.Chunks())
}

func (f *forgetful) Append(runs []Run) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range runs {
		f.verified = f.verified.insert(interval{first: r.First, end: r.End(), alone: true})
	}
	return nil
}

func (f *forgetful) Invalidate(first, count int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.verified = f.verified.remove(first, first+count)
	return nil
}

func (f *forgetful) VerifiedBytes() (n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.verified.bytes(f.geometry)
}
