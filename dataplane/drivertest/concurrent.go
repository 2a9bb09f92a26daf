package drivertest

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cvold/cvold/dataplane"
)

// modelSteps is how many random calls the model test makes: enough to meet every pair of calls, and over in a second.
const modelSteps = 300

// deviceModel makes random calls and holds the device to a slice of bytes, and its extents to the bytes.
func deviceModel(t *testing.T, dev dataplane.Device) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	model, b := make([]byte, deviceSize), blockOf(dev)
	for step := range modelSteps {
		off := rng.Int64N(deviceSize/b) * b
		n := min(deviceSize-off, (1+rng.Int64N(1<<rng.IntN(11)))*b)
		switch op := rng.IntN(10); op {
		case 0, 1, 2, 3:
			p := pattern(byte(step), int(n))
			write(t, dev, off, p)
			copy(model[off:], p)
		case 4, 5, 6:
			if err := dev.ZeroAt(off, n, dataplane.ZeroMode{MayUnmap: op == 4}); err != nil {
				t.Fatalf("step %d: zero %d+%d: %v", step, off, n, err)
			}
			clear(model[off : off+n])
		case 7:
			if err := dev.Discard(off, n); err != nil {
				t.Fatalf("step %d: discard %d+%d: %v", step, off, n, err)
			}
			copy(model[off:], read(t, dev, off, n)) // any bytes are right
		case 8:
			if err := dev.Sync(); err != nil {
				t.Fatalf("step %d: sync: %v", step, err)
			}
		case 9:
			holdExtents(t, dev, model, off, n)
		}
		if got := read(t, dev, off, n); !bytes.Equal(got, model[off:off+n]) {
			t.Fatalf("step %d: %d+%d differs from the model", step, off, n)
		}
	}
	holdExtents(t, dev, model, 0, deviceSize)
	if !bytes.Equal(read(t, dev, 0, deviceSize), model) {
		t.Error("the device differs from the model at the end")
	}
}

func holdExtents(t *testing.T, dev dataplane.Device, model []byte, off, n int64) {
	t.Helper()
	for _, e := range extents(t, dev, off, n) {
		if e.Zero && firstNonZero(model[e.Offset:e.End()]) >= 0 {
			t.Fatalf("extent %+v is called zero and holds data", e)
		}
	}
}

// deviceConcurrent: callers with a share each, all kinds of calls at once.
func deviceConcurrent(t *testing.T, dev dataplane.Device) {
	const callers, share = 8, deviceSize / 8
	var wg sync.WaitGroup
	for c := range int64(callers) {
		wg.Go(func() {
			for round := range byte(4) {
				want := pattern(byte(c)*8+round, share)
				if _, err := writePieces(dev, c*share, want); err != nil {
					t.Errorf("caller %d: write: %v", c, err)
				}
				if err := dev.ZeroAt(c*share, share/4, dataplane.ZeroMode{MayUnmap: round%2 == 0}); err != nil {
					t.Errorf("caller %d: zero: %v", c, err)
				}
				clear(want[:share/4])
				if err := errors.Join(dev.Sync(), anyExtents(dev)); err != nil {
					t.Errorf("caller %d: %v", c, err)
				}
				got := make([]byte, share)
				if err := readPieces(dev, c*share, got); err != nil || !bytes.Equal(got, want) {
					t.Errorf("caller %d round %d reads back differently: %v", c, round, err)
				}
			}
		})
	}
	wg.Wait()
}

// deviceOverlap: two writes of one range at once leave in each block the bytes of one of them.
func deviceOverlap(t *testing.T, dev dataplane.Device) {
	b := dev.Info().MinBlock
	const length = 64 << 10
	writes := [2][]byte{bytes.Repeat([]byte{0xaa}, length), bytes.Repeat([]byte{0x55}, length)}
	for range 20 {
		var wg sync.WaitGroup
		for _, p := range writes {
			wg.Go(func() {
				if _, err := writePieces(dev, 0, p); err != nil {
					t.Errorf("write: %v", err)
				}
			})
		}
		wg.Wait()
		got := read(t, dev, 0, length)
		for at := int64(0); at < length; at += b {
			block := got[at : at+b]
			if !bytes.Equal(block, writes[0][:b]) && !bytes.Equal(block, writes[1][:b]) {
				t.Fatalf("the block at %d is neither writer's", at)
			}
		}
	}
}

func deviceClosed(t *testing.T, dev dataplane.Device) {
	b := blockOf(dev)
	if err := dev.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	_, readErr := dev.ReadAt(make([]byte, b), 0)
	_, sizeErr := dev.Size()
	calls := map[string]error{
		"read": readErr, "size": sizeErr, "sync": dev.Sync(), "extents": anyExtents(dev), "second close": dev.Close(),
	}
	for name, err := range changing(dev, 0, b) {
		calls[name] = err
	}
	for name, err := range calls {
		if !errors.Is(err, dataplane.ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", name, err)
		}
	}
}

// deviceCloseDuring: calls that run when Close comes end well or with ErrClosed, and Close returns.
func deviceCloseDuring(t *testing.T, dev dataplane.Device) {
	var wg sync.WaitGroup
	started := make(chan struct{}, 8)
	for c := range int64(cap(started)) {
		wg.Go(func() {
			p := pattern(byte(c), 64<<10)
			for i := 0; ; i++ {
				_, err := writePieces(dev, c*(64<<10), p)
				if err == nil {
					err = readPieces(dev, c*(64<<10), p)
				}
				if err == nil && i%4 == 0 {
					err = errors.Join(dev.Sync(), anyExtents(dev))
				}
				if i == 0 {
					started <- struct{}{}
				}
				if err != nil {
					if !errors.Is(err, dataplane.ErrClosed) {
						t.Errorf("during close: %v, want ErrClosed", err)
					}
					return
				}
			}
		})
	}
	for range cap(started) {
		<-started
	}
	if err := dev.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	wg.Wait()
}

// deviceCloseAtOnce: of many Closes at the same time one succeeds.
func deviceCloseAtOnce(t *testing.T, dev dataplane.Device) {
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	for range cap(errs) {
		wg.Go(func() { errs <- dev.Close() })
	}
	wg.Wait()
	close(errs)
	good := 0
	for err := range errs {
		if err == nil {
			good++
		} else if !errors.Is(err, dataplane.ErrClosed) {
			t.Errorf("close: %v", err)
		}
	}
	if good != 1 {
		t.Errorf("%d of 8 closes succeeded", good)
	}
}

func anyExtents(dev dataplane.Device) error {
	return dev.Extents(context.Background(), 0, deviceSize, func(dataplane.Extent) error { return nil })
}

func writePieces(dev dataplane.Device, off int64, p []byte) (int, error) {
	return len(p), pieces(dev, int64(len(p)), func(at, n int64) error {
		_, err := dev.WriteAt(p[at:at+n], off+at)
		return err
	})
}

func readPieces(dev dataplane.Device, off int64, p []byte) error {
	return pieces(dev, int64(len(p)), func(at, n int64) error {
		_, err := dev.ReadAt(p[at:at+n], off+at)
		return err
	})
}
