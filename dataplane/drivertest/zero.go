package drivertest

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/cvold/cvold/dataplane"
)

func deviceZero(t *testing.T, dev dataplane.Device) {
	b := blockOf(dev)
	for _, mode := range []dataplane.ZeroMode{{}, {MayUnmap: true}} {
		for _, r := range [][2]int64{{b, b}, {0, 3 * b}, {b, 1 << 20}, {deviceSize - b, b}, {5 * b, 300 * b}, {0, deviceSize}} {
			want := pattern(5, deviceSize)
			write(t, dev, 0, want)
			if err := dev.ZeroAt(r[0], r[1], mode); err != nil {
				t.Fatalf("zero %d+%d with %+v: %v", r[0], r[1], mode, err)
			}
			clear(want[r[0] : r[0]+r[1]])
			if !bytes.Equal(read(t, dev, 0, deviceSize), want) {
				t.Errorf("zero %d+%d with %+v: not exactly the range reads as zeroes", r[0], r[1], mode)
			}
		}
	}
}

// deviceFastZero: FastOnly does the whole thing or refuses and touches nothing; Info().FastZero is kept.
func deviceFastZero(t *testing.T, dev dataplane.Device) {
	b, done := blockOf(dev), false
	for _, mode := range []dataplane.ZeroMode{{FastOnly: true}, {FastOnly: true, MayUnmap: true}} {
		want := pattern(5, deviceSize)
		write(t, dev, 0, want)
		switch err := dev.ZeroAt(8*b, 1<<20, mode); {
		case err == nil:
			done = true
			clear(want[8*b : 8*b+1<<20])
		case !errors.Is(err, dataplane.ErrNotSupported):
			t.Errorf("fast zero with %+v: %v, want nil or ErrNotSupported", mode, err)
		}
		if !bytes.Equal(read(t, dev, 0, deviceSize), want) {
			t.Errorf("fast zero with %+v: neither nothing nor exactly the range was zeroed", mode)
		}
	}
	if done != dev.Info().FastZero {
		t.Errorf("a fast zero succeeded: %v, Info().FastZero: %v", done, dev.Info().FastZero)
	}
}

// deviceDiscard: the range may read as anything, and may be written again; all else stays.
func deviceDiscard(t *testing.T, dev dataplane.Device) {
	b := blockOf(dev)
	want := pattern(6, deviceSize)
	write(t, dev, 0, want)
	if err := dev.Discard(b, 1<<20); err != nil {
		t.Fatalf("discard: %v", err)
	}
	if !bytes.Equal(read(t, dev, 0, b), want[:b]) {
		t.Error("bytes before the range changed")
	}
	if !bytes.Equal(read(t, dev, b+1<<20, deviceSize-b-1<<20), want[b+1<<20:]) {
		t.Error("bytes after the range changed")
	}
	again := pattern(7, 1<<20)
	write(t, dev, b, again)
	if !bytes.Equal(read(t, dev, b, 1<<20), again) {
		t.Error("the range cannot be written again")
	}
}

func deviceExtentsCover(t *testing.T, dev dataplane.Device) {
	b := blockOf(dev)
	write(t, dev, 0, pattern(1, 1<<20))
	write(t, dev, 2<<20, pattern(2, int(b)))
	for _, r := range [][2]int64{{0, deviceSize}, {b, b}, {1 << 20, 1 << 20}, {deviceSize - b, b}, {b, deviceSize - b}} {
		for _, e := range extents(t, dev, r[0], r[1]) {
			if e.Zero && firstNonZero(read(t, dev, e.Offset, e.Length)) >= 0 {
				t.Errorf("extent %+v has data", e)
			}
		}
	}
}

func deviceExtentsStop(t *testing.T, dev dataplane.Device) {
	write(t, dev, 0, pattern(1, 1<<20))
	write(t, dev, 2<<20, pattern(2, 1<<20))
	stop, calls := errors.New("stop"), 0
	err := dev.Extents(t.Context(), 0, deviceSize, func(dataplane.Extent) error { calls++; return stop })
	if err != stop || calls != 1 {
		t.Errorf("error of fn came back as %v after %d calls", err, calls)
	}
}

func deviceExtentsCancelled(t *testing.T, dev dataplane.Device) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := dev.Extents(ctx, 0, deviceSize, func(dataplane.Extent) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// deviceExtentsNested: a copier reads the device from within fn.
func deviceExtentsNested(t *testing.T, dev dataplane.Device) {
	want := pattern(4, 1<<20)
	write(t, dev, 0, want)
	got := make([]byte, 0, deviceSize)
	err := dev.Extents(t.Context(), 0, deviceSize, func(e dataplane.Extent) error {
		got = append(got, read(t, dev, e.Offset, e.Length)...)
		return nil
	})
	if err != nil || !bytes.Equal(got[:1<<20], want) || firstNonZero(got[1<<20:]) >= 0 {
		t.Errorf("reading inside of fn: %v", err)
	}
}
