package transfer

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// The copy as a whole keeps the rate, and holes cost nothing.
func TestCopyKeepsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const data, rate = 8 << 20, 1 << 20
		source, target := newMemory(t, 40<<20), newMemory(t, 40<<20)
		source.fill(5<<20, data, 1)
		c, _ := create(t, NewGeometry(40<<20))
		conf := config(c, target)
		conf.Limiter = NewShare(NewLimit(Rate{Bytes: rate}))
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
