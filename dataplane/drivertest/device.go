package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/cvold/cvold/dataplane"
)

// deviceSize is how large the suite's devices are: a whole number of the extents or objects of every back end known.
const deviceSize = 4 << 20

// Device holds devices to the contract of dataplane.Device. open makes a fresh, writable device of size bytes that reads
// as zeroes; the suite closes it.
func Device(t *testing.T, open func(t *testing.T, size int64) dataplane.Device) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, dataplane.Device)
	}{
		{"Info", deviceInfo},
		{"Fresh", deviceFresh},
		{"ReadWhatWasWritten", deviceReadWrite},
		{"Bounds", deviceBounds},
		{"Alignment", deviceAlignment},
		{"EmptyRange", deviceEmptyRange},
		{"WriteKeepsNothing", deviceWriteKeepsNothing},
		{"Zero", deviceZero},
		{"FastZero", deviceFastZero},
		{"Discard", deviceDiscard},
		{"Sync", deviceSync},
		{"ExtentsCover", deviceExtentsCover},
		{"ExtentsStop", deviceExtentsStop},
		{"ExtentsCancelled", deviceExtentsCancelled},
		{"ExtentsNested", deviceExtentsNested},
		{"Model", deviceModel},
		{"Concurrent", deviceConcurrent},
		{"OverlappingWrites", deviceOverlap},
		{"Closed", deviceClosed},
		{"CloseDuringCalls", deviceCloseDuring},
		{"CloseAtOnce", deviceCloseAtOnce},
	} {
		t.Run(test.name, func(t *testing.T) {
			dev := open(t, deviceSize)
			t.Cleanup(func() {
				if err := dev.Close(); err != nil && !errors.Is(err, dataplane.ErrClosed) {
					t.Errorf("close at the end: %v", err)
				}
			})
			test.run(t, dev)
		})
	}
}

func deviceInfo(t *testing.T, dev dataplane.Device) {
	info := dev.Info()
	if info.MinBlock < 1 || info.MinBlock&(info.MinBlock-1) != 0 {
		t.Errorf("MinBlock %d is no power of two", info.MinBlock)
	}
	if info.PreferredBlock < info.MinBlock || info.PreferredBlock&(info.PreferredBlock-1) != 0 {
		t.Errorf("PreferredBlock %d with MinBlock %d", info.PreferredBlock, info.MinBlock)
	}
	if info.MaxBlock != 0 && info.MaxBlock < info.PreferredBlock {
		t.Errorf("MaxBlock %d with PreferredBlock %d", info.MaxBlock, info.PreferredBlock)
	}
	if info.ReadOnly {
		t.Error("opened for writing, and read-only")
	}
	size := sizeOf(t, dev)
	if size != deviceSize || size%info.MinBlock != 0 {
		t.Errorf("size %d, want %d", size, deviceSize)
	}
	write(t, dev, 0, pattern(1, int(blockOf(dev))))
	if again := dev.Info(); again != info {
		t.Errorf("info changed from %+v to %+v", info, again)
	}
}

func deviceFresh(t *testing.T, dev dataplane.Device) {
	if i := firstNonZero(read(t, dev, 0, deviceSize)); i >= 0 {
		t.Errorf("a fresh device has a byte at %d", i)
	}
}

func deviceReadWrite(t *testing.T, dev dataplane.Device) {
	b := blockOf(dev)
	for i, r := range [][2]int64{{0, b}, {b, 3 * b}, {deviceSize - b, b}, {deviceSize / 2, 1 << 20}, {7 * b, b}} {
		want := pattern(byte(i), int(r[1]))
		write(t, dev, r[0], want)
		if got := read(t, dev, r[0], r[1]); !bytes.Equal(got, want) {
			t.Errorf("range %d+%d reads back differently", r[0], r[1])
		}
	}
	if got := read(t, dev, 4*b, 3*b); firstNonZero(got) >= 0 {
		t.Error("bytes between the ranges were touched")
	}
}

func deviceBounds(t *testing.T, dev dataplane.Device) {
	b := blockOf(dev)
	want := pattern(3, int(b))
	write(t, dev, deviceSize-b, want)
	for _, r := range [][2]int64{
		{deviceSize, b}, {deviceSize - b, 2 * b}, {-b, b}, {-b, 2 * b}, {2 * deviceSize, b}, {math.MaxInt64 - b + 1, b},
	} {
		for name, err := range changing(dev, r[0], r[1]) {
			if !errors.Is(err, dataplane.ErrOutOfRange) {
				t.Errorf("%s of %d+%d: %v, want ErrOutOfRange", name, r[0], r[1], err)
			}
		}
		if n, err := dev.ReadAt(make([]byte, r[1]), r[0]); n != 0 || !errors.Is(err, dataplane.ErrOutOfRange) {
			t.Errorf("read of %d+%d: %d, %v, want ErrOutOfRange", r[0], r[1], n, err)
		}
		err := dev.Extents(t.Context(), r[0], r[1], func(dataplane.Extent) error { return nil })
		if !errors.Is(err, dataplane.ErrOutOfRange) {
			t.Errorf("extents of %d+%d: %v, want ErrOutOfRange", r[0], r[1], err)
		}
	}
	if err := dev.ZeroAt(0, math.MaxInt64-b+1, dataplane.ZeroMode{}); !errors.Is(err, dataplane.ErrOutOfRange) {
		t.Errorf("zero of everything there could be: %v", err)
	}
	if !bytes.Equal(read(t, dev, deviceSize-b, b), want) {
		t.Error("a refused call touched the last block")
	}
	if n := sizeOf(t, dev); n != deviceSize {
		t.Errorf("a refused call made the device %d bytes long", n)
	}
}

func deviceAlignment(t *testing.T, dev dataplane.Device) {
	b := dev.Info().MinBlock
	if b == 1 {
		t.Skip("the device takes any byte")
	}
	want := pattern(3, int(2*b))
	write(t, dev, 0, want)
	for _, r := range [][2]int64{{1, b}, {0, b - 1}, {b / 2, b / 2}, {b, b + 1}} {
		for name, err := range changing(dev, r[0], r[1]) {
			if !errors.Is(err, dataplane.ErrUnaligned) {
				t.Errorf("%s of %d+%d: %v, want ErrUnaligned", name, r[0], r[1], err)
			}
		}
		if _, err := dev.ReadAt(make([]byte, r[1]), r[0]); !errors.Is(err, dataplane.ErrUnaligned) {
			t.Errorf("read of %d+%d: %v, want ErrUnaligned", r[0], r[1], err)
		}
	}
	if !bytes.Equal(read(t, dev, 0, 2*b), want) {
		t.Error("a refused call touched the device")
	}
}

func deviceEmptyRange(t *testing.T, dev dataplane.Device) {
	for _, off := range []int64{0, blockOf(dev), deviceSize} {
		for name, err := range changing(dev, off, 0) {
			if err != nil {
				t.Errorf("%s of nothing at %d: %v", name, off, err)
			}
		}
		if n, err := dev.ReadAt(nil, off); n != 0 || err != nil {
			t.Errorf("read of nothing at %d: %d, %v", off, n, err)
		}
		calls := 0
		err := dev.Extents(t.Context(), off, 0, func(dataplane.Extent) error { calls++; return nil })
		if err != nil || calls != 0 {
			t.Errorf("extents of nothing at %d: %v, %d calls", off, err, calls)
		}
	}
}

func deviceWriteKeepsNothing(t *testing.T, dev dataplane.Device) {
	b := int(blockOf(dev))
	want := pattern(9, b)
	p := bytes.Clone(want)
	write(t, dev, 0, p)
	clear(p)
	if !bytes.Equal(read(t, dev, 0, int64(b)), want) {
		t.Error("the device kept the caller's buffer")
	}
}

func deviceSync(t *testing.T, dev dataplane.Device) {
	for range 2 {
		if err := dev.Sync(); err != nil {
			t.Fatalf("sync: %v", err)
		}
		write(t, dev, 0, pattern(1, int(blockOf(dev))))
	}
}

// changing makes each writing call on a range that is to be refused, or is empty, and yields its error.
func changing(dev dataplane.Device, off, n int64) func(yield func(string, error) bool) {
	return func(yield func(string, error) bool) {
		count, err := dev.WriteAt(pattern(0xee, int(min(n, deviceSize))), off)
		if err != nil && count != 0 {
			err = fmt.Errorf("%d bytes were written and then %v", count, err)
		}
		_ = yield("write", err) &&
			yield("zero", dev.ZeroAt(off, n, dataplane.ZeroMode{})) &&
			yield("zero and unmap", dev.ZeroAt(off, n, dataplane.ZeroMode{MayUnmap: true})) &&
			yield("discard", dev.Discard(off, n))
	}
}

// blockOf is a length and alignment that the device takes.
func blockOf(dev dataplane.Device) int64 { return max(dev.Info().MinBlock, 512) }

func sizeOf(t *testing.T, dev dataplane.Device) int64 {
	t.Helper()
	size, err := dev.Size()
	if err != nil {
		t.Fatalf("size: %v", err)
	}
	return size
}

// patternPeriod is prime, so that a pattern shifted by whole blocks never equals itself.
const patternPeriod = 65521

// pattern makes n bytes, none of them zero, that tell seeds and places apart.
func pattern(seed byte, n int) []byte {
	p := make([]byte, n)
	for i := range min(n, patternPeriod) {
		p[i] = byte(i>>9)*7 + byte(i) + seed*31 | 1
	}
	for at := patternPeriod; at < n; at += patternPeriod {
		copy(p[at:], p[:patternPeriod])
	}
	return p
}

func firstNonZero(p []byte) int {
	if bytes.Count(p, []byte{0}) == len(p) { // the common case, and much faster
		return -1
	}
	return bytes.IndexFunc(p, func(r rune) bool { return r != 0 })
}

// pieces cuts a range into what the device takes at once.
func pieces(dev dataplane.Device, n int64, fn func(at, n int64) error) error {
	most := dev.Info().MaxBlock
	if most == 0 {
		most = max(n, 1)
	}
	for at := int64(0); at < n; at += most {
		if err := fn(at, min(most, n-at)); err != nil {
			return err
		}
	}
	return nil
}

func write(t *testing.T, dev dataplane.Device, off int64, p []byte) {
	t.Helper()
	err := pieces(dev, int64(len(p)), func(at, n int64) error {
		done, err := dev.WriteAt(p[at:at+n], off+at)
		if err == nil && int64(done) != n {
			err = fmt.Errorf("%d bytes of %d without an error", done, n)
		}
		return err
	})
	if err != nil {
		t.Fatalf("write %d+%d: %v", off, len(p), err)
	}
}

func read(t *testing.T, dev dataplane.Device, off, n int64) []byte {
	t.Helper()
	p := bytes.Repeat([]byte{0xdb}, int(n)) // what is not filled must not look like zeroes
	err := pieces(dev, n, func(at, n int64) error {
		done, err := dev.ReadAt(p[at:at+n], off+at)
		if err == nil && int64(done) != n {
			err = fmt.Errorf("%d bytes of %d without an error", done, n)
		}
		return err
	})
	if err != nil {
		t.Fatalf("read %d+%d: %v", off, n, err)
	}
	return p
}

// extents lists a range's extents and holds them to what may be said of any: in order, without gap, inside the range.
func extents(t *testing.T, dev dataplane.Device, off, n int64) []dataplane.Extent {
	t.Helper()
	var all []dataplane.Extent
	next := off
	err := dev.Extents(context.Background(), off, n, func(e dataplane.Extent) error {
		if e.Offset != next || e.Length <= 0 || e.End() > off+n {
			return fmt.Errorf("extent %+v, where one at %d was to come", e, next)
		}
		next = e.End()
		all = append(all, e)
		return nil
	})
	if err == nil && next != off+n {
		err = fmt.Errorf("they end at %d", next)
	}
	if err != nil {
		t.Fatalf("extents of %d+%d: %v", off, n, err)
	}
	return all
}
