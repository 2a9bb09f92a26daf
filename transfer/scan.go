package transfer

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/cvold/cvold/dataplane"
)

// scanWorkers is how many chunks Scan reads at the same time: enough to keep one disk or one link busy.
const scanWorkers = 4

// Verifier says what the target's medium gives back now. It is asked after a flush.
type Verifier interface {
	// Digests returns the digests of count chunks from first: runs in order, without gap.
	Digests(ctx context.Context, first, count int64) ([]Run, error)
}

// NewVerifier digests the device itself: the target's half of a migration, and targets without an agent. The device
// should answer from the medium (dataplane.Mode.Medium); which Class that makes is the caller's knowledge.
func NewVerifier(medium dataplane.Device, g Geometry) Verifier {
	return deviceVerifier{medium, g}
}

type deviceVerifier struct {
	medium   dataplane.Device
	geometry Geometry
}

func (v deviceVerifier) Digests(ctx context.Context, first, count int64) ([]Run, error) {
	return Digests(ctx, v.medium, v.geometry, first, count)
}

// Digests is Scan into memory; the caller bounds count.
func Digests(ctx context.Context, medium dataplane.Device, g Geometry, first, count int64) ([]Run, error) {
	var runs []Run
	err := Scan(ctx, medium, g, first, count, func(r Run) error {
		r.Digests = append([]Digest(nil), r.Digests...)
		runs = append(runs, r)
		return nil
	})
	return runs, err
}

// Scan digests count chunks from first and calls fn for them in canonical runs, in order, each valid until fn returns.
// Extents that the device calls zeroes are believed, everything else is read, a few chunks at the same time. It returns
// the first error of fn as it is, a *DeviceError for the device's, ctx's error; ErrOrder for chunks that don't exist.
// When it returns the device is not in use any more.
func Scan(ctx context.Context, medium dataplane.Device, g Geometry, first, count int64, fn func(Run) error) error {
	if err := g.Validate(); err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	if err := g.check(first, count); err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	e, err := newEnd(medium, "target", g, 0)
	if err != nil {
		return err
	}
	s := scanner{end: e, zero: g.zeroDigests()}
	cut := newCanonical(g, fn)
	for limit := first + count; first < limit; first += windowChunks {
		digests, err := s.window(ctx, first, min(windowChunks, limit-first))
		if err != nil {
			return err
		}
		if err := cut.add(Run{First: first, Count: int64(len(digests)), Digests: digests}); err != nil {
			return err
		}
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

type scanner struct {
	*end
	zero zeroDigests
}

// window digests count chunks from first.
func (s scanner) window(ctx context.Context, first, count int64) ([]Digest, error) {
	data, err := s.dataChunks(ctx, first, count)
	if err != nil {
		return nil, err
	}
	digests := make([]Digest, count)
	g, running := errgroup.WithContext(ctx)
	g.SetLimit(scanWorkers)
	for i := range digests {
		chunk := first + int64(i)
		if !data[i] {
			digests[i] = s.zero.of(chunk)
			continue
		}
		if running.Err() != nil {
			break
		}
		g.Go(func() (err error) {
			digests[i], err = s.digest(chunk)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return digests, ctx.Err()
}

func (s scanner) digest(chunk int64) (Digest, error) {
	buf := getBuffer(s.geometry.ChunkSize)
	defer putBuffer(buf)
	p, err := s.read(buf, chunk)
	if err != nil {
		return Digest{}, err
	}
	if isZero(p) {
		return s.zero.of(chunk), nil
	}
	return s.geometry.Sum(p), nil
}
