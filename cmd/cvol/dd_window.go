package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
)

// ddWindow is a part of a device: n bytes from off, both multiples of its blocks.
type ddWindow struct {
	dataplane.Device
	off, n int64
}

func (w ddWindow) check(off, n int64) error {
	return dataplane.CheckRange(off, n, w.n, w.Device.Info().MinBlock)
}

func (w ddWindow) ReadAt(p []byte, off int64) (int, error) {
	if err := w.check(off, int64(len(p))); err != nil {
		return 0, err
	}
	return w.Device.ReadAt(p, w.off+off)
}

func (w ddWindow) WriteAt(p []byte, off int64) (int, error) {
	if err := w.check(off, int64(len(p))); err != nil {
		return 0, err
	}
	return w.Device.WriteAt(p, w.off+off)
}

func (w ddWindow) Size() (int64, error) {
	_, err := w.Device.Size()
	return w.n, err
}

func (w ddWindow) ZeroAt(off, n int64, mode dataplane.ZeroMode) error {
	if err := w.check(off, n); err != nil {
		return err
	}
	return w.Device.ZeroAt(w.off+off, n, mode)
}

func (w ddWindow) Discard(off, n int64) error {
	if err := w.check(off, n); err != nil {
		return err
	}
	return w.Device.Discard(w.off+off, n)
}

func (w ddWindow) Extents(ctx context.Context, off, n int64, fn func(dataplane.Extent) error) error {
	if err := w.check(off, n); err != nil {
		return err
	}
	return w.Device.Extents(ctx, w.off+off, n, func(e dataplane.Extent) error {
		e.Offset -= w.off
		return fn(e)
	})
}

// Info has neither Path nor File: their offsets are others.
func (w ddWindow) Info() dataplane.Info {
	info := w.Device.Info()
	info.Path, info.File = "", nil
	return info
}

// ddZeroes is how runs of zeroes get onto a target.
type ddZeroes int

const (
	// ddAllocate zeroes keep the space: what dd does without conv=sparse.
	ddAllocate ddZeroes = iota
	// ddUnmap makes holes, where nothing of the old data can be read.
	ddUnmap
	// ddOverwrite writes zeroes where the old data lie.
	ddOverwrite
)

// ddTarget is a window to which zeroes are written as the command line wants it, whatever the writer would allow.
type ddTarget struct {
	ddWindow
	zeroes ddZeroes
	// aligned: all writes must be aligned in memory too, for direct I/O.
	aligned bool
}

func (t ddTarget) ZeroAt(off, n int64, mode dataplane.ZeroMode) error {
	if t.zeroes == ddOverwrite {
		return t.overwrite(off, n, mode)
	}
	mode.MayUnmap = t.zeroes == ddUnmap
	if !t.aligned || mode.FastOnly {
		return t.ddWindow.ZeroAt(off, n, mode)
	}
	mode.FastOnly = true
	err := t.ddWindow.ZeroAt(off, n, mode)
	if errors.Is(err, dataplane.ErrNotSupported) {
		return t.overwrite(off, n, dataplane.ZeroMode{})
	}
	return err
}

// Info has no FastZero where zeroes are written.
func (t ddTarget) Info() dataplane.Info {
	info := t.ddWindow.Info()
	info.FastZero = info.FastZero && t.zeroes != ddOverwrite
	return info
}

// ddZeroPage in bytes is how many zeroes are written at once.
const ddZeroPage = 1 << 20

// ddZeroPages are zeroes outside of the heap, aligned for direct I/O.
var ddZeroPages = sync.OnceValues(func() ([]byte, error) {
	p, err := unix.Mmap(-1, 0, ddZeroPage, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("map %d zeroes: %w", ddZeroPage, err)
	}
	return p, nil
})

func (t ddTarget) overwrite(off, n int64, mode dataplane.ZeroMode) error {
	if err := t.check(off, n); err != nil {
		return err
	}
	if mode.FastOnly {
		return fmt.Errorf("fast zero of %d bytes: %w", n, dataplane.ErrNotSupported)
	}
	zeroes, err := ddZeroPages()
	for err == nil && n > 0 {
		piece := min(n, ddZeroPage)
		_, err = t.WriteAt(zeroes[:piece], off)
		off, n = off+piece, n-piece
	}
	return err
}

// ddZeroSource is /dev/zero as a device.
type ddZeroSource struct{ size int64 }

func (z ddZeroSource) ReadAt(p []byte, off int64) (int, error) {
	if err := dataplane.CheckRange(off, int64(len(p)), z.size, 1); err != nil {
		return 0, err
	}
	clear(p)
	return len(p), nil
}

func (z ddZeroSource) WriteAt([]byte, int64) (int, error)            { return 0, dataplane.ErrReadOnly }
func (z ddZeroSource) ZeroAt(int64, int64, dataplane.ZeroMode) error { return dataplane.ErrReadOnly }
func (z ddZeroSource) Discard(int64, int64) error                    { return dataplane.ErrReadOnly }
func (z ddZeroSource) Sync() error                                   { return nil }
func (z ddZeroSource) Size() (int64, error)                          { return z.size, nil }
func (z ddZeroSource) Close() error                                  { return nil }
func (z ddZeroSource) Info() dataplane.Info {
	return dataplane.Info{ReadOnly: true, MinBlock: 1, PreferredBlock: 1}
}

func (z ddZeroSource) Extents(_ context.Context, off, n int64, fn func(dataplane.Extent) error) error {
	if err := dataplane.CheckRange(off, n, z.size, 1); err != nil || n == 0 {
		return err
	}
	return fn(dataplane.Extent{Offset: off, Length: n, Zero: true})
}
