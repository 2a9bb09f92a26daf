package transfer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// link is a throughput in chunks a second that depends on how many are in flight.
type link func(inFlight int) float64

// latencyBound is a link on which each chunk takes its time, whatever the others do, up to what the medium gives.
func latencyBound(perChunk time.Duration, most float64) link {
	return func(n int) float64 { return min(float64(n)/perChunk.Seconds(), most) }
}

// thrashing is a disk that is fastest with best in flight, and loses a share with each doubling.
func thrashing(best int, share float64) link {
	return func(n int) float64 {
		if n <= best {
			return 1000 * float64(n) / float64(best)
		}
		return 1000 * math.Pow(1-share, math.Log2(float64(n)/float64(best)))
	}
}

// noisy has each chunk take up to so much more or less.
func noisy(l link, share float64, seed uint64) link {
	random := rand.New(rand.NewPCG(seed, 1))
	return func(n int) float64 { return l(n) * (1 + share*(2*random.Float64()-1)) }
}

// climb runs d over the link for so many chunks, and returns how many were done at each depth, and the rate.
func climb(t testing.TB, d *depth, l link, now *time.Time, chunks int) (at []int, rate float64) {
	t.Helper()
	at = make([]int, d.most+1)
	began := *now
	for n := d.now; chunks > 0; chunks-- {
		*now = now.Add(time.Duration(float64(time.Second) / l(n)))
		if n = d.done(DefaultChunkSize, *now); n < 1 || n > d.most {
			t.Fatalf("%d in flight, of at most %d", n, d.most)
		}
		at[n]++
	}
	return at, float64(sum(at)) / now.Sub(began).Seconds()
}

func sum(at []int) (n int) {
	for _, count := range at {
		n += count
	}
	return n
}

// mode is the depth that most chunks were done at.
func mode(at []int) (depth int) {
	for n := range at {
		if at[n] > at[depth] {
			depth = n
		}
	}
	return depth
}

const (
	settling = 3000 // chunks, in which the climb has to arrive
	settled  = 60000
)

// Whatever the link, the depth settles where the copy is fast, and stays there but for a look around now and then.
func TestDepthSettles(t *testing.T) {
	for name, test := range map[string]struct {
		link     link
		most     int
		from, to int
	}{
		"one is enough":        {latencyBound(time.Millisecond, 1000), 64, 1, 1},
		"linear to 4":          {latencyBound(4*time.Millisecond, 1000), 64, 4, 4},
		"linear to 6":          {latencyBound(6*time.Millisecond, 1000), 64, 8, 8},
		"linear to 32":         {latencyBound(32*time.Millisecond, 1000), 64, 32, 32},
		"latency-bound":        {latencyBound(time.Second, 1e9), 64, 64, 64},
		"bounded by memory":    {latencyBound(time.Second, 1e9), 48, 32, 48},
		"memory for three":     {latencyBound(time.Second, 1e9), 3, 3, 3},
		"memory for one":       {latencyBound(time.Second, 1e9), 1, 1, 1},
		"always flat":          {func(int) float64 { return 1000 }, 64, 1, 1},
		"falling with depth":   {thrashing(1, 0.2), 64, 1, 1},
		"best at 8":            {thrashing(8, 0.2), 64, 8, 8},
		"noise of a tenth":     {noisy(latencyBound(8*time.Millisecond, 1000), 0.1, 1), 64, 8, 8},
		"noise, best at 4":     {noisy(thrashing(4, 0.3), 0.2, 2), 64, 4, 4},
		"noise, latency-bound": {noisy(latencyBound(time.Second, 1e9), 0.2, 3), 64, 64, 64},
	} {
		t.Run(name, func(t *testing.T) {
			d, now := newDepth(DefaultWorkers, test.most), time.Unix(0, 0)
			climb(t, d, test.link, &now, settling)
			at, _ := climb(t, d, test.link, &now, settled)
			if n := mode(at); n < test.from || n > test.to {
				t.Errorf("settled at %d, want %d to %d: %v", n, test.from, test.to, at)
			} else if at[n] < settled*8/10 {
				t.Errorf("held %d of %d: %v", at[n], settled, at)
			}
		})
	}
}

// A link that changes is noticed, also after a long calm.
func TestDepthFollowsChange(t *testing.T) {
	slow, fast := latencyBound(4*time.Millisecond, 1000), latencyBound(40*time.Millisecond, 1e9)
	for name, test := range map[string]struct{ before, after link }{
		"longer latency":  {slow, fast},
		"shorter latency": {fast, slow},
		"begins to fall":  {fast, thrashing(2, 0.3)},
	} {
		t.Run(name, func(t *testing.T) {
			d, now := newDepth(DefaultWorkers, 64), time.Unix(0, 0)
			climb(t, d, test.before, &now, 200000)
			climb(t, d, test.after, &now, 3*maxDepthHold*roundFill*d.most)
			_, rate := climb(t, d, test.after, &now, settled)
			best := 0.0
			for n := 1; n <= d.most; n *= 2 {
				best = max(best, test.after(n))
			}
			if rate < 0.8*best {
				t.Errorf("%.0f chunks a second, best is %.0f", rate, best)
			}
		})
	}
}

// Property: on any link that rises and then is flat, or falls, the copy is nearly as fast as it can be with a depth that is
// a power of two, or the most that there may be.
func TestDepthProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		most := rapid.IntRange(1, MaxWorkers).Draw(rt, "most")
		l := latencyBound(time.Duration(rapid.IntRange(1, 64).Draw(rt, "knee"))*time.Millisecond, 1000)
		if rapid.Bool().Draw(rt, "falls") {
			l = thrashing(rapid.IntRange(1, 64).Draw(rt, "best"), 0.3)
		}
		d, now := newDepth(DefaultWorkers, most), time.Unix(0, 0)
		start := d.now
		climb(t, d, l, &now, settling)
		at, rate := climb(t, d, l, &now, settled)
		best := 0.0
		for n := 1; n <= most; n++ {
			if power := n&(n-1) == 0; power || n == start {
				best = max(best, l(n))
			}
		}
		if rate < 0.8*best {
			rt.Fatalf("%.0f chunks a second, best is %.0f: %v", rate, best, at)
		}
	})
}

// A probe that did not pay is taken back to where it came from, whatever the bound is.
func TestDepthGoesBack(t *testing.T) {
	for most := 1; most <= MaxWorkers; most++ {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			d, now := newDepth(DefaultWorkers, most), time.Unix(0, 0)
			start := d.now
			only := func(n int) float64 { // nothing but the beginning is any good
				if n == start {
					return 1000
				}
				return 100
			}
			at, _ := climb(t, d, only, &now, settled)
			if mode(at) != start || at[start] < settled*9/10 {
				t.Errorf("left %d: %v", start, at)
			}
		})
	}
}

// Chunks that are all done in the same instant, and a clock that stands, say nothing.
func TestDepthWithoutTime(t *testing.T) {
	d, now := newDepth(DefaultWorkers, 64), time.Unix(0, 0)
	for range 10 * depthRound {
		if n := d.done(DefaultChunkSize, now); n != DefaultWorkers {
			t.Fatalf("%d in flight", n)
		}
	}
}
