package faulty

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/cvold/cvold/dataplane"
)

// Crash is a device that keeps in memory what was not synced, and loses some of it when the power is cut. The device
// behind it holds exactly what is durable. Each unsynced sector takes memory until the next Sync, also zeroed ones.
type Crash struct {
	dev  dataplane.Device
	size int64
	unit int64

	mu      sync.RWMutex
	pending map[int64][][]byte // by unit: what was written since the last Sync, oldest first
	dead    bool
	closed  bool
}

// WrapCrash puts a Crash in front of dev. Until PowerCut it keeps the contract of a device; Close closes dev.
func WrapCrash(dev dataplane.Device) (*Crash, error) {
	size, err := dev.Size()
	if err != nil {
		return nil, fmt.Errorf("wrap device: %w", err)
	}
	unit := max(dev.Info().MinBlock, Sector)
	return &Crash{dev: dev, size: size, unit: unit, pending: make(map[int64][][]byte)}, nil
}

// PowerCut cuts the power: of each sector written since the last Sync the device behind keeps, chosen by seed, one of the
// versions written or what was durable before. From then on every call of this device is ErrIO, and Close leaves the
// device behind open: read it to see what the next start would find.
func (c *Crash) PowerCut(seed uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.alive(); err != nil {
		return err
	}
	c.dead = true
	rng := rand.New(rand.NewPCG(seed, seed))
	for _, unit := range slices.Sorted(maps.Keys(c.pending)) {
		versions := c.pending[unit]
		kept := rng.IntN(len(versions)+1) - 1
		if kept < 0 {
			continue
		}
		if _, err := c.dev.WriteAt(versions[kept], unit*c.unit); err != nil {
			return fmt.Errorf("keep sector %d: %w", unit, err)
		}
	}
	c.pending = nil
	return nil
}

// Unsynced is the number of sectors that a power cut could lose now.
func (c *Crash) Unsynced() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.pending)
}

// ReadAt is dataplane.Device.ReadAt.
func (c *Crash) ReadAt(p []byte, off int64) (int, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if err := c.check(off, int64(len(p))); err != nil {
		return 0, err
	}
	n, err := c.dev.ReadAt(p, off)
	if err != nil {
		return n, err
	}
	for unit := off / c.unit; unit*c.unit < off+int64(len(p)); unit++ {
		if now := c.newest(unit); now != nil {
			overlay(p, off, now, unit*c.unit)
		}
	}
	return n, nil
}

// overlay copies into p, which lies at off, what of q, which lies at at, they share.
func overlay(p []byte, off int64, q []byte, at int64) {
	if at < off {
		q, at = q[min(off-at, int64(len(q))):], off
	}
	if at-off < int64(len(p)) {
		copy(p[at-off:], q)
	}
}

// WriteAt is dataplane.Device.WriteAt.
func (c *Crash) WriteAt(p []byte, off int64) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.checkWrite(off, int64(len(p))); err != nil {
		return 0, err
	}
	for unit := off / c.unit; unit*c.unit < off+int64(len(p)); unit++ {
		version, err := c.copyOf(unit)
		if err != nil {
			return 0, err
		}
		overlay(version, unit*c.unit, p, off)
		c.pending[unit] = append(c.pending[unit], version)
	}
	return len(p), nil
}

// copyOf is a copy of what a unit reads as now.
func (c *Crash) copyOf(unit int64) ([]byte, error) {
	p := make([]byte, min(c.unit, c.size-unit*c.unit))
	if now := c.newest(unit); now != nil {
		copy(p, now)
		return p, nil
	}
	_, err := c.dev.ReadAt(p, unit*c.unit)
	return p, err
}

func (c *Crash) newest(unit int64) []byte {
	versions := c.pending[unit]
	if len(versions) == 0 {
		return nil
	}
	return versions[len(versions)-1]
}

// ZeroAt is dataplane.Device.ZeroAt.
func (c *Crash) ZeroAt(off, n int64, mode dataplane.ZeroMode) error {
	c.mu.RLock()
	err := c.checkWrite(off, n)
	c.mu.RUnlock()
	if err != nil {
		return err
	}
	if mode.FastOnly && !c.dev.Info().FastZero {
		return fmt.Errorf("fast zero of %d bytes: %w", n, dataplane.ErrNotSupported)
	}
	mode.FastOnly = false
	return dataplane.WriteZeroes(c.WriteAt, off, n, 0, mode)
}

// Discard is dataplane.Device.Discard: it zeroes, and may be lost like a write.
func (c *Crash) Discard(off, n int64) error {
	return c.ZeroAt(off, n, dataplane.ZeroMode{MayUnmap: true})
}

// Sync is dataplane.Device.Sync. Where it fails the unsynced writes stay unsynced.
func (c *Crash) Sync() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.alive(); err != nil {
		return err
	}
	if err := c.push(); err != nil {
		return err
	}
	if err := c.dev.Sync(); err != nil {
		return err
	}
	clear(c.pending)
	return nil
}

// push writes the newest version of all units to the device behind.
func (c *Crash) push() error {
	for unit := range c.pending {
		if _, err := c.dev.WriteAt(c.newest(unit), unit*c.unit); err != nil {
			return err
		}
	}
	return nil
}

// Size is dataplane.Device.Size.
func (c *Crash) Size() (int64, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.size, c.alive()
}

// Extents is dataplane.Device.Extents; while the range has unsynced writes it is all data.
func (c *Crash) Extents(ctx context.Context, off, n int64, fn func(dataplane.Extent) error) error {
	c.mu.RLock()
	err := c.check(off, n)
	unsynced := false
	for unit := range c.pending {
		unsynced = unsynced || (unit+1)*c.unit > off && unit*c.unit < off+n
	}
	c.mu.RUnlock()
	if err != nil {
		return err
	}
	if unsynced {
		return dataplane.AllData(ctx, off, n, fn)
	}
	return c.dev.Extents(ctx, off, n, fn)
}

// Info is that of the device behind, without Path.
func (c *Crash) Info() dataplane.Info {
	info := c.dev.Info()
	info.Path, info.File = "", nil
	return info
}

// Close is dataplane.Device.Close: unsynced writes go to the device behind, which is closed, unless the power was cut.
func (c *Crash) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.alive()
	}
	c.closed = true
	if c.dead {
		return nil
	}
	err := c.push()
	if closeErr := c.dev.Close(); err == nil {
		err = closeErr
	}
	c.pending = nil
	return err
}

func (c *Crash) alive() error {
	switch {
	case c.closed:
		return fmt.Errorf("crash device: %w", dataplane.ErrClosed)
	case c.dead:
		return fmt.Errorf("power was cut: %w", dataplane.ErrIO)
	}
	return nil
}

func (c *Crash) check(off, n int64) error {
	if err := c.alive(); err != nil {
		return err
	}
	return dataplane.CheckRange(off, n, c.size, c.dev.Info().MinBlock)
}

func (c *Crash) checkWrite(off, n int64) error {
	if err := c.alive(); err != nil {
		return err
	}
	if c.dev.Info().ReadOnly {
		return fmt.Errorf("crash device: %w", dataplane.ErrReadOnly)
	}
	return c.check(off, n)
}
