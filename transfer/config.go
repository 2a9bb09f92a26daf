package transfer

import (
	"fmt"
	"log/slog"
	"time"
)

const (
	// DefaultWorkers is how many chunks are read and written at the same time: enough that reading, the network and
	// writing overlap, few enough that a disk is not thrashed.
	DefaultWorkers = 4
	// MaxWorkers bounds the memory of a copy: MaxWorkers chunks are in flight.
	MaxWorkers = 64
	// maxZero in bytes bounds one request for zeroes, so that a device that has to write them answers in seconds and a
	// cancelled copy ends.
	maxZero = 1 << 30
	// batchBytes of data make a batch, the unit of flush, verification and checkpoint: large beside the cost of a flush,
	// small beside what may be lost by a crash.
	batchBytes = 64 << 20
	// maxBatches are under way at a time: one being copied, one being flushed, one being verified, one waiting. After a
	// crash at most so many are copied again.
	maxBatches = 4
	// maxRecopies is how often a chunk that differs on the target is copied again before the copy gives up: a
	// transient fault is gone the first time, a medium that lies never stops.
	maxRecopies = 3
)

// Observer takes durations in seconds; a Prometheus histogram is one.
type Observer interface{ Observe(float64) }

// Observers are told how long each step took; each may be nil.
type Observers struct {
	// Read and Write: one chunk. Zero: one request. Flush, Verify and Append: one batch.
	Read, Write, Zero, Flush, Verify, Append Observer
}

// Config says how Copy works.
type Config struct {
	// Geometry must be that of the checkpoint and fit on both devices.
	Geometry
	// Workers is the number of chunks read and written at the same time; 0 is DefaultWorkers, at most MaxWorkers.
	Workers int
	// Verifier says what the target's medium gives back. Required.
	Verifier Verifier
	// Checkpoint records what is durable; what it holds already is not copied again. Required.
	Checkpoint *Checkpoint
	// Compare believes nothing that the checkpoint holds: it is emptied, durably, and then chunks are written only where
	// the target's digest is not the source's. For a source that may have changed since the target was written.
	Compare bool
	// ReadHoles reads what the source calls zeroes.
	ReadHoles bool
	// Limiter, if not nil, is asked before each chunk is read.
	Limiter Limiter
	// Progress, if not nil, is kept up to date.
	Progress *Progress
	// Logger, if not nil, is told of chunks that differed.
	Logger    *slog.Logger
	Observers Observers

	// batch is how many chunks of data make a batch; tests make it small.
	batch int64
}

// complete checks the configuration and fills in the defaults: ErrInvalid.
func (c Config) complete() (Config, error) {
	if err := c.Geometry.Validate(); err != nil {
		return c, err
	}
	switch {
	case c.Verifier == nil:
		return c, fmt.Errorf("no verifier: %w", ErrInvalid)
	case c.Checkpoint == nil:
		return c, fmt.Errorf("no checkpoint: %w", ErrInvalid)
	case c.Checkpoint.header.Geometry != c.Geometry:
		return c, fmt.Errorf("checkpoint is for %+v, not %+v: %w", c.Checkpoint.header.Geometry, c.Geometry, ErrInvalid)
	case c.Workers < 0 || c.Workers > MaxWorkers:
		return c, fmt.Errorf("%d workers: %w", c.Workers, ErrInvalid)
	case c.Workers == 0:
		c.Workers = DefaultWorkers
	}
	if c.batch == 0 {
		c.batch = batchChunks(c.Geometry)
	}
	if c.Progress == nil {
		c.Progress = new(Progress)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// batchChunks is how many chunks of data make a batch.
func batchChunks(g Geometry) int64 { return max(batchBytes/g.ChunkSize, 1) }

// observe tells o how long it is since start.
func observe(o Observer, start time.Time) {
	if o != nil {
		o.Observe(time.Since(start).Seconds())
	}
}
