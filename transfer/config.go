package transfer

import (
	"fmt"
	"log/slog"
	"time"
)

const (
	// DefaultWorkers is how many chunks are read and written at the same time when a copy begins: enough that reading,
	// the network and writing overlap, few enough that a disk is not thrashed.
	DefaultWorkers = 4
	// diskWorkers is the same past the page cache: one reads while another one writes. A disk that is one piece of
	// hardware gets slower with more, and one that gets faster has them within a few rounds.
	diskWorkers = 2
	// linkWorkers is the same for a device behind a connection: what is on the way must not leave either side idle.
	linkWorkers = 8
	// MaxWorkers bounds how many chunks are in flight.
	MaxWorkers = 64
	// DefaultInFlight in bytes bounds the memory of a copy: buffers for chunks that are being copied and for chunks that
	// are being read back.
	DefaultInFlight = 64 << 20
	// maxZero in bytes bounds one request for zeroes, so that a device that has to write them answers in seconds and a
	// cancelled copy ends.
	maxZero = 1 << 30
	// batchBytes of data make a batch, the unit of planning: small enough that what is read back is still in the
	// processor's cache where the target is memory. Batches that wait for the same step go through it together.
	batchBytes = 8 << 20
	// maxBatches are under way at a time: some being copied, some being flushed, some being verified, some waiting. After
	// a crash at most so many are copied again.
	maxBatches = 32
	// flushRest is how many times as long as a flush took the next one waits for more to flush, until it has flushBytes.
	flushRest  = 4
	flushBytes = 64 << 20
	// recordBatches are recorded with one append, for an append costs a flush of the checkpoint's disk.
	recordBatches = 8
	// recordTime bounds how long something verified waits to be recorded.
	recordTime = 5 * time.Second
	// verifyBytes of data at most are verified with one call, which may be one request to another node.
	verifyBytes = 64 << 20
	// maxRecopies is how often a chunk that differs on the target is copied again before the copy gives up: a
	// transient fault is gone the first time, a medium that lies never stops.
	maxRecopies = 3
)

// Observer takes durations in seconds; a Prometheus histogram is one.
type Observer interface{ Observe(float64) }

// Observers are told how long each step took; each may be nil.
type Observers struct {
	// Read and Write: one chunk. Zero: one request. Flush, Verify and Append: one or several batches.
	Read, Write, Zero, Flush, Verify, Append Observer
}

// Config says how Copy works.
type Config struct {
	// Geometry must be that of the checkpoint and fit on both devices.
	Geometry
	// Workers is the number of chunks read and written at the same time, at most MaxWorkers; 0: as many as make the copy
	// faster, found while it runs, within InFlight.
	Workers int
	// InFlight bounds the memory for chunks in bytes; 0 is DefaultInFlight. One chunk being copied and one being read back
	// are always allowed, and so are Workers. Send and Receive have eight chunks in flight.
	InFlight int64
	// RequestSize is the longest read or write in bytes: a multiple of MinChunkSize, at most a chunk. 0: a chunk, and less
	// while a device takes more than a second for one.
	RequestSize int64
	// Verifier says what the target's medium gives back; nil: nothing is read back, and a chunk counts as verified once its
	// write was flushed.
	Verifier Verifier
	// NoDigests leaves digests out, for a copy that needs none: without Verifier, Checkpoint and Since.
	NoDigests bool
	// Checkpoint records what is durable; what it holds already is not copied again. nil: the record lasts as long as Copy.
	Checkpoint *Checkpoint
	// Compare believes nothing that the checkpoint holds: it is emptied, durably, and then chunks are written only where
	// the target's digest is not the source's. For a source that may have changed since the target was written. It needs
	// a Verifier.
	Compare bool
	// Since, if not nil, is a manifest of what the target holds now, of the same geometry, not yet read from: a chunk of the
	// source with the same digest is not written. With a Verifier it is read back all the same. A manifest that lies has
	// a target that is wrong where nothing is read back: CheckManifest, and BLAKE3, are the caller's concern.
	Since *ManifestReader
	// TargetIsZero says that the target reads as zeroes now: no zeroes are written. With a Verifier it is checked.
	TargetIsZero bool
	// Preallocate has zeroes keep their space on the target, instead of becoming holes.
	Preallocate bool
	// ReadHoles reads what the source calls zeroes.
	ReadHoles bool
	// Retries is how often a read, a write or a request for zeroes that failed with dataplane.ErrIO is done again, after
	// a pause that doubles from 100 ms.
	Retries int
	// Unreadable, if not nil, takes the ranges of the source that cannot be read, and the copy goes on: they are zeroes on the
	// target, their chunks are not recorded as verified, and Copy returns ErrUnreadable in the end. nil: the first one
	// ends the copy.
	Unreadable *ErrorMap
	// Unread, if not nil, is what an earlier copy to this target left out: the target holds what the source held everywhere
	// else, and keeps it where the source cannot be read any more. Such a block counts as read. It goes with Unreadable, is
	// another map than that, and is only read.
	Unread *ErrorMap
	// Limiter, if not nil, is asked before each chunk is read.
	Limiter Limiter
	// Progress, if not nil, is kept up to date.
	Progress *Progress
	// Logger, if not nil, is told of chunks that differed and of what was tried again.
	Logger    *slog.Logger
	Observers Observers

	// batch is how many chunks of data make a batch; tests make it small.
	batch int64
	// doubted says that the target gave back wrong bytes: what it keeps counts as not read.
	doubted bool
}

// complete checks the configuration and fills in the defaults: ErrInvalid.
func (c Config) complete() (Config, error) {
	if err := c.Geometry.Validate(); err != nil {
		return c, err
	}
	if err := c.check(); err != nil {
		return c, err
	}
	if c.InFlight == 0 {
		c.InFlight = DefaultInFlight
	}
	if v, ok := c.Verifier.(deviceVerifier); ok {
		c.Verifier = v.within(c.InFlight - copyShare(c.InFlight))
	}
	if c.batch == 0 {
		c.batch = max(batchBytes/c.ChunkSize, 1)
	}
	if c.Progress == nil {
		c.Progress = new(Progress)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

func (c Config) check() error {
	switch {
	case c.Checkpoint != nil && c.Checkpoint.header.Geometry != c.Geometry:
		return fmt.Errorf("checkpoint is for %+v, not %+v: %w", c.Checkpoint.header.Geometry, c.Geometry, ErrInvalid)
	case c.Since != nil && c.Since.header.Geometry != c.Geometry:
		return fmt.Errorf("manifest is for %+v, not %+v: %w", c.Since.header.Geometry, c.Geometry, ErrInvalid)
	case c.NoDigests && (c.Verifier != nil || c.Checkpoint != nil || c.Since != nil):
		return fmt.Errorf("no digests for a verifier, a checkpoint or a manifest: %w", ErrInvalid)
	case c.Compare && c.Verifier == nil:
		return fmt.Errorf("no verifier to compare with: %w", ErrInvalid)
	case c.Since != nil && c.TargetIsZero:
		return fmt.Errorf("a target of zeroes and a manifest of what it holds: %w", ErrInvalid)
	case c.Workers < 0 || c.Workers > MaxWorkers:
		return fmt.Errorf("%d workers: %w", c.Workers, ErrInvalid)
	case c.InFlight < 0:
		return fmt.Errorf("%d bytes in flight: %w", c.InFlight, ErrInvalid)
	case c.RequestSize < 0 || c.RequestSize > c.ChunkSize || c.RequestSize%MinChunkSize != 0:
		return fmt.Errorf("requests of %d bytes with chunks of %d: %w", c.RequestSize, c.ChunkSize, ErrInvalid)
	case c.Retries < 0 || c.Retries > MaxRetries:
		return fmt.Errorf("%d retries: %w", c.Retries, ErrInvalid)
	}
	return nil
}

// appendChunks is how many chunks of data are recorded with one append, unless the copy is slow.
func appendChunks(g Geometry) int64 { return recordBatches * max(batchBytes/g.ChunkSize, 1) }

// observe tells o how long it is since start.
func observe(o Observer, start time.Time) {
	if o != nil {
		o.Observe(time.Since(start).Seconds())
	}
}
