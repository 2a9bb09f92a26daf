package live_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/drivertest"
	"github.com/cvold/cvold/dataplane/faulty"
	"github.com/cvold/cvold/dataplane/file"
	"github.com/cvold/cvold/dataplane/live"
)

const size = 1 << 20

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	drivertest.Device(t, func(t *testing.T, size int64) dataplane.Device {
		return live.New(faulty.NewMemoryInfo(size, dataplane.Info{MinBlock: 512, FastZero: true}))
	})
}

// TestConformanceAfterSwap: over a device with smaller blocks and shorter calls the contract is the first one's.
func TestConformanceAfterSwap(t *testing.T) {
	drivertest.Device(t, func(t *testing.T, size int64) dataplane.Device {
		d := live.New(faulty.NewMemoryInfo(size, dataplane.Info{MinBlock: 4096}))
		swap(t, d, faulty.NewMemoryInfo(size, dataplane.Info{MinBlock: 1, MaxBlock: 8192}))
		return d
	})
}

func TestConformanceOverFiles(t *testing.T) {
	drivertest.Run(t, drivertest.Harness{New: func(t *testing.T) dataplane.Driver {
		d, err := file.New(file.Config{Name: "test", Directory: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		return faulty.Driver(d, faulty.Hook{Device: func(_ faulty.Call, dev dataplane.Device) dataplane.Device {
			return live.New(dev)
		}})
	}})
}

func swap(t *testing.T, d *live.Device, next dataplane.Device) dataplane.Device {
	t.Helper()
	previous, err := d.Swap(t.Context(), next)
	if err != nil {
		t.Fatal(err)
	}
	return previous
}

// filled is a device full of b.
func filled(t *testing.T, b byte) *faulty.Memory {
	t.Helper()
	m := faulty.NewMemory(size)
	if _, err := m.WriteAt(bytes.Repeat([]byte{b}, size), 0); err != nil {
		t.Fatal(err)
	}
	return m
}

func first(t *testing.T, dev dataplane.Device) byte {
	t.Helper()
	var p [1]byte
	if _, err := dev.ReadAt(p[:], 0); err != nil {
		t.Fatal(err)
	}
	return p[0]
}

// held is a live device over one whose reads wait for release.
func held(t *testing.T) (d *live.Device, release func()) {
	t.Helper()
	until := make(chan struct{})
	plan := faulty.NewPlan(1).Add(faulty.Rule{Ops: faulty.Read, Action: faulty.Delay(until)})
	d = live.New(faulty.Wrap(filled(t, 1), plan))
	return d, sync.OnceFunc(func() { close(until) })
}

// readInBackground reads a byte and sends the error.
func readInBackground(d *live.Device) chan error {
	done := make(chan error, 1)
	go func() { _, err := d.ReadAt(make([]byte, 1), 0); done <- err }()
	return done
}

func TestSwap(t *testing.T) {
	one, two := filled(t, 1), filled(t, 2)
	d := live.New(one)
	if first(t, d) != 1 {
		t.Error("not the first device")
	}
	if previous := swap(t, d, two); previous != one || first(t, d) != 2 {
		t.Error("not the second device, or the first was not given back")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if first(t, one) != 1 {
		t.Error("the first device was touched")
	}
	if _, err := two.Size(); !errors.Is(err, dataplane.ErrClosed) {
		t.Errorf("the second device was not closed: %v", err)
	}
	if _, err := d.Swap(t.Context(), one); !errors.Is(err, dataplane.ErrClosed) {
		t.Errorf("swap of a closed device: %v", err)
	}
}

func TestInfoStaysAsItWasSaid(t *testing.T) {
	said := dataplane.Info{MinBlock: 4096, PreferredBlock: 8192, MaxBlock: 1 << 20, FastZero: true, Path: "/dev/x"}
	d := live.New(faulty.NewMemoryInfo(size, said))
	said.Path = ""
	swap(t, d, faulty.NewMemory(size))
	if d.Info() != said {
		t.Errorf("info is %+v, was said to be %+v", d.Info(), said)
	}
}

func TestIncompatible(t *testing.T) {
	closed := faulty.NewMemory(size)
	_ = closed.Close()
	for name, tt := range map[string]struct {
		now, next dataplane.Device
		want      error
	}{
		"larger":    {faulty.NewMemory(size), faulty.NewMemory(2 * size), live.ErrIncompatible},
		"smaller":   {faulty.NewMemory(size), faulty.NewMemory(size / 2), live.ErrIncompatible},
		"blocks":    {faulty.NewMemory(size), faulty.NewMemoryInfo(size, dataplane.Info{MinBlock: 512}), live.ErrIncompatible},
		"read-only": {faulty.NewMemory(size), faulty.NewMemoryInfo(size, dataplane.Info{ReadOnly: true}), live.ErrIncompatible},
		"cached":    {faulty.NewMemoryInfo(size, dataplane.Info{Medium: true}), faulty.NewMemory(size), live.ErrIncompatible},
		"closed":    {faulty.NewMemory(size), closed, dataplane.ErrClosed},
	} {
		d := live.New(tt.now)
		if previous, err := d.Swap(t.Context(), tt.next); !errors.Is(err, tt.want) || previous != nil {
			t.Errorf("%s: %v, %v, want %v", name, previous, err, tt.want)
		}
		if d.Stats() != (live.Stats{}) {
			t.Errorf("%s: %+v", name, d.Stats())
		}
	}
}

// TestReadOnlyStays: over a writable device clients still cannot write.
func TestReadOnlyStays(t *testing.T) {
	d := live.New(faulty.NewMemoryInfo(size, dataplane.Info{ReadOnly: true}))
	swap(t, d, filled(t, 2))
	_, err := d.WriteAt(make([]byte, 1), 0)
	for _, err := range []error{err, d.ZeroAt(0, 1, dataplane.ZeroMode{}), d.Discard(0, 1)} {
		if !errors.Is(err, dataplane.ErrReadOnly) {
			t.Errorf("got %v, want ErrReadOnly", err)
		}
	}
	if first(t, d) != 2 {
		t.Error("a refused call touched the device")
	}
}

func TestPauseWaitsForCallsAndHoldsNewOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, release := held(t)
		old := readInBackground(d)
		synctest.Wait()
		paused := make(chan error, 1)
		go func() { paused <- d.Pause(t.Context()) }()
		synctest.Wait()
		young := readInBackground(d)
		synctest.Wait()
		if len(paused) != 0 || d.Stats() != (live.Stats{InFlight: 1, Waiting: 1, Paused: true}) {
			t.Errorf("before: %+v, %d", d.Stats(), len(paused))
		}
		if err := d.Pause(t.Context()); !errors.Is(err, live.ErrPaused) {
			t.Errorf("second pause: %v", err)
		}
		release()
		if err := errors.Join(<-old, <-paused); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if len(young) != 0 || d.Stats() != (live.Stats{Waiting: 1, Paused: true}) {
			t.Errorf("paused: %+v, %d", d.Stats(), len(young))
		}
		d.Resume()
		d.Resume()
		if err := <-young; err != nil {
			t.Error(err)
		}
		if d.Stats() != (live.Stats{}) {
			t.Errorf("after: %+v", d.Stats())
		}
	})
}

// TestPauseGivesUp: when a call does not end in time, the device goes on as before.
func TestPauseGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, release := held(t)
		old := readInBackground(d)
		synctest.Wait()
		for name, call := range map[string]func(context.Context) error{
			"pause": d.Pause,
			"drain": d.Drain,
			"swap":  func(ctx context.Context) error { _, err := d.Swap(ctx, filled(t, 2)); return err },
		} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
			cancel()
			if d.Stats() != (live.Stats{InFlight: 1}) {
				t.Errorf("after %s: %+v", name, d.Stats())
			}
		}
		release()
		if err := <-old; err != nil || first(t, d) != 1 {
			t.Error(err)
		}
		if err := d.Drain(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestDrainLetsNewCallsGo: what began later is not waited for; a second drain waits for what the first does, too.
func TestDrainLetsNewCallsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, release := held(t)
		old := readInBackground(d)
		synctest.Wait()
		drained := make(chan error, 2)
		for range 2 {
			go func() { drained <- d.Drain(t.Context()) }()
			synctest.Wait()
		}
		if err := d.Sync(); err != nil || len(drained) != 0 {
			t.Errorf("a new call: %v; drained %d", err, len(drained))
		}
		release()
		if err := errors.Join(<-old, <-drained, <-drained); err != nil {
			t.Error(err)
		}
	})
}

func TestSwapInsideOfAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := live.New(filled(t, 1))
		if err := d.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := make(chan byte)
		go func() { got <- first(t, d) }()
		synctest.Wait()
		swap(t, d, filled(t, 2))
		if !d.Stats().Paused {
			t.Error("the swap ended the caller's pause")
		}
		d.Resume()
		if b := <-got; b != 2 {
			t.Errorf("the call that waited reached device %d", b)
		}
	})
}

func TestCloseEndsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := held(t)
		flying := readInBackground(d)
		synctest.Wait()
		pausing, draining := make(chan error, 1), make(chan error, 1)
		go func() { draining <- d.Drain(t.Context()) }()
		go func() { pausing <- d.Pause(t.Context()) }()
		synctest.Wait()
		waiting := readInBackground(d)
		synctest.Wait()
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		for name, done := range map[string]chan error{
			"in flight": flying, "waiting": waiting, "pausing": pausing, "draining": draining,
		} {
			if err := <-done; !errors.Is(err, dataplane.ErrClosed) {
				t.Errorf("%s: %v, want ErrClosed", name, err)
			}
		}
		for _, err := range []error{d.Pause(t.Context()), d.Drain(t.Context())} {
			if !errors.Is(err, dataplane.ErrClosed) {
				t.Errorf("after: %v", err)
			}
		}
	})
}

// TestExtentsDoNotHoldAPause: a copier that reads inside of fn and a pause do not wait for each other; and a waiting
// Extents ends with its context.
func TestExtentsDoNotHoldAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := live.New(filled(t, 1))
		calls := 0
		err := d.Extents(t.Context(), 0, size, func(e dataplane.Extent) error {
			calls++
			if err := d.Pause(t.Context()); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			none := func(dataplane.Extent) error { return nil }
			if err := d.Extents(ctx, 0, size, none); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("extents while paused: %v", err)
			}
			d.Resume()
			return nil
		})
		if err != nil || calls != 1 {
			t.Errorf("%v after %d calls", err, calls)
		}
	})
}

// TestManyExtents: more than one batch.
func TestManyExtents(t *testing.T) {
	const large = 512 << 20
	memory := faulty.NewMemory(large)
	for off := int64(0); off < large; off += 128 << 10 { // every other page of the memory device
		if _, err := memory.WriteAt([]byte{1}, off); err != nil {
			t.Fatal(err)
		}
	}
	var next, extents int64
	err := live.New(memory).Extents(t.Context(), 0, large, func(e dataplane.Extent) error {
		if e.Offset != next || e.Zero != (extents%2 == 1) {
			t.Fatalf("extent %d is %+v, want one at %d", extents, e, next)
		}
		next, extents = e.End(), extents+1
		return nil
	})
	if err != nil || next != large || extents != large/(64<<10) {
		t.Errorf("%v, %d extents, end %d", err, extents, next)
	}
}

// TestSwapUnderLoad: writers go on through many swaps between two devices; no write is answered by a device that is
// beneath no more.
func TestSwapUnderLoad(t *testing.T) {
	d := live.New(faulty.NewMemory(size))
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for c := range int64(4) {
		wg.Go(func() {
			for p := []byte{1}; ; p[0]++ {
				if _, err := d.WriteAt(p, c); err != nil {
					t.Errorf("write: %v", err)
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for range 200 {
		previous := swap(t, d, faulty.NewMemory(size))
		if err := previous.Close(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
}
