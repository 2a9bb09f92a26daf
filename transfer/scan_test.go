package transfer

import (
	"context"
	"errors"
	"reflect"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/cvold/cvold/dataplane"
)

// Property: a scan gives the digests of the bytes, whatever the extents say of the holes, for any part of the volume.
func TestScanProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.Int64Range(1, 400).Draw(rt, "sectors") * 512
		g := small(size)
		d := newMemory(t, size)
		d.hole = rapid.SampledFrom([]int64{0, 512, 4096, 10240}).Draw(rt, "hole")
		off := rapid.Int64Range(0, size/512-1).Draw(rt, "off") * 512
		d.fill(off, (size-off)/2/512*512, 1)
		first := rapid.Int64Range(0, g.Chunks()).Draw(rt, "first")
		count := rapid.Int64Range(0, g.Chunks()-first).Draw(rt, "count")
		runs, err := NewVerifier(d, g).Digests(context.Background(), first, count)
		if err != nil {
			rt.Fatal(err)
		}
		z := g.zeroDigests()
		got, err := expand(runs, first, count, &z)
		if err != nil {
			rt.Fatal(err)
		}
		for i, digest := range got {
			off, n := g.Range(first + int64(i))
			if digest != g.Sum(d.data[off:off+n]) {
				rt.Fatalf("chunk %d", first+int64(i))
			}
		}
		if root, err := RootOf(context.Background(), d, g); err != nil || root != naiveRoot(t, g, d.data) {
			rt.Fatalf("root %v, %v", root, err)
		}
	})
}

// Volumes larger than a window: runs go on across it.
func TestScanWindows(t *testing.T) {
	g := small((2*windowChunks + 5) * 4096)
	d := newHuge(t, g)
	runs, err := Digests(t.Context(), d, g, 0, g.Chunks())
	if want := []Run{{First: 0, Count: g.Chunks(), Zero: true}}; err != nil || !reflect.DeepEqual(runs, want) {
		t.Fatalf("%v: %+v", err, runs)
	}
	d.set(windowChunks-1, 1)
	d.set(windowChunks, 1)
	if runs, err = Digests(t.Context(), d, g, 3, g.Chunks()-3); err != nil || len(runs) != 3 || runs[1].Count != 2 {
		t.Fatalf("%v: %+v", err, runs)
	}
	if d.reads.Load() != 1 {
		t.Errorf("%d requests for two chunks side by side", d.reads.Load())
	}
}

// What a scan is asked for: holes that are none are found only by reading them, progress comes to the whole, errors call
// the device by its name.
func TestScanOptions(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.Int64Range(0, 3000).Draw(rt, "sectors") * 512
		g := small(size)
		d := newMemory(t, size)
		d.info.MaxBlock = rapid.SampledFrom([]int64{0, 512, 8192, 1 << 20}).Draw(rt, "most")
		d.fill(0, size/3/512*512, 1)
		liar := falseHoles{d}
		var told int64
		o := ScanOptions{Workers: rapid.IntRange(0, 9).Draw(rt, "workers"), ReadHoles: true, Progress: func(n int64) { told += n }}
		h := NewRootHash(g)
		if err := ScanWith(context.Background(), liar, g, 0, g.Chunks(), o, h.Add); err != nil {
			rt.Fatal(err)
		}
		if root, err := h.Sum(); err != nil || root != naiveRoot(t, g, d.data) {
			rt.Fatalf("root %v, %v", root, err)
		}
		if told != size {
			rt.Fatalf("told of %d bytes of %d", told, size)
		}
	})
	d := newMemory(t, 4096)
	d.hook, _ = failAt("extents", 1, dataplane.ErrIO)
	var device *DeviceError
	err := ScanWith(t.Context(), d, small(4096), 0, 1, ScanOptions{Device: "device"}, nil)
	if !errors.As(err, &device) || device.Device != "device" {
		t.Errorf("name: %v", err)
	}
	for _, workers := range []int{-1, MaxScanWorkers + 1} {
		if err := ScanWith(t.Context(), d, small(4096), 0, 1, ScanOptions{Workers: workers}, nil); !errors.Is(err, ErrInvalid) {
			t.Errorf("%d workers: %v", workers, err)
		}
	}
}

// falseHoles calls all its bytes zeroes.
type falseHoles struct{ *memory }

func (falseHoles) Extents(_ context.Context, off, n int64, fn func(dataplane.Extent) error) error {
	return fn(dataplane.Extent{Offset: off, Length: n, Zero: true})
}

// While one piece is waited for, the others are read ahead, but not without bound.
func TestScanReadsAheadWithinBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const workers, chunks = 2, 50
		g := Geometry{VolumeSize: chunks * scanBytes, ChunkSize: scanBytes, Algorithm: XXH3_128}
		d := newMemory(t, g.VolumeSize)
		d.hole = 0
		gate := make(chan struct{})
		var reads atomic.Int64
		d.hook = func(op string, off, _ int64, _ []byte) error {
			if op == "read" && reads.Add(1) > 0 && off == 0 {
				<-gate
			}
			return nil
		}
		ended := make(chan error)
		go func() {
			ended <- ScanWith(t.Context(), d, g, 0, chunks, ScanOptions{Workers: workers}, func(Run) error { return nil })
		}()
		synctest.Wait()
		if n := reads.Load(); n != 2*workers+1 {
			t.Errorf("%d pieces read while the first one is waited for", n)
		}
		close(gate)
		if err := <-ended; err != nil || reads.Load() != chunks {
			t.Errorf("%v, %d pieces read", err, reads.Load())
		}
	})
}

// A scan has no more buffers than there is to read.
func TestScanBuffers(t *testing.T) {
	g := Geometry{VolumeSize: MaxChunkSize, ChunkSize: MaxChunkSize, Algorithm: XXH3_128}
	d := newHuge(t, g)
	d.set(0, 1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := RootOf(t.Context(), d, g); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 2*MaxChunkSize {
		t.Errorf("%d MiB for one chunk of %d MiB", n>>20, MaxChunkSize>>20)
	}
}

func TestScanErrors(t *testing.T) {
	g := small(10 * 4096)
	d := newMemory(t, 10*4096)
	d.fill(0, 10*4096, 1)
	ok := func(Run) error { return nil }
	if err := Scan(t.Context(), d, g, 5, 6, ok); !errors.Is(err, ErrOrder) {
		t.Errorf("past the end: %v", err)
	}
	if err := Scan(t.Context(), d, Geometry{}, 0, 0, ok); !errors.Is(err, ErrInvalid) {
		t.Errorf("no geometry: %v", err)
	}
	if err := Scan(t.Context(), d, small(11*4096), 0, 1, ok); !errors.Is(err, ErrInvalid) {
		t.Errorf("larger than the device: %v", err)
	}
	stop := errors.New("stop")
	if err := Scan(t.Context(), d, g, 0, 10, func(Run) error { return stop }); err != stop {
		t.Errorf("error of fn: %v", err)
	}
	for _, op := range []string{"read", "extents"} {
		d.hook, _ = failAt(op, 1, dataplane.ErrIO)
		var device *DeviceError
		if _, err := RootOf(t.Context(), d, g); !errors.Is(err, dataplane.ErrIO) || !errors.As(err, &device) || device.Op != op {
			t.Errorf("%s: %v", op, err)
		}
	}
	d.hook = nil
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := RootOf(ctx, d, g); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Cancelled in the middle, a scan ends with the context's error and not with digests that are missing.
func TestScanCancelled(t *testing.T) {
	g := small(1000 * 4096)
	d := newMemory(t, 1000*4096)
	d.fill(0, 1000*4096, 1)
	ctx, cancel := context.WithCancel(t.Context())
	d.hook = func(op string, off, _ int64, _ []byte) error {
		if op == "read" && off >= 100*4096 {
			cancel()
		}
		return nil
	}
	err := Scan(ctx, d, g, 0, 1000, func(Run) error {
		t.Error("runs of a scan that was cancelled")
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestProgressRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Progress
		if s := p.Snapshot(); s != (ProgressSnapshot{}) {
			t.Errorf("before the beginning: %+v", s)
		}
		p.begin(PhaseCopying, 1000<<20, 100<<20)
		for range 100 {
			time.Sleep(500 * time.Millisecond)
			p.verified(counts{bytes: 5 << 20, dataChunks: 5})
		}
		s := p.Snapshot()
		if s.VerifiedBytes != 600<<20 || s.BytesPerSecond < 9.9*(1<<20) || s.BytesPerSecond > 10.1*(1<<20) {
			t.Errorf("%+v", s)
		}
		if s.ETA < 39*time.Second || s.ETA > 41*time.Second {
			t.Errorf("ETA %v", s.ETA)
		}
		if n := len(p.samples); n > int(rateWindow/rateStep)+2 {
			t.Errorf("%d samples", n)
		}
		time.Sleep(10 * time.Minute)
		if s := p.Snapshot(); s.BytesPerSecond > 1<<20 {
			t.Errorf("nothing has moved for ten minutes: %+v", s)
		}
		p.verified(counts{bytes: 400 << 20})
		if s := p.Snapshot(); s.ETA != 0 || s.VerifiedBytes != s.TotalBytes {
			t.Errorf("at the end: %+v", s)
		}
		started := s.Started
		p.begin(PhaseComparing, 1000<<20, 0)
		if s := p.Snapshot(); s.Started != started || s.VerifiedBytes != 0 || s.Phase != PhaseComparing {
			t.Errorf("second beginning: %+v", s)
		}
	})
}

// Copy tells each observer.
func TestCopyObservers(t *testing.T) {
	source, target, _, _, conf := faultPair(t)
	var n [6]counter
	conf.Observers = Observers{Read: &n[0], Write: &n[1], Zero: &n[2], Flush: &n[3], Verify: &n[4], Append: &n[5]}
	conf.Workers = 1
	if err := Copy(t.Context(), source, target, conf); err != nil {
		t.Fatal(err)
	}
	// 31 chunks of data in batches of 4: what waits goes through a step together.
	const batches = 8
	flushes, verifications, appends := n[3], n[4], n[5]
	if n != [6]counter{31, 31, 2, flushes, verifications, appends} || flushes < 1 || flushes > batches ||
		verifications < 1 || verifications > batches || appends != 1 {
		t.Errorf("observed %v", n)
	}
}

type counter int

func (c *counter) Observe(seconds float64) { *c++ }
