package transfer

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cvold/cvold/dataplane"
)

// gauge counts what is in use now, and at most so far.
type gauge struct {
	mu        sync.Mutex
	now, most int64
}

func (g *gauge) take(n int64) (giveBack func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now += n
	g.most = max(g.most, g.now)
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.now -= n
	}
}

// reset begins anew, and returns the most.
func (g *gauge) reset() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	most := g.most
	g.most = g.now
	return most
}

// blank is a device of zeroes that calls itself data, tells how many bytes of it are being read at a time, and takes its time.
type blank struct {
	*huge
	reading *gauge
	takes   func(inFlight int64) time.Duration
}

func newBlank(t testing.TB, g Geometry, takes func(inFlight int64) time.Duration) *blank {
	return &blank{huge: newHuge(t, g), reading: new(gauge), takes: takes}
}

func (b *blank) ReadAt(p []byte, _ int64) (int, error) {
	defer b.reading.take(int64(len(p)))()
	b.reading.mu.Lock()
	inFlight := b.reading.now / int64(len(p))
	b.reading.mu.Unlock()
	timer := time.NewTimer(b.takes(inFlight))
	<-timer.C
	clear(p)
	return len(p), nil
}

func (b *blank) Extents(ctx context.Context, off, n int64, fn func(dataplane.Extent) error) error {
	return dataplane.AllData(ctx, off, n, fn)
}

func millisecond(int64) time.Duration { return time.Millisecond }

// So many chunks are in flight as were asked for; without a number as many as pay on this link, in the memory that there is.
func TestWorkers(t *testing.T) {
	// What takes a while whatever else is under way has many in flight, what works on one thing at a time has few.
	inTurn := func(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
	for name, test := range map[string]struct {
		takes              func(int64) time.Duration
		workers            int
		inFlight           int64
		chunk              int64
		least, most, early int64
	}{
		"one":            {millisecond, 1, 0, 4096, 1, 1, 1},
		"seven":          {millisecond, 7, 0, 4096, 7, 7, 7},
		"the most":       {millisecond, MaxWorkers, 0, 4096, MaxWorkers, MaxWorkers, MaxWorkers},
		"latency":        {millisecond, 0, 0, 4096, MaxWorkers, MaxWorkers, MaxWorkers},
		"in turn":        {inTurn, 0, 0, 4096, 1, 2, 2 * linkWorkers},
		"little memory":  {millisecond, 0, 40 << 10, 4096, 4, 7, 7},
		"less than that": {millisecond, 0, 1, 4096, 1, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := Geometry{VolumeSize: 10000 * test.chunk, ChunkSize: test.chunk, Algorithm: XXH3_128}
				source := newBlank(t, g, test.takes)
				ended := make(chan error)
				conf := Config{Geometry: g, Workers: test.workers, InFlight: test.inFlight, Progress: new(Progress), batch: 16}
				go func() { ended <- Copy(t.Context(), source, newHuge(t, g), conf) }()
				for conf.Progress.Snapshot().VerifiedBytes < g.VolumeSize/4 {
					time.Sleep(10 * time.Millisecond)
				}
				if most := source.reading.reset() / test.chunk; most > test.early {
					t.Errorf("%d in flight in the first quarter, want at most %d", most, test.early)
				}
				if err := <-ended; err != nil {
					t.Fatal(err)
				}
				if most := source.reading.reset() / test.chunk; most < test.least || most > test.most {
					t.Errorf("%d in flight after that, want %d to %d", most, test.least, test.most)
				}
			})
		})
	}
}

// Workers leave when the link gets worse, and come back when it gets better.
func TestWorkersFollowTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := small(40000 * 4096)
		var bad atomic.Bool
		source := newBlank(t, g, func(n int64) time.Duration {
			if bad.Load() {
				return time.Duration(n*n) * time.Millisecond
			}
			return time.Millisecond
		})
		conf := Config{Geometry: g, Progress: new(Progress), batch: 16}
		ended := make(chan error)
		go func() { ended <- Copy(t.Context(), source, newHuge(t, g), conf) }()
		for i, want := range []struct{ least, most int64 }{{32, 64}, {1, 8}, {32, 64}} {
			for conf.Progress.Snapshot().VerifiedBytes < g.VolumeSize/4*int64(i+1) {
				time.Sleep(10 * time.Millisecond)
			}
			synctest.Wait()
			source.reading.mu.Lock()
			now := source.reading.now / 4096
			source.reading.mu.Unlock()
			if now < want.least || now > want.most {
				t.Errorf("stretch %d: %d in flight, want %d to %d", i, now, want.least, want.most)
			}
			bad.Store(i == 0)
		}
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	})
}

// Whatever the size of a chunk, the chunks being copied and those being read back take no more memory than they may.
func TestInFlight(t *testing.T) {
	for _, chunk := range []int64{64 << 10, 4 << 20, 8 << 20, MaxChunkSize} {
		for _, inFlight := range []int64{0, 16 << 20} {
			synctest.Test(t, func(t *testing.T) {
				g := Geometry{VolumeSize: max(12*chunk, 24<<20) + 512, ChunkSize: chunk, Algorithm: XXH3_128}
				source, medium := newBlank(t, g, millisecond), newBlank(t, g, millisecond)
				medium.reading = source.reading // so they are counted together
				conf := Config{Geometry: g, InFlight: inFlight, Verifier: NewVerifier(medium, g)}
				if err := Copy(t.Context(), source, newHuge(t, g), conf); err != nil {
					t.Fatal(err)
				}
				if inFlight == 0 {
					inFlight = DefaultInFlight
				}
				if most := source.reading.reset(); most > max(inFlight, 2*chunk) {
					t.Errorf("chunks of %d: %d MiB in flight of %d", chunk, most>>20, inFlight>>20)
				}
			})
		}
	}
}

// A worker that fails ends the others and the copy, though the number of workers grows meanwhile.
func TestWorkersEnd(t *testing.T) {
	broken := errors.New("broken")
	for n := int64(1); n < 400; n += 57 {
		synctest.Test(t, func(t *testing.T) {
			source, target, conf := dataPair(t, 400)
			conf.Workers = 0
			slow := func(op string, _, _ int64, _ []byte) error {
				if op == "read" {
					time.Sleep(time.Millisecond)
				}
				return nil
			}
			fail, fired := failAt("read", n, broken)
			source.hook = func(op string, off, n int64, p []byte) error {
				return errors.Join(slow(op, off, n, p), fail(op, off, n, p))
			}
			if err := Copy(t.Context(), source, target, conf); !errors.Is(err, broken) || !fired.Load() {
				t.Errorf("call %d: %v", n, err)
			}
			source.hook = slow
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n)*time.Millisecond/8)
			defer cancel()
			if err := Copy(ctx, source, target, conf); err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("after %d ms: %v", n, err)
			}
		})
	}
}

// A copy begins with as many chunks in flight as its slower end wants.
func TestFirstWorkers(t *testing.T) {
	cached, direct, remote := dataplane.Info{Path: "/a"}, dataplane.Info{Path: "/b", Direct: true}, dataplane.Info{}
	for _, test := range []struct {
		source, target dataplane.Info
		want           int
	}{
		{cached, cached, DefaultWorkers}, {cached, direct, diskWorkers}, {direct, cached, diskWorkers}, {direct, direct, diskWorkers},
		{remote, cached, linkWorkers}, {direct, remote, linkWorkers}, {remote, remote, linkWorkers},
	} {
		if got := firstWorkers(test.source, test.target); got != test.want {
			t.Errorf("%+v to %+v: %d, want %d", test.source, test.target, got, test.want)
		}
	}
}
