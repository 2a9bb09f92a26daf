package transfer

import (
	"sync/atomic"
	"time"
)

const (
	// slowRequest has the requests that follow be half as long: a link that needs seconds for one is busy with too much
	// at a time, and time-outs are near. fastRequest lets them grow again.
	slowRequest = time.Second
	fastRequest = 100 * time.Millisecond
	// leastRequest in bytes is never halved: below, the cost of a request is more than its bytes'.
	leastRequest = 64 << 10
)

// requestSize is the length of requests to a device, found from how long they take. Safe for concurrent use.
type requestSize struct {
	most, block int64
	now         atomic.Int64
	adapt       bool
}

// init begins with the longest; sizes are multiples of block.
func (r *requestSize) init(most, block int64, adapt bool) {
	r.most, r.block, r.adapt = most, block, adapt
	r.now.Store(most)
}

func (r *requestSize) size() int64 { return r.now.Load() }

// took says how long a request of n bytes took. Only those of the present size count: of several that were slow together,
// one has an effect.
func (r *requestSize) took(n int, d time.Duration) {
	now := r.now.Load()
	switch {
	case !r.adapt || int64(n) != now:
	case d > slowRequest && now/2 >= max(leastRequest, r.block):
		r.now.CompareAndSwap(now, now/2/r.block*r.block)
	case d < fastRequest && now < r.most:
		r.now.CompareAndSwap(now, min(2*now, r.most))
	}
}
