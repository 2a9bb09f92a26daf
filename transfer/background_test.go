package transfer

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// foreground makes requests a second, each of which takes as long as latency says, until ctx ends.
func foreground(ctx context.Context, b *Background, perSecond int, latency func() time.Duration) {
	for rest(ctx, time.Second/time.Duration(perSecond), nil) == nil {
		b.Observe(latency().Seconds())
	}
}

const target = 20 * time.Millisecond

func steady(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

// running is a controller, and a background transfer that could do perSecond bytes.
type running struct {
	*Background
	ctx  context.Context
	wg   sync.WaitGroup
	stop context.CancelFunc
}

func run(t *testing.T, perSecond int64) *running {
	r := &running{Background: NewBackground(target)}
	r.ctx, r.stop = context.WithCancel(t.Context())
	r.wg.Go(func() { r.Run(r.ctx) })
	crowd(r.ctx, &r.wg, NewShare(NewLimit(Rate{Bytes: perSecond}), r.Limit()), 4, 1<<20, 0)
	return r
}

func (r *running) end() {
	r.stop()
	r.wg.Wait()
}

// A foreground that suffers brings the rate down by half a second, to the floor and no further; once it is served well
// the rate grows by steps; and once it is gone there is no limit.
func TestBackgroundYields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t, 128<<20)
		defer b.end()
		time.Sleep(3*time.Second + time.Millisecond)
		if got := b.Limit().Rate(); got != (Rate{}) {
			t.Errorf("limit of %+v without a foreground", got)
		}
		suffering, relieve := context.WithCancel(b.ctx)
		b.wg.Go(func() { foreground(suffering, b.Background, 100, steady(target+time.Millisecond)) })
		for _, want := range []int64{64 << 20, 32 << 20, 16 << 20, 8 << 20, 4 << 20, 4 << 20} {
			time.Sleep(time.Second)
			if got := b.Limit().Rate().Bytes; got > want+want/20 || got < want-want/20 {
				t.Errorf("limit is %d, want %d", got, want)
			}
		}
		relieve()
		well, leave := context.WithCancel(b.ctx)
		b.wg.Go(func() { foreground(well, b.Background, 100, steady(target-time.Millisecond)) })
		before := b.Limit().Stats().Bytes
		time.Sleep(10 * time.Second)
		if got, want := b.Limit().Rate().Bytes, int64(backgroundFloor+9*backgroundStep); got != want && got != want+backgroundStep {
			t.Errorf("limit is %d after 10 seconds, want %d", got, want)
		}
		if b.Limit().Stats().Bytes == before {
			t.Error("nothing passed at the floor")
		}
		leave()
		time.Sleep((quietWindows + 1) * time.Second)
		if got := b.Limit().Rate(); got != (Rate{}) {
			t.Errorf("limit of %+v though the foreground is gone", got)
		}
	})
}

// A limit that nobody reaches is none that counts: the first cut is of what moves.
func TestBackgroundCutsWhatMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t, 40<<20)
		defer b.end()
		b.Limit().Set(Rate{Bytes: 1 << 40})
		time.Sleep(5*time.Second + time.Millisecond)
		for range 10 {
			b.Observe(1)
		}
		time.Sleep(time.Second)
		if got := b.Limit().Rate().Bytes; got < 19<<20 || got > 21<<20 {
			t.Errorf("limit is %d, want half of what moved", got)
		}
	})
}

// One slow request of 20 is borne, two are not; nobody asks how slow.
func TestBackgroundQuantile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			fast, slow int
			yields     bool
		}{{19, 1, false}, {38, 2, false}, {18, 2, true}, {0, 1, true}, {100_000, 1, false}, {0, 0, false}} {
			b := NewBackground(target)
			for range test.fast {
				b.Observe(target.Seconds())
			}
			for range test.slow {
				b.Observe(3600)
			}
			b.adjust()
			if yields := b.Limit().Rate().Bytes == backgroundFloor; yields != test.yields {
				t.Errorf("%d fast and %d slow: limit %+v", test.fast, test.slow, b.Limit().Rate())
			}
			if got := b.Stats(); got.Requests != int64(test.fast+test.slow) || got.Slow != int64(test.slow) {
				t.Errorf("stats %+v", got)
			}
		}
	})
}

// A disk whose latency grows with what the copy takes of it: the foreground's latency settles around the target, and the
// copy gets what is left.
func TestBackgroundSettles(t *testing.T) {
	const disk = 100 << 20 // bytes a second; beyond half of it requests are slow
	synctest.Test(t, func(t *testing.T) {
		b := run(t, 90<<20)
		defer b.end()
		var before int64
		var rate float64
		b.wg.Go(func() {
			foreground(b.ctx, b.Background, 200, func() time.Duration {
				now := b.Limit().Stats().Bytes
				rate = rate*0.9 + float64(now-before)*200*0.1
				before = now
				return time.Duration(rate / disk * 2 * float64(target))
			})
		})
		time.Sleep(time.Minute)
		start, stats := b.Limit().Stats().Bytes, b.Stats()
		time.Sleep(10 * time.Minute)
		got := float64(b.Limit().Stats().Bytes-start) / 600 / disk
		after := b.Stats()
		slow := float64(after.Slow-stats.Slow) / float64(after.Requests-stats.Requests)
		t.Logf("the copy had %.2f of the disk, %.2f of the requests were slow", got, slow)
		if got < 0.25 || got > 0.55 || slow > 0.3 {
			t.Errorf("the copy had %.2f of the disk, %.2f of the requests were slow", got, slow)
		}
	})
}
