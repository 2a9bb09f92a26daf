package transfer

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// Limiter slows a copy down. WaitN returns when n bytes may move, or with an error, and then the copy ends with it. It
// is called before the source's bytes are read, by several goroutines, with n up to the chunk size. A Share is one;
// golang.org/x/time/rate's Limiter is one too if its burst is at least a chunk.
type Limiter interface {
	WaitN(ctx context.Context, n int) error
}

// Rate is how much a Limit lets through in a second. The zero value is no limit.
type Rate struct {
	// Bytes a second; 0 or less is no limit.
	Bytes int64
	// Operations a second, each a call of WaitN: a chunk; 0 or less is no limit.
	Operations int64
}

// lateness is by how much timers may be late: what a limit lets through in that time may be caught up on, or the limit would
// never be reached.
const lateness = 10 * time.Millisecond

// burst is how much of perSecond may pass at once after a pause: an operation, and what came late.
func burst(perSecond, operation int64) int {
	return int(operation + max(perSecond, 0)/int64(time.Second/lateness))
}

// limitOf is perSecond as package rate has it.
func limitOf(perSecond int64) rate.Limit {
	if perSecond <= 0 {
		return rate.Inf
	}
	return rate.Limit(perSecond)
}

// until is how long it takes from now until l lets n through.
func until(l *rate.Limiter, now time.Time, n int) time.Duration {
	missing := float64(n) - l.TokensAt(now)
	if missing <= 0 || l.Limit() == rate.Inf {
		return 0
	}
	// One more than it may come to, for AllowN is strict.
	return time.Duration(missing/float64(l.Limit())*float64(time.Second)) + 1
}
