package transfer

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestRateNone(t *testing.T) {
	if NewRate(0) != nil || NewRate(-1) != nil {
		t.Error("no limit is not nil")
	}
}

// A rate far below a chunk, and one far above.
func TestRateKeepsTime(t *testing.T) {
	for _, rate := range []int64{1000, 1 << 20, 10 << 30} {
		synctest.Test(t, func(t *testing.T) {
			limit := NewRate(rate)
			const n, times = 3 << 20, 5
			start := time.Now()
			for range times {
				if err := limit.WaitN(t.Context(), n); err != nil {
					t.Fatal(err)
				}
			}
			want := time.Duration(float64(n*times-rateBurst) / float64(rate) * float64(time.Second))
			if got := time.Since(start); got < want-time.Millisecond || got > want+want/100+time.Millisecond {
				t.Errorf("rate %d: %v, want %v", rate, got, want)
			}
		})
	}
}

func TestRateCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := NewRate(1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		if err := limit.WaitN(ctx, 2<<20); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if err := limit.WaitN(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("on an ended context: %v", err)
		}
	})
}

// The copy as a whole keeps the rate, and holes cost nothing.
func TestCopyKeepsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const data, rate = 8 << 20, 1 << 20
		source, target := newMemory(t, 40<<20), newMemory(t, 40<<20)
		source.fill(5<<20, data, 1)
		c, _ := create(t, NewGeometry(40<<20))
		conf := config(c, target)
		conf.Limiter = NewRate(rate)
		conf.batch = 2
		start := time.Now()
		if err := Copy(t.Context(), source, target, conf); err != nil {
			t.Fatal(err)
		}
		mustBeCopied(t, source, target, c)
		if got, want := time.Since(start), time.Duration(data/rate-1)*time.Second; got < want || got > want+time.Second/10 {
			t.Errorf("took %v, want %v", got, want)
		}
	})
}

// A limiter's error ends the copy with it.
func TestCopyLimiterError(t *testing.T) {
	source, target, _, _, conf := faultPair(t)
	broken := errors.New("broken")
	conf.Limiter = limiterFunc(func(context.Context, int) error { return broken })
	if err := Copy(t.Context(), source, target, conf); !errors.Is(err, broken) {
		t.Error(err)
	}
}

type limiterFunc func(context.Context, int) error

func (f limiterFunc) WaitN(ctx context.Context, n int) error { return f(ctx, n) }
