package nbd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
)

// goneCheck is how often a device that was disconnected is looked at.
const goneCheck = 20 * time.Millisecond

// goneTimeout is more than udev needs to look at a device and close it.
const goneTimeout = 5 * time.Second

// end takes the device away, flushed and from nobody who uses it; with force at once. All of it can hang when the export does, and is left behind then when ctx ends.
// atLast runs when nothing can keep it from being taken away.
func (d *KernelDevice) end(ctx context.Context, force bool, atLast func()) error {
	ended := make(chan error, 1)
	go func() { ended <- d.disconnect(ctx, force, atLast) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return fmt.Errorf("detach %s: %w", d.Path(), context.Cause(ctx))
	}
}

func (d *KernelDevice) disconnect(ctx context.Context, force bool, atLast func()) error {
	if err := d.still(); err != nil {
		return err
	}
	var alone *os.File // nobody mounts it meanwhile
	if !force {
		var err error
		if alone, err = d.flushAlone(); err != nil {
			return err
		}
		if ctx.Err() != nil { // it took too long, and the caller was told so
			return errors.Join(context.Cause(ctx), alone.Close())
		}
	}
	err := d.still()
	if err == nil {
		atLast()
		err = d.kernel.disconnect(d.Index())
	}
	alone.Close() // no error can matter; without a file it is one
	if err != nil {
		return err
	}
	d.await()
	return nil
}

// still is ErrKernelDevice when the device was taken away: its index may be another one's by now.
func (d *KernelDevice) still() error {
	if err := d.Lost(); err != nil {
		return fmt.Errorf("%s: %w: %w", d.Path(), ErrKernelDevice, err)
	}
	if !d.kernel.keeps() {
		return nil
	}
	index, err := d.machine.find(d.identifier)
	if err == nil && index != d.Index() {
		err = fmt.Errorf("%s is not %s any more: %w", d.Path(), d.identifier, ErrKernelDevice)
	}
	return err
}

// flushAlone opens the device so that it cannot be mounted, and flushes it.
func (d *KernelDevice) flushAlone() (*os.File, error) {
	mode := os.O_RDWR
	if d.parameters.flags&canReadOnly != 0 {
		mode = os.O_RDONLY
	}
	f, err := os.OpenFile(d.Path(), mode|unix.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("%s is mounted, or another program has it for itself: %w", d.Path(), dataplane.ErrBusy)
	}
	if err != nil {
		return nil, fmt.Errorf("detach %s: %w", d.Path(), err)
	}
	if err := f.Sync(); err != nil {
		return nil, errors.Join(fmt.Errorf("flush %s before it is detached: %w", d.Path(), err), f.Close())
	}
	return f, nil
}

// await gives the kernel time to let go of the device, which it does when nobody has it open, and has udev look at it. Who still
// has it gets errors.
func (d *KernelDevice) await() {
	tick := time.NewTicker(goneCheck)
	defer tick.Stop()
	for end := time.Now().Add(goneTimeout); d.machine.connected(d.Index()); <-tick.C {
		if time.Now().After(end) {
			d.log.Warn("the device was taken away, and somebody still has it open", "device", d.Path())
			return
		}
	}
	if err := d.machine.announce(d.Index()); err != nil {
		d.log.Warn("udev was not told of the device's end", "device", d.Path(), "error", err)
	}
}
