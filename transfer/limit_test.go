package transfer

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// within is true if got is want, give or take what timers and bursts come to.
func within(got, want time.Duration) bool {
	slack := want/50 + time.Millisecond
	return got >= want-slack && got <= want+slack
}

// passes lets n operations of size bytes through, one after another.
func passes(t *testing.T, l Limiter, n, size int) {
	t.Helper()
	for range n {
		if err := l.WaitN(t.Context(), size); err != nil {
			t.Fatal(err)
		}
	}
}

// Rates far below a chunk and far above, operations of less than a chunk and of more.
func TestLimitKeepsTime(t *testing.T) {
	for _, rate := range []int64{1000, 1 << 20, 200e6, 10 << 30} {
		for _, size := range []int{512, 1 << 20, 3 << 20, MaxChunkSize} {
			synctest.Test(t, func(t *testing.T) {
				share := NewShare(NewLimit(Rate{Bytes: rate}))
				passes(t, share, 2+burst(rate, DefaultChunkSize)/size, size) // what may pass at once
				const times = 500
				start := time.Now()
				passes(t, share, times, size)
				want := time.Duration(float64(size) * times / float64(rate) * float64(time.Second))
				if got := time.Since(start); !within(got, want) {
					t.Errorf("rate %d, size %d: %v, want %v", rate, size, got, want)
				}
			})
		}
	}
}

// The first operation passes at once, and no more than lateness has to be caught up on.
func TestLimitFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		share := NewShare(NewLimit(Rate{Bytes: 1 << 20}))
		start := time.Now()
		passes(t, share, 1, DefaultChunkSize)
		if time.Since(start) != 0 {
			t.Errorf("the first waited %v", time.Since(start))
		}
		passes(t, share, 1, DefaultChunkSize)
		if got := time.Since(start); !within(got, time.Second-lateness) {
			t.Errorf("the second waited %v", got)
		}
		time.Sleep(time.Hour)
		start = time.Now()
		passes(t, share, 3, DefaultChunkSize)
		if got := time.Since(start); !within(got, 2*time.Second-lateness) {
			t.Errorf("three after a pause took %v", got)
		}
	})
}

func TestLimitOperations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := NewLimit(Rate{Operations: 50})
		share := NewShare(limit)
		start := time.Now()
		passes(t, share, 101, 1<<20)
		if got := time.Since(start); !within(got, 2*time.Second) {
			t.Errorf("101 operations took %v", got)
		}
		stats := limit.Stats()
		if stats.Operations != 101 || stats.Bytes != 101<<20 || stats.Waited != time.Since(start) {
			t.Errorf("stats %+v", stats)
		}
		// Of two limits the narrower one counts.
		limit.Set(Rate{Bytes: 10 << 20, Operations: 1000})
		start = time.Now()
		passes(t, share, 21, 1<<20) // one was saved up
		if got := time.Since(start); !within(got, 2*time.Second) {
			t.Errorf("21 MiB took %v", got)
		}
	})
}

func TestLimitNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		passes(t, NewShare(), 100, 1<<20)
		passes(t, NewShare(nil, NewLimit(Rate{}), NewLimit(Rate{Bytes: -1, Operations: -1})), 100, MaxChunkSize)
		if time.Since(start) != 0 {
			t.Errorf("took %v", time.Since(start))
		}
	})
}

// crowd is a transfer of some workers, each of which works for a while after each operation that it was let to do.
func crowd(ctx context.Context, wg *sync.WaitGroup, l Limiter, workers, size int, work time.Duration) *atomic.Int64 {
	done := new(atomic.Int64)
	for range workers {
		wg.Go(func() {
			for l.WaitN(ctx, size) == nil {
				done.Add(int64(size))
				if rest(ctx, work, nil) != nil {
					return
				}
			}
		})
	}
	return done
}

// Two transfers of 4 and of 64 workers have equal parts, and what one that is slow leaves is the other's.
func TestLimitIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
		defer cancel()
		limit := NewLimit(Rate{Bytes: 64 << 20})
		var wg sync.WaitGroup
		few := crowd(ctx, &wg, NewShare(limit), 4, 1<<20, 50*time.Millisecond)
		many := crowd(ctx, &wg, NewShare(limit), 64, 1<<20, 50*time.Millisecond)
		slow := crowd(ctx, &wg, NewShare(limit), 1, 1<<20, time.Second)
		wg.Wait()
		const all = 100 * 64 << 20
		for name, got := range map[string]int64{"few": few.Load(), "many": many.Load()} {
			if want := int64(all-100<<20) / 2; got < want*98/100 || got > want*102/100 {
				t.Errorf("%s had %d, want %d", name, got, want)
			}
		}
		if got := slow.Load() >> 20; got < 95 || got > 100 {
			t.Errorf("the slow one had %d MiB, want nearly 100", got)
		}
	})
}

// A limit that is raised, lowered and lifted counts at once for those who wait.
func TestLimitChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := NewLimit(Rate{Bytes: 1})
		share, other := NewShare(limit), NewShare(limit)
		passes(t, share, 1, DefaultChunkSize)
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { passes(t, share, 5, 1<<20) })
		wg.Go(func() { passes(t, other, 5, 1<<20) })
		time.Sleep(time.Hour)
		limit.Set(Rate{Bytes: 1 << 20}) // 10 seconds for all
		time.Sleep(4*time.Second + time.Millisecond)
		if got := limit.Stats().Operations; got != 5 {
			t.Errorf("%d operations passed 4 seconds after the limit was raised, want 4 beside the first", got)
		}
		limit.Set(Rate{Operations: 1})
		time.Sleep(3 * time.Second)
		if got := limit.Stats().Operations; got < 7 || got > 8 {
			t.Errorf("%d operations passed at one a second", got)
		}
		limit.Set(Rate{Bytes: 1})
		time.Sleep(time.Hour)
		limit.Set(Rate{})
		wg.Wait()
		if got := time.Since(start) - 2*time.Hour - 7*time.Second; !within(got, 0) {
			t.Errorf("after the limit was lifted it took %v", got)
		}
		if limit.Rate() != (Rate{}) {
			t.Error(limit.Rate())
		}
	})
}

// However often the limit is set meanwhile, to the same, it lets as much through.
func TestLimitSetIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		limit := NewLimit(Rate{Bytes: 10 << 20, Operations: 10})
		var wg sync.WaitGroup
		wg.Go(func() {
			for rest(ctx, 7*time.Millisecond, nil) == nil {
				limit.Set(limit.Rate())
			}
		})
		start := time.Now()
		passes(t, NewShare(limit), 101, 1<<20)
		if got := time.Since(start); !within(got, 10*time.Second) {
			t.Errorf("took %v", got)
		}
		cancel()
		wg.Wait()
	})
}

// The narrowest limit of a chain counts; equal ones do not add up, and at each shares take turns.
func TestLimitChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		narrow, node := NewLimit(Rate{Bytes: 4 << 20}), NewLimit(Rate{Bytes: 16 << 20})
		start := time.Now()
		passes(t, NewShare(narrow, node, NewLimit(Rate{Bytes: 4 << 20})), 41, 1<<20)
		if got := time.Since(start); !within(got, 10*time.Second) {
			t.Errorf("a chain took %v", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		slow := crowd(ctx, &wg, NewShare(narrow, node), 8, 1<<20, 0)
		fast := crowd(ctx, &wg, NewShare(node), 8, 1<<20, 0)
		wg.Wait()
		if got := slow.Load() >> 20; got < 390 || got > 410 {
			t.Errorf("the transfer of 4 MiB/s had %d MiB in 100 s", got)
		}
		if got := fast.Load() >> 20; got < 1180 || got > 1220 {
			t.Errorf("the other one had %d MiB in 100 s, want the 12 MiB/s that are left", got)
		}
	})
}

// Use counts for the next operation.
func TestShareUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		share := NewShare(NewLimit(Rate{Bytes: 1}))
		passes(t, share, 1, 1<<20)
		share.Use(nil, NewLimit(Rate{Operations: 1}))
		start := time.Now()
		passes(t, share, 3, 1<<20)
		if got := time.Since(start); !within(got, 2*time.Second) {
			t.Errorf("took %v", got)
		}
	})
}

// A wait that ends early, with the context's own error, has taken nothing, wherever it waited.
func TestLimitCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := NewLimit(Rate{Bytes: 1 << 20, Operations: 1})
		shares := []*Share{NewShare(limit), NewShare(limit)}
		passes(t, shares[0], 1, 1<<20)
		const seed = 7
		random := rand.New(rand.NewPCG(seed, seed))
		start := time.Now()
		var wg sync.WaitGroup
		for range 100 {
			d := time.Duration(random.Int64N(int64(900 * time.Millisecond)))
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), d)
				defer cancel()
				err := shares[d%2].WaitN(ctx, 32<<20)
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != d {
					t.Errorf("%v after %v, want the end of %v (seed %d)", err, time.Since(start), d, seed)
				}
			})
		}
		wg.Wait()
		passes(t, shares[1], 1, 1<<20)
		if got := time.Since(start); !within(got, time.Second) {
			t.Errorf("the next one passed after %v", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := shares[0].WaitN(ctx, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("on an ended context: %v", err)
		}
		if got := limit.Stats(); got.Operations != 2 || got.Bytes != 2<<20 {
			t.Errorf("stats %+v", got)
		}
	})
}
