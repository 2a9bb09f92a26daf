package faulty

import (
	"context"
	"fmt"
	"sync"

	"github.com/cvold/cvold/dataplane"
)

// pageSize is the unit in which a Memory takes space and gives it back: small enough that a few writes into a device of
// many gigabytes stay small, large enough that the map stays short.
const pageSize = 64 << 10

// Memory is a device in memory: sparse, empty at first, gone with the process. Sync does nothing.
type Memory struct {
	info dataplane.Info
	size int64

	mu     sync.RWMutex
	pages  map[int64]*[pageSize]byte // by number; what is not there reads as zeroes
	closed bool
}

// NewMemory makes a device of size bytes that takes any offset and length.
func NewMemory(size int64) *Memory {
	return NewMemoryInfo(size, dataplane.Info{MinBlock: 1, PreferredBlock: 4096, FastZero: true})
}

// NewMemoryInfo makes a device of size bytes that says info of itself and keeps to it: ReadOnly, MinBlock, MaxBlock and
// FastZero. It panics if size is negative or no multiple of MinBlock: the test that asks so is wrong.
func NewMemoryInfo(size int64, info dataplane.Info) *Memory {
	info.MinBlock = max(info.MinBlock, 1)
	info.PreferredBlock = max(info.PreferredBlock, info.MinBlock)
	if size < 0 || size%info.MinBlock != 0 {
		panic(fmt.Sprintf("memory device of %d bytes in blocks of %d", size, info.MinBlock))
	}
	return &Memory{info: info, size: size, pages: make(map[int64]*[pageSize]byte)}
}

// ReadAt is dataplane.Device.ReadAt.
func (m *Memory) ReadAt(p []byte, off int64) (int, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.check(off, int64(len(p)), true); err != nil {
		return 0, err
	}
	m.each(off, int64(len(p)), func(page, start, end, done int64) {
		if from := m.pages[page]; from != nil {
			copy(p[done:], from[start:end])
		} else {
			clear(p[done : done+end-start])
		}
	})
	return len(p), nil
}

// WriteAt is dataplane.Device.WriteAt.
func (m *Memory) WriteAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.checkWrite(off, int64(len(p)), true); err != nil {
		return 0, err
	}
	m.each(off, int64(len(p)), func(page, start, end, done int64) {
		into := m.pages[page]
		if into == nil {
			into = new([pageSize]byte)
			m.pages[page] = into
		}
		copy(into[start:end], p[done:])
	})
	return len(p), nil
}

// ZeroAt is dataplane.Device.ZeroAt. Whole pages are given up, whatever the mode.
func (m *Memory) ZeroAt(off, n int64, mode dataplane.ZeroMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.checkWrite(off, n, false); err != nil {
		return err
	}
	if mode.FastOnly && !m.info.FastZero {
		return fmt.Errorf("fast zero of %d bytes in memory: %w", n, dataplane.ErrNotSupported)
	}
	m.each(off, n, func(page, start, end, _ int64) {
		if start == 0 && end == pageSize {
			delete(m.pages, page)
		} else if into := m.pages[page]; into != nil {
			clear(into[start:end])
		}
	})
	return nil
}

// Discard is dataplane.Device.Discard: it zeroes.
func (m *Memory) Discard(off, n int64) error {
	return m.ZeroAt(off, n, dataplane.ZeroMode{MayUnmap: true})
}

// Extents is dataplane.Device.Extents: pages never written to, or given up, are zeroes.
func (m *Memory) Extents(ctx context.Context, off, n int64, fn func(dataplane.Extent) error) error {
	m.mu.RLock()
	err := m.check(off, n, false)
	m.mu.RUnlock()
	if err != nil {
		return err
	}
	var run dataplane.Extent
	for end := off + n; off < end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		next := min(end, (off/pageSize+1)*pageSize)
		zero, err := m.hole(off / pageSize)
		if err != nil {
			return err
		}
		if run.Length > 0 && run.Zero != zero {
			if err := fn(run); err != nil {
				return err
			}
			run = dataplane.Extent{}
		}
		if run.Length == 0 {
			run = dataplane.Extent{Offset: off, Zero: zero}
		}
		run.Length, off = next-run.Offset, next
	}
	if run.Length == 0 {
		return ctx.Err()
	}
	return fn(run)
}

// Sync is dataplane.Device.Sync.
func (m *Memory) Sync() error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.open()
}

// Size is dataplane.Device.Size.
func (m *Memory) Size() (int64, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.size, m.open()
}

// Info is dataplane.Device.Info.
func (m *Memory) Info() dataplane.Info { return m.info }

// Close is dataplane.Device.Close. The bytes are gone.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.open(); err != nil {
		return err
	}
	m.closed, m.pages = true, nil
	return nil
}

func (m *Memory) open() error {
	if m.closed {
		return fmt.Errorf("memory: %w", dataplane.ErrClosed)
	}
	return nil
}

func (m *Memory) hole(page int64) (bool, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.pages[page] == nil, m.open()
}

func (m *Memory) check(off, n int64, limited bool) error {
	if err := m.open(); err != nil {
		return err
	}
	if limited && m.info.MaxBlock > 0 && n > m.info.MaxBlock {
		return fmt.Errorf("%d bytes at once, %d allowed: %w", n, m.info.MaxBlock, dataplane.ErrOutOfRange)
	}
	return dataplane.CheckRange(off, n, m.size, m.info.MinBlock)
}

func (m *Memory) checkWrite(off, n int64, limited bool) error {
	if err := m.open(); err != nil {
		return err
	}
	if m.info.ReadOnly {
		return fmt.Errorf("memory: %w", dataplane.ErrReadOnly)
	}
	return m.check(off, n, limited)
}

// each calls fn for the part of each page that off to off+n touches; done counts the bytes of the parts before.
func (m *Memory) each(off, n int64, fn func(page, start, end, done int64)) {
	for done := int64(0); done < n; {
		page, start := (off+done)/pageSize, (off+done)%pageSize
		end := min(pageSize, start+n-done)
		fn(page, start, end, done)
		done += end - start
	}
}
