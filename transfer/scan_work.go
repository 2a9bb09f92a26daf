package transfer

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/cvold/cvold/dataplane"
)

// scanBytes is how much of a device one worker reads and digests at a time, unless a chunk is longer: a disk is read at
// its full speed, and what small chunks cost beside their bytes is shared by many.
const scanBytes = 1 << 20

// The first window is small, so that reading begins at once: a file system looks for the next hole in all that is before
// it. Each is longer than the one before, for reading a window takes longer than asking for the next one.
const (
	firstWindow  = 256
	windowGrowth = 4
)

// pieceBytes is the length of a worker's buffer.
func pieceBytes(g Geometry) int64 { return max(scanBytes, g.ChunkSize) }

// scanner is one Scan. Pieces pass through it in order:
//
//	plan ─▶ (workers: read, digest) ─▶ collect
//
// plan asks for the extents of a window while the workers are still busy with the window before; collect waits for each
// piece in turn.
type scanner struct {
	ScanOptions
	*end
	zero zeroDigests
	jobs chan *piece // to the workers
	// ordered is to collect. Its room bounds how far the workers may be ahead of the slowest of them.
	ordered chan *piece
}

// piece is a stretch of chunks: a hole, or as much data as one worker takes at a time.
type piece struct {
	first, count int64
	hole         bool
	digests      []Digest      // of data
	done         chan struct{} // closed when digests are complete
}

func newScanner(medium dataplane.Device, g Geometry, o ScanOptions) (*scanner, error) {
	if o.Workers < 0 || o.Workers > MaxScanWorkers {
		return nil, fmt.Errorf("%d workers: %w", o.Workers, ErrInvalid)
	}
	if o.Workers == 0 {
		o.Workers = scanWorkers
	}
	e, err := newEnd(medium, cmp.Or(o.Device, "target"), g, 0)
	if err != nil {
		return nil, err
	}
	e.piece.init(longestRequest(medium.Info(), pieceBytes(g)), e.minBlock, true)
	return &scanner{
		ScanOptions: o, end: e, zero: g.zeroDigests(),
		jobs: make(chan *piece), ordered: make(chan *piece, 2*o.Workers),
	}, nil
}

// run digests the chunks from first to end, and adds them to cut in order.
func (s *scanner) run(ctx context.Context, first, end int64, cut *canonical) error {
	g, running := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(s.jobs)
		defer close(s.ordered)
		return s.plan(running, first, end)
	})
	size := pieceBytes(s.geometry)
	pieces := (s.geometry.Bytes(first, end-first) + size - 1) / size // or less
	for range min(int64(s.Workers), pieces) {
		g.Go(func() error { return s.work(running) })
	}
	g.Go(func() error { return s.collect(running, cut) })
	return g.Wait()
}

// plan cuts the chunks into pieces.
func (s *scanner) plan(ctx context.Context, first, end int64) error {
	for window := int64(firstWindow); first < end; window = min(window*windowGrowth, windowChunks) {
		count := min(window, end-first)
		data, err := s.mustRead(ctx, first, count)
		if err != nil {
			return err
		}
		if err := s.planWindow(ctx, first, data); err != nil {
			return err
		}
		first += count
	}
	return nil
}

// mustRead says which of count chunks from first are read. The device is asked only where it may have a hole.
func (s *scanner) mustRead(ctx context.Context, first, count int64) ([]bool, error) {
	if s.ReadHoles {
		return all(count), nil
	}
	if s.mark == nil {
		return s.dataChunks(ctx, first, count)
	}
	marked := make([]bool, count)
	s.mark(first, marked)
	if !slices.Contains(marked, false) {
		return marked, nil
	}
	data, err := s.dataChunks(ctx, first, count)
	for i := range data {
		data[i] = data[i] || marked[i]
	}
	return data, err
}

func (s *scanner) planWindow(ctx context.Context, first int64, data []bool) error {
	most := int(max(scanBytes/s.geometry.ChunkSize, 1))
	for len(data) > 0 {
		p := &piece{first: first, hole: !data[0]}
		n := 1
		for n < len(data) && data[n] == data[0] && (p.hole || n < most) {
			n++
		}
		p.count = int64(n)
		if err := s.hand(ctx, p); err != nil {
			return err
		}
		first, data = first+p.count, data[n:]
	}
	return nil
}

// hand gives a piece to its worker and to collect.
func (s *scanner) hand(ctx context.Context, p *piece) error {
	if !p.hole {
		p.digests, p.done = make([]Digest, p.count), make(chan struct{})
	}
	select {
	case s.ordered <- p:
	case <-ctx.Done():
		return ctx.Err()
	}
	if p.hole {
		return nil
	}
	select {
	case s.jobs <- p:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// work reads and digests pieces until there are no more.
func (s *scanner) work(ctx context.Context) error {
	buf := getBuffer(pieceBytes(s.geometry))
	defer putBuffer(buf)
	for {
		select {
		case p, more := <-s.jobs:
			if !more {
				return nil
			}
			if err := s.digest(buf, p); err != nil {
				return err
			}
			close(p.done)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *scanner) digest(buf []byte, p *piece) error {
	bytes, err := s.readChunks(buf, p.first, p.count)
	if err != nil {
		return err
	}
	for i := range p.digests {
		chunk := bytes[:min(int64(len(bytes)), s.geometry.ChunkSize)]
		bytes = bytes[len(chunk):]
		if isZero(chunk) {
			p.digests[i] = s.zero.of(p.first + int64(i))
			continue
		}
		p.digests[i] = s.geometry.Sum(chunk)
	}
	return nil
}

// collect takes the pieces in order as they are done.
func (s *scanner) collect(ctx context.Context, cut *canonical) error {
	for p := range s.ordered {
		if !p.hole {
			select {
			case <-p.done:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err := cut.add(Run{First: p.first, Count: p.count, Zero: p.hole, Digests: p.digests}); err != nil {
			return err
		}
		if s.Progress != nil {
			s.Progress(s.geometry.Bytes(p.first, p.count))
		}
	}
	return nil
}
