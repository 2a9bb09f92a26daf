package live

import (
	"context"
	"fmt"

	"github.com/cvold/cvold/dataplane"
)

// extentBatch is how many extents are fetched at once: few enough to keep in memory, enough that entering costs nothing.
const extentBatch = 1024

// ReadAt is dataplane.Device.ReadAt.
func (d *Device) ReadAt(p []byte, off int64) (int, error) {
	dev, leave, err := d.enter(context.Background())
	if err != nil {
		return 0, err
	}
	defer leave()
	if err := d.aligned(off, int64(len(p))); err != nil {
		return 0, err
	}
	return inPieces(dev, p, off, dev.ReadAt)
}

// WriteAt is dataplane.Device.WriteAt.
func (d *Device) WriteAt(p []byte, off int64) (int, error) {
	dev, leave, err := d.enter(context.Background())
	if err != nil {
		return 0, err
	}
	defer leave()
	if err := d.writable(off, int64(len(p))); err != nil {
		return 0, err
	}
	return inPieces(dev, p, off, dev.WriteAt)
}

// inPieces cuts what is longer than the device beneath takes at once: the first one may have taken it.
func inPieces(dev dataplane.Device, p []byte, off int64, move func([]byte, int64) (int, error)) (int, error) {
	most := dev.Info().MaxBlock
	if most <= 0 || int64(len(p)) <= most {
		return move(p, off)
	}
	size, err := dev.Size()
	if err != nil {
		return 0, err
	}
	// As a whole, before the first piece is touched.
	if err := dataplane.CheckRange(off, int64(len(p)), size, dev.Info().MinBlock); err != nil {
		return 0, err
	}
	done := 0
	for done < len(p) {
		n, err := move(p[done:min(len(p), done+int(most))], off+int64(done))
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// writable refuses what was read-only at first, also over a device that is not.
func (d *Device) writable(off, n int64) error {
	if d.info.ReadOnly {
		return fmt.Errorf("live device: %w", dataplane.ErrReadOnly)
	}
	return d.aligned(off, n)
}

// aligned refuses what the first device would have refused, also over one with smaller blocks.
func (d *Device) aligned(off, n int64) error {
	if (off|n)&(d.info.MinBlock-1) != 0 {
		return fmt.Errorf("range %d+%d with blocks of %d: %w", off, n, d.info.MinBlock, dataplane.ErrUnaligned)
	}
	return nil
}

// ZeroAt is dataplane.Device.ZeroAt.
func (d *Device) ZeroAt(off, n int64, mode dataplane.ZeroMode) error {
	dev, leave, err := d.enter(context.Background())
	if err != nil {
		return err
	}
	defer leave()
	if err := d.writable(off, n); err != nil {
		return err
	}
	return dev.ZeroAt(off, n, mode)
}

// Discard is dataplane.Device.Discard.
func (d *Device) Discard(off, n int64) error {
	dev, leave, err := d.enter(context.Background())
	if err != nil {
		return err
	}
	defer leave()
	if err := d.writable(off, n); err != nil {
		return err
	}
	return dev.Discard(off, n)
}

// Sync is dataplane.Device.Sync.
func (d *Device) Sync() error {
	dev, leave, err := d.enter(context.Background())
	if err != nil {
		return err
	}
	defer leave()
	return dev.Sync()
}

// Size is dataplane.Device.Size.
func (d *Device) Size() (int64, error) {
	dev, leave, err := d.enter(context.Background())
	if err != nil {
		return 0, err
	}
	defer leave()
	return dev.Size()
}

// Info is dataplane.Device.Info.
func (d *Device) Info() dataplane.Info { return d.info }

// Extents is dataplane.Device.Extents. It is not in flight while fn runs, so fn may call the device while a pause waits;
// after a swap the rest comes from the next device.
func (d *Device) Extents(ctx context.Context, off, n int64, fn func(dataplane.Extent) error) error {
	for {
		batch, err := d.someExtents(ctx, off, n)
		if err != nil {
			return err
		}
		for _, e := range batch {
			if err := fn(e); err != nil {
				return err
			}
			off, n = e.End(), n-e.Length
		}
		if n == 0 || len(batch) == 0 {
			return nil
		}
	}
}

// errEnough ends the device's Extents when a batch is full.
var errEnough = fmt.Errorf("batch of %d extents is full", extentBatch)

// someExtents fetches the first extents of a range.
func (d *Device) someExtents(ctx context.Context, off, n int64) ([]dataplane.Extent, error) {
	dev, leave, err := d.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := d.aligned(off, n); err != nil {
		return nil, err
	}
	var batch []dataplane.Extent
	err = dev.Extents(ctx, off, n, func(e dataplane.Extent) error {
		if len(batch) == extentBatch {
			return errEnough
		}
		batch = append(batch, e)
		return nil
	})
	if err != nil && err != errEnough { // the device returns errors of fn as they are
		return nil, err
	}
	return batch, nil
}
