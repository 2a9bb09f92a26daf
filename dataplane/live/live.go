// Package live is the device under an export: an indirection whose underlying device can be swapped while clients go on
// using it.
package live

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cvold/cvold/dataplane"
)

// ErrIncompatible: the next device cannot take the place of the present one, for clients were promised what it lacks.
var ErrIncompatible = errors.New("device cannot replace the present one")

// ErrPaused: another pause is under way, or lasts.
var ErrPaused = errors.New("device is paused already")

// Device hands every call to the device beneath, which Swap replaces. It is safe for concurrent use and keeps the whole
// contract of dataplane.Device. What Info says was fixed when the Device was made, for clients were told; Path is empty,
// for I/O around the indirection would stay behind at a swap.
//
// A call is in flight from before it reaches the device beneath until it has returned from there.
type Device struct {
	info dataplane.Info

	mu      sync.Mutex
	beneath dataplane.Device
	group   *group        // of the calls that start now
	gate    chan struct{} // closed when a pause ends; nil: not paused
	waiting int           // calls held by the pause
	closed  bool
	done    chan struct{} // closed by Close
}

// group is a set of calls. When it is sealed no call joins it any more.
type group struct {
	calls  int
	sealed bool
	before *group        // the one before, until that is empty
	empty  chan struct{} // closed when sealed and without calls
}

// Stats are numbers of this instant.
type Stats struct {
	// InFlight calls are in the device beneath.
	InFlight int
	// Waiting calls are held by a pause.
	Waiting int
	// Paused says that new calls wait.
	Paused bool
}

// New puts an indirection over dev, which Close closes if it is still there.
func New(dev dataplane.Device) *Device {
	info := dev.Info()
	info.Path, info.File = "", nil
	return &Device{info: info, beneath: dev, group: newGroup(nil), done: make(chan struct{})}
}

func newGroup(before *group) *group { return &group{before: before, empty: make(chan struct{})} }

// enter begins a call: it waits while the device is paused. leave ends it.
func (d *Device) enter(ctx context.Context) (dev dataplane.Device, leave func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.gate != nil && !d.closed {
		if err := d.wait(ctx, d.gate); err != nil {
			return nil, nil, err
		}
	}
	if d.closed {
		return nil, nil, errClosed
	}
	g := d.group
	g.calls++
	return d.beneath, func() { d.leave(g) }, nil
}

var errClosed = fmt.Errorf("live device: %w", dataplane.ErrClosed)

// wait gives the lock back until the pause, the device or ctx ends.
func (d *Device) wait(ctx context.Context, gate chan struct{}) error {
	d.waiting++
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.waiting--
	}()
	select {
	case <-gate:
	case <-d.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

func (d *Device) leave(g *group) {
	d.mu.Lock()
	defer d.mu.Unlock()
	g.calls--
	g.settle()
}

func (g *group) settle() {
	if g.sealed && g.calls == 0 {
		close(g.empty)
	}
}

// seal begins a new group and returns the last one, which is the end of the list of those that may have calls.
func (d *Device) seal() *group {
	sealed := d.group
	sealed.sealed = true
	sealed.settle()
	d.group = newGroup(sealed)
	return sealed
}

// empty waits until a sealed group and all before it have no calls. Groups are passed on newest first; when they are
// empty nothing refers to them any more.
func (d *Device) empty(ctx context.Context, g *group) error {
	for next := g; next != nil; {
		select {
		case <-next.empty:
		case <-d.done:
			return errClosed
		case <-ctx.Done():
			return ctx.Err()
		}
		d.mu.Lock()
		next = next.before
		d.mu.Unlock()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	g.before = nil
	if d.closed { // closing ended the calls
		return errClosed
	}
	return nil
}

// Drain waits until the calls that are in flight now have ended; new ones go on.
func (d *Device) Drain(ctx context.Context) error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return errClosed
	}
	g := d.seal()
	d.mu.Unlock()
	if err := d.empty(ctx, g); err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	return nil
}

// Pause makes new calls wait and returns when none is in flight. If ctx ends before, the device goes on as if nothing
// had been asked. ErrPaused if it is paused, ErrClosed if it is closed.
func (d *Device) Pause(ctx context.Context) error {
	d.mu.Lock()
	switch {
	case d.closed:
		d.mu.Unlock()
		return errClosed
	case d.gate != nil:
		d.mu.Unlock()
		return fmt.Errorf("pause: %w", ErrPaused)
	}
	d.gate = make(chan struct{})
	g := d.seal()
	d.mu.Unlock()
	if err := d.empty(ctx, g); err != nil {
		d.Resume()
		return fmt.Errorf("pause: %w", err)
	}
	return nil
}

// Resume ends a pause: the calls that waited go on, in no order. Without a pause it does nothing.
func (d *Device) Resume() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gate != nil {
		close(d.gate)
		d.gate = nil
	}
}

// Swap puts next beneath and returns the device that was there; both are then the caller's to close or to keep, next
// through the Device's Close. It pauses for the time of the swap, unless the caller has paused: then the pause stays.
// Nothing is copied and nothing flushed: that both hold the same bytes is the caller's business. ErrIncompatible, and
// nothing changed, if next is of another size or lacks what clients were promised.
func (d *Device) Swap(ctx context.Context, next dataplane.Device) (dataplane.Device, error) {
	if err := d.compatible(next); err != nil {
		return nil, fmt.Errorf("swap: %w", err)
	}
	err := d.Pause(ctx)
	switch {
	case err == nil:
		defer d.Resume()
	case !errors.Is(err, ErrPaused):
		return nil, fmt.Errorf("swap: %w", err)
	default: // paused by the caller, or by another one who may not have drained yet
		if err := d.Drain(ctx); err != nil {
			return nil, fmt.Errorf("swap: %w", err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
		return nil, fmt.Errorf("swap: %w", errClosed)
	case d.gate == nil || d.inFlight() > 0:
		return nil, fmt.Errorf("swap: another pause ended meanwhile: %w", ErrPaused)
	}
	previous := d.beneath
	d.beneath = next
	return previous, nil
}

// compatible holds next to what was promised. FastZero is not: each call may be refused anyway. MaxBlock is not: longer
// calls are cut.
func (d *Device) compatible(next dataplane.Device) error {
	info := next.Info()
	switch {
	case info.MinBlock > d.info.MinBlock:
		return fmt.Errorf("blocks of %d instead of %d: %w", info.MinBlock, d.info.MinBlock, ErrIncompatible)
	case info.ReadOnly && !d.info.ReadOnly:
		return fmt.Errorf("read-only: %w", ErrIncompatible)
	case d.info.Medium && !info.Medium:
		return fmt.Errorf("reads through a cache: %w", ErrIncompatible)
	}
	size, err := next.Size()
	if err != nil {
		return err
	}
	d.mu.Lock()
	beneath := d.beneath
	d.mu.Unlock()
	now, err := beneath.Size()
	if err != nil {
		return err
	}
	if size != now {
		return fmt.Errorf("%d bytes instead of %d: %w", size, now, ErrIncompatible)
	}
	return nil
}

// Stats tells how many calls there are. It never waits.
func (d *Device) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Stats{InFlight: d.inFlight(), Waiting: d.waiting, Paused: d.gate != nil}
}

func (d *Device) inFlight() int {
	calls := 0
	for g := d.group; g != nil; g = g.before {
		calls += g.calls
	}
	return calls
}

// Close is dataplane.Device.Close: it closes the device beneath. Calls that a pause holds, and pauses that wait, end
// with ErrClosed.
func (d *Device) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return errClosed
	}
	d.closed = true
	close(d.done)
	beneath := d.beneath
	d.mu.Unlock()
	return beneath.Close()
}
