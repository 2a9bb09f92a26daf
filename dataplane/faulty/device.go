package faulty

import (
	"context"
	"fmt"
	"sync"

	"github.com/cvold/cvold/dataplane"
)

// Device is a device with a Plan in front. It is safe for concurrent use, as the device behind it.
type Device struct {
	dev  dataplane.Device
	plan *Plan
	unit int64 // what is torn and remembered as a whole: a sector, or the device's block where that is larger

	done  chan struct{} // closed by Close
	close sync.Once
	calls sync.RWMutex // held for reading by calls, for writing by Close: no call starts after it

	mu   sync.Mutex
	late []lateWrite
	old  map[int64][]byte // by unit: what it held before its last write; only kept when a rule reads stale
}

type lateWrite struct {
	p   []byte
	off int64
}

// Wrap puts plan in front of dev, which Close closes. A nil plan does nothing.
func Wrap(dev dataplane.Device, plan *Plan) *Device {
	if plan == nil {
		plan = new(Plan)
	}
	unit := max(dev.Info().MinBlock, Sector)
	return &Device{dev: dev, plan: plan, unit: unit, done: make(chan struct{}), old: make(map[int64][]byte)}
}

// enter begins a call: it waits what the plan says and returns the action; leave must be called if err is nil.
func (d *Device) enter(ctx context.Context, op Op, off, n int64) (Action, error) {
	waits, action := d.plan.strike(op, off, n)
	for _, w := range waits {
		select {
		case <-w.until:
		case <-ctx.Done():
			return Action{}, ctx.Err()
		case <-d.done:
		}
	}
	if action.kind == fails && !d.isClosed() {
		return Action{}, fmt.Errorf("fault on %s of %d+%d: %w", op, off, n, action.err)
	}
	d.calls.RLock()
	if d.isClosed() {
		d.calls.RUnlock()
		return Action{}, fmt.Errorf("faulty device: %w", dataplane.ErrClosed)
	}
	return action, nil
}

func (d *Device) leave() { d.calls.RUnlock() }

func (d *Device) isClosed() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

// ReadAt is dataplane.Device.ReadAt.
func (d *Device) ReadAt(p []byte, off int64) (int, error) {
	action, err := d.enter(context.Background(), Read, off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	defer d.leave()
	n, err := d.dev.ReadAt(p, off)
	if err != nil || n == 0 {
		return n, err
	}
	switch action.kind {
	case readsStale:
		d.makeStale(p[:n], off)
	case corrupts:
		p[d.plan.intn(n)] ^= 1 << d.plan.intn(8)
	}
	return n, nil
}

// WriteAt is dataplane.Device.WriteAt.
func (d *Device) WriteAt(p []byte, off int64) (int, error) {
	action, err := d.enter(context.Background(), Write, off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	defer d.leave()
	defer d.land(d.takeLate())
	if err := d.checkWrite(off, int64(len(p))); err != nil {
		return 0, err
	}
	d.remember(off, int64(len(p)))
	return d.writeFaulty(action, p, off)
}

// writeFaulty writes with what the plan says of it. The range is good.
func (d *Device) writeFaulty(action Action, p []byte, off int64) (int, error) {
	switch action.kind {
	case tears:
		return d.tear(action, p, off)
	case loses:
		return len(p), nil
	case comesLate:
		d.keepLate(p, off)
		return len(p), nil
	case duplicates:
		d.keepLate(p, off)
	case corrupts:
		if len(p) > 0 {
			p = append([]byte(nil), p...)
			p[d.plan.intn(len(p))] ^= 1 << d.plan.intn(8)
		}
	case misdirects:
		size, err := d.dev.Size()
		if err != nil {
			return 0, err
		}
		off = max(0, min(off+action.by, size-int64(len(p))))
	}
	return d.dev.WriteAt(p, off)
}

func (d *Device) tear(action Action, p []byte, off int64) (int, error) {
	unit := int(d.unit)
	sectors := (len(p) + unit - 1) / unit
	if sectors == 0 {
		return 0, action.err
	}
	n, err := d.dev.WriteAt(p[:d.plan.intn(sectors)*unit], off)
	if err != nil {
		return n, err
	}
	if action.err != nil {
		return n, fmt.Errorf("torn write of %d+%d: %w", off, len(p), action.err)
	}
	return len(p), nil
}

// ZeroAt is dataplane.Device.ZeroAt.
func (d *Device) ZeroAt(off, n int64, mode dataplane.ZeroMode) error {
	return d.erase(Zero, off, n, func() error { return d.dev.ZeroAt(off, n, mode) })
}

// Discard is dataplane.Device.Discard.
func (d *Device) Discard(off, n int64) error {
	return d.erase(Discard, off, n, func() error { return d.dev.Discard(off, n) })
}

func (d *Device) erase(op Op, off, n int64, do func() error) error {
	action, err := d.enter(context.Background(), op, off, n)
	if err != nil {
		return err
	}
	defer d.leave()
	defer d.land(d.takeLate())
	if err := d.checkWrite(off, n); err != nil {
		return err
	}
	d.remember(off, n)
	switch action.kind {
	case loses:
		return nil
	case garbles:
		return d.garble(off, n)
	}
	return do()
}

// garble writes what is not zero, in pieces.
func (d *Device) garble(off, n int64) error {
	piece := make([]byte, min(n, pageSize))
	for n > 0 {
		p := piece[:min(n, int64(len(piece)))]
		d.plan.fill(p)
		if _, err := d.dev.WriteAt(p, off); err != nil {
			return err
		}
		off, n = off+int64(len(p)), n-int64(len(p))
	}
	return nil
}

// Sync is dataplane.Device.Sync. A Lose answers success without syncing.
func (d *Device) Sync() error {
	action, err := d.enter(context.Background(), Sync, 0, 0)
	if err != nil {
		return err
	}
	defer d.leave()
	defer d.land(d.takeLate())
	if action.kind == loses {
		return nil
	}
	return d.dev.Sync()
}

// Size is dataplane.Device.Size.
func (d *Device) Size() (int64, error) {
	if _, err := d.enter(context.Background(), Size, 0, 0); err != nil {
		return 0, err
	}
	defer d.leave()
	return d.dev.Size()
}

// Extents is dataplane.Device.Extents. fn may call the device.
func (d *Device) Extents(ctx context.Context, off, n int64, fn func(dataplane.Extent) error) error {
	action, err := d.enter(ctx, Extents, off, n)
	if err != nil {
		return err
	}
	d.leave() // the device behind takes over: fn may be waiting for a Close of ours
	if action.kind != falseHole {
		return d.dev.Extents(ctx, off, n, fn)
	}
	lie := dataplane.Extent{Offset: action.offset, Length: action.length}
	if lie.Length == 0 {
		lie = dataplane.Extent{Offset: off, Length: n}
	}
	return d.dev.Extents(ctx, off, n, func(e dataplane.Extent) error { return cover(e, lie, fn) })
}

// cover gives fn the parts of e, with what lies in the lie called zeroes.
func cover(e, lie dataplane.Extent, fn func(dataplane.Extent) error) error {
	start, end := max(e.Offset, lie.Offset), min(e.End(), lie.End())
	if start >= end {
		return fn(e)
	}
	parts := [...]dataplane.Extent{
		{Offset: e.Offset, Length: start - e.Offset, Zero: e.Zero},
		{Offset: start, Length: end - start, Zero: true},
		{Offset: end, Length: e.End() - end, Zero: e.Zero},
	}
	for _, part := range parts {
		if part.Length == 0 {
			continue
		}
		if err := fn(part); err != nil {
			return err
		}
	}
	return nil
}

// Info is that of the device behind, without Path: I/O past the wrapper would miss its faults.
func (d *Device) Info() dataplane.Info {
	info := d.dev.Info()
	info.Path, info.File = "", nil
	return info
}

// Close is dataplane.Device.Close: calls that a Delay holds end with ErrClosed, late writes land first.
func (d *Device) Close() error {
	_, action := d.plan.strike(Close, 0, 0)
	err := fmt.Errorf("faulty device: %w", dataplane.ErrClosed)
	d.close.Do(func() {
		close(d.done)
		d.land(d.takeLate())
		err = d.dev.Close()
		d.drain()
		if action.kind == fails {
			err = fmt.Errorf("fault on close: %w", action.err)
		}
	})
	return err
}

// drain waits for the calls that were in the device.
func (d *Device) drain() {
	d.calls.Lock()
	defer d.calls.Unlock()
}

// checkWrite refuses what the device behind would refuse, for faults that answer without asking it.
func (d *Device) checkWrite(off, n int64) error {
	info := d.dev.Info()
	if info.ReadOnly {
		return fmt.Errorf("faulty device: %w", dataplane.ErrReadOnly)
	}
	size, err := d.dev.Size()
	if err != nil {
		return err
	}
	return dataplane.CheckRange(off, n, size, info.MinBlock)
}
