package transfer

import (
	"context"
	"fmt"

	"github.com/cvold/cvold/dataplane"
)

const (
	// scanWorkers is enough to keep one disk or one link busy.
	scanWorkers = 4
	// MaxScanWorkers bounds the memory of a scan: each worker has a piece of the device.
	MaxScanWorkers = 256
)

// Verifier says what the target's medium gives back now. It is asked after a flush.
type Verifier interface {
	// Digests returns the digests of count chunks from first: runs in order, without gap.
	Digests(ctx context.Context, first, count int64) ([]Run, error)
}

// NewVerifier digests the device itself: the target's half of a migration, and targets without an agent. The device
// should answer from the medium (dataplane.Mode.Medium); which Class that makes is the caller's knowledge.
func NewVerifier(medium dataplane.Device, g Geometry) Verifier {
	return deviceVerifier{medium, g, scanWorkers}
}

type deviceVerifier struct {
	medium   dataplane.Device
	geometry Geometry
	workers  int
}

// within is the verifier with no more buffers than fit into so many bytes, but for one.
func (v deviceVerifier) within(bytes int64) deviceVerifier {
	v.workers = int(min(max(bytes/pieceBytes(v.geometry), 1), scanWorkers))
	return v
}

func (v deviceVerifier) Digests(ctx context.Context, first, count int64) ([]Run, error) {
	return digests(ctx, v.medium, v.geometry, first, count, ScanOptions{Workers: v.workers})
}

// Digests is Scan into memory; the caller bounds count.
func Digests(ctx context.Context, medium dataplane.Device, g Geometry, first, count int64) ([]Run, error) {
	return digests(ctx, medium, g, first, count, ScanOptions{})
}

func digests(ctx context.Context, medium dataplane.Device, g Geometry, first, count int64, o ScanOptions) ([]Run, error) {
	var runs []Run
	err := ScanWith(ctx, medium, g, first, count, o, func(r Run) error {
		r.Digests = append([]Digest(nil), r.Digests...)
		runs = append(runs, r)
		return nil
	})
	return runs, err
}

// ScanOptions say how a device is digested. The zero value believes holes and keeps one disk busy.
type ScanOptions struct {
	// Workers is how many pieces of the device are read at the same time; 0 is 4, at most MaxScanWorkers.
	Workers int
	// Device is what a *DeviceError calls the device; empty is "target".
	Device string
	// ReadHoles reads what the device calls zeroes.
	ReadHoles bool
	// Progress, if not nil, is told how many bytes more are digested or are holes, in small steps, one call at a time.
	Progress func(bytes int64)
	// mark, if not nil, marks chunks of a stretch that are read whatever the device calls them.
	mark func(first int64, data []bool)
}

// Scan is ScanWith for who has no wishes.
func Scan(ctx context.Context, medium dataplane.Device, g Geometry, first, count int64, fn func(Run) error) error {
	return ScanWith(ctx, medium, g, first, count, ScanOptions{}, fn)
}

// ScanWith digests count chunks from first and calls fn for them in canonical runs, in order, one call at a time, each run
// valid until fn returns. Extents that the device calls zeroes are believed unless the options say otherwise, everything
// else is read, several pieces at the same time. It returns the first error of fn as it is, a *DeviceError for the
// device's, ctx's error; ErrOrder for chunks that don't exist, ErrInvalid for a geometry that does not fit the device.
// When it returns the device is not in use any more, by no goroutine.
func ScanWith(ctx context.Context, medium dataplane.Device, g Geometry, first, count int64, o ScanOptions, fn func(Run) error) error {
	if err := g.Validate(); err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	if err := g.check(first, count); err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	s, err := newScanner(medium, g, o)
	if err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	cut := newCanonical(g, fn)
	if err := s.run(ctx, first, first+count, cut); err != nil {
		return err
	}
	return cut.finish()
}

// RootOf is the root of what the device holds now.
func RootOf(ctx context.Context, medium dataplane.Device, g Geometry) (Root, error) {
	h := NewRootHash(g)
	if err := Scan(ctx, medium, g, 0, g.Chunks(), h.Add); err != nil {
		return Root{}, err
	}
	return h.Sum()
}
