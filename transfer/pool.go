package transfer

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// job is a piece of work on a batch. do gets a buffer of one chunk. bytes is what it counts for in the search for the
// right depth; 0: it says nothing about that.
type job struct {
	batch *batch
	bytes int64
	do    func(ctx context.Context, buf []byte) error
}

// pool is the workers of a copy: as many as depth says. All its goroutines are the group's.
type pool struct {
	jobs   chan job
	size   int64 // of a buffer
	closed chan struct{}
	start  func(work func() error) // begins a goroutine

	mu    sync.Mutex
	depth *depth // nil: the number is fixed
	want  int
	have  int
}

// newPool makes the pool. Unless the configuration says how many workers it has, first is how many there are at first.
func newPool(c Config, first int) *pool {
	p := &pool{jobs: make(chan job), size: c.ChunkSize, closed: make(chan struct{}), want: c.Workers}
	if c.Workers == 0 {
		p.depth = newDepth(first, int(min(max(copyShare(c.InFlight)/c.ChunkSize, 1), MaxWorkers)))
		p.want = p.depth.now
	}
	return p
}

// copyShare is the part of the bytes in flight that is for chunks being copied; the rest is for those being read back.
func copyShare(inFlight int64) int64 { return inFlight / 4 * 3 }

// run begins the workers in the group.
func (p *pool) run(ctx context.Context, g *errgroup.Group) {
	p.start = func(work func() error) { g.Go(work) }
	p.mu.Lock()
	defer p.mu.Unlock()
	p.grow(ctx)
}

// grow begins the workers that are missing; mu is held.
func (p *pool) grow(ctx context.Context) {
	for ; p.have < p.want; p.have++ {
		p.start(func() error { return p.work(ctx) })
	}
}

// work does jobs until the pool is closed, there are too many workers, or one fails.
func (p *pool) work(ctx context.Context) error {
	buf := getBuffer(p.size)
	defer putBuffer(buf)
	for {
		select {
		case j := <-p.jobs:
			err := j.do(ctx, buf)
			j.batch.done(err)
			if err != nil {
				return err
			}
			if j.bytes > 0 && p.tooMany(ctx, j.bytes) {
				return nil
			}
		case <-p.closed:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tooMany counts a chunk, begins workers if there are too few now, and says whether the caller has to leave.
func (p *pool) tooMany(ctx context.Context, bytes int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.depth != nil {
		p.want = p.depth.done(bytes, time.Now())
	}
	if p.have > p.want {
		p.have--
		return true
	}
	p.grow(ctx)
	return false
}

// submit hands a job to a worker. Every job that was taken is done, so batch.wait never waits for ever.
func (p *pool) submit(ctx context.Context, j job) error {
	j.batch.add()
	select {
	case p.jobs <- j:
		return nil
	case <-ctx.Done():
		j.batch.done(nil)
		return ctx.Err()
	}
}
