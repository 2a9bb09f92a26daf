package transfer

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

// Limit is a rate that transfers share; they come to it through a Share each. It lets one operation after another through,
// in the order of their coming, so that shares that wait take turns. All methods may be called at the same time.
type Limit struct {
	// line is where operations wait for their turn: it lets them in first come, first served. Whoever has the turn waits
	// until there is room for it.
	line *semaphore.Weighted

	mu                sync.Mutex
	rate              Rate
	bytes, operations *rate.Limiter
	// largest operation so far, in bytes. That much may pass at once: an operation that waits at one limit after another must
	// not lose at the next what it could have saved there meanwhile.
	largest int64
	// changed is closed by Set.
	changed chan struct{}

	passedBytes, passedOperations, waited atomic.Int64
}

// LimitStats is what a Limit has done since it was made.
type LimitStats struct {
	// Bytes and Operations were let through.
	Bytes, Operations int64
	// Waited is the time that shares have spent here, each for itself: two that wait for a second make two.
	Waited time.Duration
}

// NewLimit makes a limit of r.
func NewLimit(r Rate) *Limit {
	l := &Limit{
		line: semaphore.NewWeighted(1), largest: DefaultChunkSize, changed: make(chan struct{}),
		bytes: rate.NewLimiter(rate.Inf, DefaultChunkSize), operations: rate.NewLimiter(rate.Inf, 1),
	}
	l.Set(r)
	return l
}

// Set changes the limit, at once also for those who wait.
func (l *Limit) Set(r Rate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate = r
	l.bytes.SetLimit(limitOf(r.Bytes))
	l.operations.SetLimit(limitOf(r.Operations))
	l.fit()
	close(l.changed)
	l.changed = make(chan struct{})
}

// Rate is what was set last.
func (l *Limit) Rate() Rate {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rate
}

// Stats may be called at any time; its parts are not of one instant.
func (l *Limit) Stats() LimitStats {
	return LimitStats{
		Bytes: l.passedBytes.Load(), Operations: l.passedOperations.Load(), Waited: time.Duration(l.waited.Load()),
	}
}

// wait returns when an operation of n bytes may pass, or with ctx's error; then it has taken nothing.
func (l *Limit) wait(ctx context.Context, n int) error {
	start := time.Now()
	defer func() { l.waited.Add(int64(time.Since(start))) }()
	if err := l.line.Acquire(ctx, 1); err != nil {
		return err
	}
	defer l.line.Release(1)
	for {
		delay, changed := l.take(n)
		if delay <= 0 {
			return nil
		}
		if err := rest(ctx, delay, changed); err != nil {
			return err
		}
	}
}

// rest waits for d, or until changed is closed, or ctx ends, whose error it then returns.
func rest(ctx context.Context, d time.Duration, changed <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take takes what an operation needs, or says how long it is until there is that much, unless changed is closed before. Only
// whoever has the turn takes, so there is nothing to reserve beforehand, and nothing to give back.
func (l *Limit) take(n int) (delay time.Duration, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if int64(n) > l.largest {
		l.largest = int64(n)
		l.fit()
	}
	now := time.Now()
	if delay = max(until(l.bytes, now, n), until(l.operations, now, 1)); delay > 0 {
		return delay, l.changed
	}
	l.bytes.AllowN(now, n)
	l.operations.AllowN(now, 1)
	l.passedBytes.Add(int64(n))
	l.passedOperations.Add(1)
	return 0, nil
}

// fit makes room for the largest operation. The caller has the lock.
func (l *Limit) fit() {
	l.bytes.SetBurst(burst(l.rate.Bytes, l.largest))
	l.operations.SetBurst(burst(l.rate.Operations, 1))
}

// Share is one transfer's part in one or more limits, all of which its operations have to pass, one after another. Of its
// callers one at a time waits at the limits and the others behind it: a transfer with more workers gets no more. All
// methods may be called at the same time.
type Share struct {
	turn   *semaphore.Weighted
	limits atomic.Pointer[[]*Limit]
}

// NewShare is a part in the limits; nil ones are left out.
func NewShare(limits ...*Limit) *Share {
	s := &Share{turn: semaphore.NewWeighted(1)}
	s.Use(limits...)
	return s
}

// Use changes the limits, for the operations that do not wait at one of them yet; nil ones are left out.
func (s *Share) Use(limits ...*Limit) {
	limits = slices.DeleteFunc(slices.Clone(limits), func(l *Limit) bool { return l == nil })
	s.limits.Store(&limits)
}

// WaitN implements Limiter: it returns when an operation of n bytes may begin, or with ctx's own error. Then what was taken
// of the limit that it waited at is given back, and what it had passed before is spent: one operation at the most.
func (s *Share) WaitN(ctx context.Context, n int) error {
	if err := s.turn.Acquire(ctx, 1); err != nil {
		return err
	}
	defer s.turn.Release(1)
	for _, l := range *s.limits.Load() {
		if err := l.wait(ctx, n); err != nil {
			return err
		}
	}
	return nil
}
