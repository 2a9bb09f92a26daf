package transfer

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	// backgroundWindow is how long latencies are looked at before the rate changes: long beside a request, short beside
	// the patience of whoever waits for a disk.
	backgroundWindow = time.Second
	// slowShare: if more than one request in so many is slower than the target, background transfers yield. It is the 95th
	// percentile: a mean would hide slow requests to the disk behind fast ones to the page cache, and a single outlier
	// of thousands should not stop a copy.
	slowShare = 20
	// backgroundFloor in bytes a second is what is left to background transfers whatever happens, so that they end some day:
	// a tebibyte in three days.
	backgroundFloor = 4 << 20
	// backgroundStep in bytes a second is what they get more after each window without slow requests: from the floor to
	// what a disk gives in half a minute.
	backgroundStep = 8 << 20
	// quietWindows without any request are the end of the limit: there is nobody to yield to.
	quietWindows = 10
)

// Background is the limit of the transfers that yield to the foreground: together they go slower while requests of the
// foreground are slow, and faster again when these are not (additive increase, multiplicative decrease, as TCP does it). It
// observes the foreground's requests. All methods may be called at the same time, but Run only once.
type Background struct {
	limit  *Limit
	target time.Duration

	requests, slow atomic.Int64

	// Of Run alone: the totals when the window began, and how many windows there was no request.
	before BackgroundStats
	passed int64
	quiet  int
}

// BackgroundStats counts the foreground's requests since the start.
type BackgroundStats struct {
	// Requests observed; Slow ones took longer than the target.
	Requests, Slow int64
}

// NewBackground makes a limit that keeps 19 of 20 requests of the foreground below target, if it can. At first there is none.
func NewBackground(target time.Duration) *Background {
	return &Background{limit: NewLimit(Rate{}), target: target}
}

// Limit is what background transfers have to pass. Its rate is Run's to set.
func (b *Background) Limit() *Limit { return b.limit }

// Observe is told how long a request of the foreground took.
func (b *Background) Observe(seconds float64) {
	b.requests.Add(1)
	if seconds > b.target.Seconds() {
		b.slow.Add(1)
	}
}

// Stats may be called at any time.
func (b *Background) Stats() BackgroundStats {
	return BackgroundStats{Requests: b.requests.Load(), Slow: b.slow.Load()}
}

// Run sets the limit until ctx ends.
func (b *Background) Run(ctx context.Context) {
	ticker := time.NewTicker(backgroundWindow)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			b.adjust()
		case <-ctx.Done():
			return
		}
	}
}

// adjust sets the limit after a window.
func (b *Background) adjust() {
	now, passed := b.Stats(), b.limit.Stats().Bytes
	requests, slow := now.Requests-b.before.Requests, now.Slow-b.before.Slow
	moved := passed - b.passed
	b.before, b.passed = now, passed
	if requests > 0 {
		b.quiet = 0
	} else {
		b.quiet++
	}
	rate := b.limit.Rate()
	next := rate
	switch {
	case slow*slowShare > requests:
		next.Bytes = yielded(rate.Bytes, moved*int64(time.Second/backgroundWindow))
	case b.quiet >= quietWindows:
		next.Bytes = 0
	case rate.Bytes > 0:
		next.Bytes += backgroundStep
	}
	if next != rate {
		b.limit.Set(next)
	}
}

// yielded is half of what the limit let through: of the limit itself, or of what moved if that was less, for a limit that
// nobody reaches takes nothing away.
func yielded(limit, moved int64) int64 {
	if limit <= 0 || moved < limit {
		limit = moved
	}
	return max(limit/2, backgroundFloor)
}
