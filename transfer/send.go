package transfer

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"github.com/cvold/cvold/dataplane"
)

// Send writes the first VolumeSize bytes of source to w, in order, holes as zeroes, and returns their root; with NoDigests
// there is none, and it is zero. Of the rest of config Geometry, RequestSize, Limiter, ReadHoles, Retries and Progress count.
// Reading is several calls at a time, writing is one. When it returns, no goroutine of it uses the source any more.
func Send(ctx context.Context, source dataplane.Device, w io.Writer, config Config) (Root, error) {
	config.Verifier, config.Checkpoint, config.Since, config.Unreadable = nil, nil, nil, nil
	config, err := config.complete()
	if err != nil {
		return Root{}, fmt.Errorf("send: %w", err)
	}
	e, err := newEnd(source, "source", config.Geometry, config.RequestSize)
	if err != nil {
		return Root{}, fmt.Errorf("send: %w", err)
	}
	s := &sender{
		copier: &copier{Config: config, source: e, zero: config.zeroDigests()},
		out:    w, root: NewRootHash(config.Geometry),
		parts: make(chan *parcel, streamWorkers), buffers: make(chan []byte, streamWorkers),
	}
	config.Progress.begin(PhaseCopying, config.VolumeSize, 0)
	if err := s.run(ctx); err != nil {
		return Root{}, fmt.Errorf("send: %w", err)
	}
	config.Progress.SetPhase(PhaseDone)
	if config.NoDigests {
		return Root{}, nil
	}
	return s.root.Sum()
}

// sender is one Send.
type sender struct {
	*copier
	out     io.Writer
	root    *RootHash
	parts   chan *parcel // in the order of the source
	buffers chan []byte
}

// parcel is a chunk on its way out. buf is nil for a hole.
type parcel struct {
	chunk int64
	buf   []byte
	done  chan struct{} // closed when buf is filled
}

func (s *sender) run(ctx context.Context) error {
	for range streamWorkers {
		s.buffers <- getBuffer(s.ChunkSize)
	}
	g, running := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(s.parts)
		return s.read(running, g)
	})
	g.Go(func() error { return s.write(running) })
	return g.Wait()
}

// read begins to read each chunk that is no hole.
func (s *sender) read(ctx context.Context, g *errgroup.Group) error {
	for first := int64(0); first < s.Chunks(); first += windowChunks {
		data := all(min(windowChunks, s.Chunks()-first))
		if !s.ReadHoles {
			var err error
			if data, err = s.source.dataChunks(ctx, first, int64(len(data))); err != nil {
				return err
			}
		}
		for i := range data {
			p := &parcel{chunk: first + int64(i), done: make(chan struct{})}
			if err := s.begin(ctx, g, p, data[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *sender) begin(ctx context.Context, g *errgroup.Group, p *parcel, data bool) error {
	if data {
		select {
		case p.buf = <-s.buffers:
		case <-ctx.Done():
			return ctx.Err()
		}
		g.Go(func() error { return s.fill(ctx, p) })
	}
	select {
	case s.parts <- p:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fill reads a part.
func (s *sender) fill(ctx context.Context, p *parcel) error {
	_, n := s.Range(p.chunk)
	if s.Limiter != nil {
		if err := s.Limiter.WaitN(ctx, int(n)); err != nil {
			return err
		}
	}
	err := s.retry(ctx, func() error { _, err := s.source.read(p.buf, p.chunk); return err })
	if err == nil {
		close(p.done)
	}
	return err
}

// write writes the parts in order, and digests them.
func (s *sender) write(ctx context.Context) error {
	zeroes := make([]byte, s.ChunkSize)
	for p := range s.parts {
		_, n := s.Range(p.chunk)
		bytes := zeroes[:n]
		if p.buf != nil {
			select {
			case <-p.done:
			case <-ctx.Done():
				return ctx.Err()
			}
			bytes = p.buf[:n]
		}
		if err := s.put(p.chunk, bytes); err != nil {
			return err
		}
		if p.buf != nil {
			s.buffers <- p.buf
		}
	}
	return ctx.Err()
}

func (s *sender) put(chunk int64, bytes []byte) error {
	if _, err := s.out.Write(bytes); err != nil {
		return fmt.Errorf("write the stream: %w", err)
	}
	added := counts{bytes: int64(len(bytes)), dataChunks: 1}
	if isZero(bytes) {
		added.zeroBytes, added.zeroChunks, added.dataChunks = added.bytes, 1, 0
	}
	s.Progress.sent(added.bytes)
	s.Progress.verified(added)
	if s.NoDigests {
		return nil
	}
	return s.root.Add(Run{First: chunk, Count: 1, Digests: []Digest{s.sum(bytes, chunk, added.zeroChunks == 1)}})
}
