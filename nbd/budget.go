package nbd

import (
	"context"
	"sync"
)

// budget is the memory for payload in flight, shared by all connections of a server.
//
// A connection may take more as long as it does not hold more than what is still free. So a few that hold on to theirs,
// because their client does not read or trickles, never hold all: one has at most a half, two have a third each. One
// request of up to guaranteed bytes is always let through, for a connection that holds nothing.
type budget struct {
	total int64

	mu      sync.Mutex
	used    int64
	waiting []*allowance // whose connections wait
}

// guaranteed is the largest request that a connection with nothing in flight need not wait for: 512 connections cost no
// more than half a gigabyte with it, whatever they do.
const guaranteed = 1 << 20

// allowance is what one connection holds of a budget. Only one of its goroutines takes at a time; any gives.
type allowance struct {
	budget *budget
	limit  int64 // at most this, whatever is free

	held int64 // under budget.mu
	want int64 // under budget.mu: what take waits for
	wake chan struct{}
}

func newBudget(total int64) *budget { return &budget{total: total} }

func (b *budget) allow(limit int64) *allowance {
	return &allowance{budget: b, limit: limit, wake: make(chan struct{}, 1)}
}

// wait returns when what try queued for has been granted, or with ctx's error.
func (a *allowance) wait(ctx context.Context, n int64) error {
	select {
	case <-a.wake:
		return nil
	case <-ctx.Done():
		return a.giveUp(n, context.Cause(ctx))
	}
}

// try takes n bytes more, or queues for them: then wait must follow. n is at most the limit and the total.
func (a *allowance) try(n int64) bool {
	b := a.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.may(n, b.starving()) {
		a.hold(n)
		return true
	}
	a.want = n
	b.waiting = append(b.waiting, a)
	return false
}

// giveUp leaves the queue, or gives back what was granted meanwhile.
func (a *allowance) giveUp(n int64, err error) error {
	b := a.budget
	b.mu.Lock()
	for i, w := range b.waiting {
		if w == a {
			b.waiting = append(b.waiting[:i], b.waiting[i+1:]...)
			b.mu.Unlock()
			return err
		}
	}
	b.mu.Unlock()
	<-a.wake
	a.give(n)
	return err
}

// may says whether the connection may have n bytes more. While somebody who holds nothing waits for room, the others get
// none but what is guaranteed, so that room comes.
func (a *allowance) may(n int64, starving bool) bool {
	free := a.budget.total - a.budget.used
	switch {
	case a.held == 0:
		return n <= guaranteed || n <= free
	case starving || a.held+n > a.limit:
		return false
	}
	return a.held+n <= free
}

// starving: somebody who holds nothing waits.
func (b *budget) starving() bool {
	for _, w := range b.waiting {
		if w.held == 0 {
			return true
		}
	}
	return false
}

func (a *allowance) hold(n int64) {
	a.held += n
	a.budget.used += n
}

// give returns n bytes, and lets in who waits, in the order of their coming.
func (a *allowance) give(n int64) {
	b := a.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	a.hold(-n)
	if len(b.waiting) == 0 {
		return
	}
	left, starving := b.waiting[:0], false
	for _, w := range b.waiting {
		if w.may(w.want, starving) {
			w.hold(w.want)
			w.wake <- struct{}{}
			continue
		}
		starving = starving || w.held == 0
		left = append(left, w)
	}
	clear(b.waiting[len(left):])
	b.waiting = left
}

// inUse is what is held now.
func (b *budget) inUse() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}
