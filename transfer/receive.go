package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"github.com/cvold/cvold/dataplane"
)

const (
	// streamBatch chunks of a stream are recorded together.
	streamBatch = 64
	// streamWorkers write, or read, chunks of a stream at the same time.
	streamWorkers = 8
)

// Receive writes what r gives, to its end, to the beginning of target, and flushes. What is written is digested by config's
// algorithm and chunk size; its VolumeSize is not looked at. Of the rest of config, Limiter, Progress, Retries,
// TargetIsZero and Preallocate count. Reading is one call at a time, writing is several.
//
// The checkpoint holds the digests of all chunks, and its geometry says how many bytes came: Recheck compares the target's
// medium with it. The caller closes it. A stream that is longer than the target is ErrNoSpace; what came before is written.
func Receive(ctx context.Context, r io.Reader, target dataplane.Device, config Config) (*Checkpoint, error) {
	v, err := newReceiver(r, target, config)
	if err != nil {
		return nil, fmt.Errorf("receive: %w", err)
	}
	defer v.spool.Close() // it holds nothing that lasts
	if err := v.run(ctx); err != nil {
		return nil, fmt.Errorf("receive: %w", err)
	}
	c, err := v.checkpoint()
	if err != nil {
		return nil, fmt.Errorf("receive: %w", err)
	}
	return c, nil
}

// receiver is one Receive. How long the stream is shows only at its end, so whole chunks are recorded in a checkpoint of the
// largest volume, and the last, shorter one is kept aside.
type receiver struct {
	*copier
	in    io.Reader
	room  int64 // size of the target
	spool *Checkpoint
	size  int64
	last  Digest // of the chunk that is not whole
}

func newReceiver(r io.Reader, target dataplane.Device, config Config) (*receiver, error) {
	config.VolumeSize = 0
	config.Verifier, config.Checkpoint, config.Since, config.Unreadable = nil, nil, nil, nil
	config, err := config.complete()
	if err != nil {
		return nil, err
	}
	e, err := newEnd(target, "target", config.Geometry, config.RequestSize)
	if err != nil {
		return nil, err
	}
	room, err := target.Size()
	if err != nil {
		return nil, e.fail("size", 0, 0, err)
	}
	endless := config.Geometry
	endless.VolumeSize = MaxChunks * endless.ChunkSize
	spool, err := NewVolatileCheckpoint("", CheckpointHeader{Geometry: endless})
	if err != nil {
		return nil, err
	}
	c := &copier{Config: config, target: e, zero: endless.zeroDigests()}
	return &receiver{copier: c, in: r, room: room, spool: spool}, nil
}

func (v *receiver) run(ctx context.Context) error {
	v.Progress.begin(PhaseCopying, 0, 0)
	buffers := make(chan []byte, streamWorkers)
	for range streamWorkers {
		buffers <- getBuffer(v.ChunkSize)
	}
	for first, more := int64(0), true; more; first += streamBatch {
		digests, err := v.batch(ctx, first, buffers)
		if err != nil {
			return err
		}
		if more = len(digests) == streamBatch && v.size%v.ChunkSize == 0; v.size%v.ChunkSize != 0 {
			v.last = digests[len(digests)-1]
			digests = digests[:len(digests)-1]
		}
		if len(digests) == 0 {
			continue
		}
		if err := v.spool.Append([]Run{{First: first, Count: int64(len(digests)), Digests: digests}}); err != nil {
			return err
		}
	}
	return v.target.flush()
}

// batch takes chunks from the stream and returns their digests: fewer than streamBatch, or a last one that is not whole, at
// its end.
func (v *receiver) batch(ctx context.Context, first int64, buffers chan []byte) ([]Digest, error) {
	digests := make([]Digest, streamBatch)
	g, running := errgroup.WithContext(ctx)
	count := 0
	for ; count < streamBatch && running.Err() == nil; count++ {
		buf := <-buffers
		n, ended, err := fill(v.in, buf)
		if n == 0 || err != nil {
			buffers <- buf
			if err != nil {
				return nil, errors.Join(fmt.Errorf("read the stream at %d: %w", v.size+int64(n), err), g.Wait())
			}
			break
		}
		digest, chunk := &digests[count], first+int64(count)
		v.size += int64(n)
		g.Go(func() error {
			defer func() { buffers <- buf }()
			return v.take(running, buf, int64(n), chunk, digest)
		})
		if ended {
			count++
			break
		}
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return digests[:count], ctx.Err()
}

// fill reads until buf is full or the stream ends. It is not io.ReadFull, which has the same error for a stream that ends and
// for one whose reader says that it was cut short.
func fill(r io.Reader, buf []byte) (n int, ended bool, err error) {
	for n < len(buf) && err == nil {
		var more int
		more, err = r.Read(buf[n:])
		n += more
	}
	if err == io.EOF {
		return n, true, nil
	}
	return n, false, err
}

// take writes n bytes of buf at the chunk's place.
func (v *receiver) take(ctx context.Context, buf []byte, n, chunk int64, digest *Digest) error {
	off, padded := chunk*v.ChunkSize, v.target.aligned(n)
	if off > v.room-padded {
		return v.target.fail("write", off, n, fmt.Errorf("the target has %d bytes: %w", v.room, dataplane.ErrNoSpace))
	}
	if v.Limiter != nil {
		if err := v.Limiter.WaitN(ctx, int(n)); err != nil {
			return err
		}
	}
	*digest = v.Sum(buf[:n])
	zero := isZero(buf[:n])
	clear(buf[n:padded])
	err := v.retry(ctx, func() error {
		switch {
		case zero && v.TargetIsZero:
			return nil
		case zero:
			return v.target.zeroRange(off, padded, !v.Preallocate)
		}
		return v.target.pieces("write", buf[:padded], off, v.target.device.WriteAt)
	})
	if err == nil && !zero {
		v.Progress.sent(n)
	}
	return err
}

// checkpoint is the record of a stream of which the length is known.
func (v *receiver) checkpoint() (*Checkpoint, error) {
	g := v.Geometry
	g.VolumeSize = v.size
	c, err := NewVolatileCheckpoint("", CheckpointHeader{Geometry: g})
	if err != nil {
		return nil, err
	}
	err = v.spool.Runs(func(r Run) error { return c.Append([]Run{r}) })
	if err == nil && v.size%g.ChunkSize != 0 {
		err = c.Append([]Run{{First: g.Chunks() - 1, Count: 1, Digests: []Digest{v.last}}})
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}
