package transfer

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/cvold/cvold/internal/durable"
)

// Checkpoint is the durable record of what a transfer has verified: which chunks, and their digests. It is a log that
// only grows; docs/STORAGE.md describes the file. In memory it holds the verified stretches of chunks, never their
// digests. Safe for concurrent use.
type Checkpoint struct {
	header CheckpointHeader
	log    appendLog
	file   *os.File
	sync   func(*os.File) error

	mu       sync.Mutex
	end      int64 // of the last whole append
	sequence uint64
	verified intervals
	failed   error // of the first append that failed, or os.ErrClosed
}

// CreateCheckpoint makes an empty checkpoint, in place of any file that is there. When it returns the file is durable,
// and room is reserved for all that a copy will append to it and for the manifest made from it; where the file system
// has no such room the error is unix.ENOSPC. The caller closes it.
func CreateCheckpoint(path string, h CheckpointHeader) (*Checkpoint, error) {
	if err := h.Validate(); err != nil {
		return nil, fmt.Errorf("create checkpoint: %w", err)
	}
	page, crc := h.encode()
	f, err := durable.Replace(path, 0o600, func(f *os.File) error {
		if _, err := f.Write(page); err != nil {
			return err
		}
		if err := lock(f); err != nil {
			return err
		}
		return durable.Preallocate(f, checkpointRoom(h.Geometry)+manifestRoom(h.Geometry))
	})
	if err != nil {
		return nil, fmt.Errorf("create checkpoint: %w", err)
	}
	return newCheckpoint(f, h, crc), nil
}

func newCheckpoint(f *os.File, h CheckpointHeader, crc uint32) *Checkpoint {
	return &Checkpoint{
		header: h,
		log:    appendLog{geometry: h.Geometry, headCRC: crc},
		file:   f,
		sync:   durable.SyncData,
		end:    checkpointHeadSize,
	}
}

// note takes the records of the append at c.end into the index and steps past it.
func (c *Checkpoint) note(records []byte) error {
	var grown []interval
	last := int64(0)
	offset, next := c.end, c.end+int64(padded(len(records)))
	err := c.log.each(records, func(r record) error {
		first, end := r.run.First, r.run.End()
		if first < last {
			return fmt.Errorf("chunk %d after chunk %d: %w", first, last, ErrCorrupt)
		}
		last = end
		if r.kind == kindUnverified {
			c.verified = c.verified.remove(first, end)
			return nil
		}
		if i := len(grown) - 1; i >= 0 && grown[i].end == first {
			grown[i].end = end
			return nil
		}
		grown = append(grown, interval{first: first, end: end, offset: offset, next: next})
		return nil
	})
	if err != nil {
		return fmt.Errorf("append %d at %d: %w", c.sequence, c.end, err)
	}
	for _, v := range grown {
		v.alone = len(grown) == 1
		c.verified = c.verified.insert(v)
	}
	c.end = next
	c.sequence++
	return nil
}

// Header is what the checkpoint is about.
func (c *Checkpoint) Header() CheckpointHeader { return c.header }

// Append records chunks as verified, with their digests; what was known of the same chunks before counts no more. Runs
// are in ascending order and may leave gaps: ErrOrder; at most MaxAppendDigests digests: ErrTooLarge. When it returns
// nil the runs are durable, all of them; after a crash before that, all or none. An error in writing is sticky: every
// later Append returns it, and the checkpoint must be opened anew.
func (c *Checkpoint) Append(runs []Run) error {
	records, err := c.encode(runs)
	if err != nil {
		return fmt.Errorf("append to checkpoint: %w", err)
	}
	return c.write(records)
}

// Invalidate records, with Append's durability and errors, that count chunks from first are not verified, whatever was
// appended before: call it before a write to them is answered.
func (c *Checkpoint) Invalidate(first, count int64) error {
	if err := c.header.check(first, count); err != nil {
		return fmt.Errorf("invalidate checkpoint: %w", err)
	}
	if count == 0 {
		return nil
	}
	return c.write(appendRawRecord(nil, kindUnverified, first, count, nil))
}

// encode makes canonical records of the runs.
func (c *Checkpoint) encode(runs []Run) ([]byte, error) {
	var records []byte
	digests := 0
	cut := newCanonical(c.header.Geometry, func(r Run) error {
		records = appendRecord(records, r, c.header.Algorithm)
		return nil
	})
	for _, r := range runs {
		if err := c.header.check(r.First, r.Count); err != nil {
			return nil, err
		}
		if digests += len(r.Digests); digests > MaxAppendDigests || len(records) > maxAppendBytes {
			return nil, fmt.Errorf("more than %d digests: %w", MaxAppendDigests, ErrTooLarge)
		}
		if err := cut.add(r); err != nil {
			return nil, err
		}
	}
	if err := cut.finish(); err != nil {
		return nil, err
	}
	if len(records) > maxAppendBytes {
		return nil, fmt.Errorf("records of %d bytes: %w", len(records), ErrTooLarge)
	}
	return records, nil
}

// write appends the records with one flush.
func (c *Checkpoint) write(records []byte) error {
	if len(records) == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil {
		return c.failed
	}
	if _, err := c.file.WriteAt(c.log.encode(c.sequence, records), c.end); err != nil {
		c.failed = fmt.Errorf("append to checkpoint: %w", err)
		return c.failed
	}
	if err := c.sync(c.file); err != nil {
		c.failed = fmt.Errorf("append to checkpoint: %w", err)
		return c.failed
	}
	return c.note(records)
}

// Verified says whether the chunk is verified.
func (c *Checkpoint) Verified(chunk int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.verified.contains(chunk)
}

// VerifiedBytes is the number of bytes in verified chunks.
func (c *Checkpoint) VerifiedBytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.verified.bytes(c.header.Geometry)
}

// Complete says whether all chunks are verified.
func (c *Checkpoint) Complete() bool {
	first, end := c.gap(0)
	return first == end
}

// gap is the first stretch of chunks at or after chunk that is not verified; first == end: there is none.
func (c *Checkpoint) gap(chunk int64) (first, end int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.verified.gap(chunk, c.header.Chunks())
}

// Runs calls fn for the verified chunks in ascending order, as they were when it was called. A run's digests are valid
// until fn returns. It returns the first error of fn as it is; ErrCorrupt if the file has been damaged since.
func (c *Checkpoint) Runs(fn func(Run) error) error {
	c.mu.Lock()
	verified := slices.Clone(c.verified)
	c.mu.Unlock()
	for _, v := range verified {
		if err := c.runs(v, fn); err != nil {
			return err
		}
	}
	return nil
}

// verifiedFrom is the first stretch of verified chunks at or after chunk, at most most long and inside one interval; count 0:
// there is none.
func (c *Checkpoint) verifiedFrom(chunk, most int64) (first, count int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.verified.search(chunk)
	if i == len(c.verified) {
		return chunk, 0
	}
	first = max(chunk, c.verified[i].first)
	return first, min(c.verified[i].end-first, most)
}

// runsIn is Runs for the chunks from first to end, which lie in one interval.
func (c *Checkpoint) runsIn(first, end int64, fn func(Run) error) error {
	c.mu.Lock()
	i := c.verified.search(first)
	v := c.verified[i]
	c.mu.Unlock()
	v.first, v.end = first, end
	return c.runs(v, fn)
}

// runs reads the records of one interval. Each chunk of it is found once, for appends are in ascending order inside.
func (c *Checkpoint) runs(v interval, fn func(Run) error) error {
	for off := v.offset; off < v.next; {
		_, records, err := c.log.read(c.file, off)
		if err == io.EOF || err == errBroken {
			err = fmt.Errorf("append at %d: %w: %w", off, ErrCorrupt, err)
		}
		if err != nil {
			return fmt.Errorf("read checkpoint: %w", err)
		}
		err = c.log.each(records, func(r record) error {
			run, ok := r.run.clip(v.first, v.end)
			if !ok || r.kind == kindUnverified {
				return nil
			}
			return fn(run)
		})
		if err != nil {
			return err
		}
		off += int64(padded(len(records)))
	}
	return nil
}

// Root is the root of all chunks: ErrIncomplete before all are verified.
func (c *Checkpoint) Root() (Root, error) {
	h := NewRootHash(c.header.Geometry)
	if !c.Complete() {
		return h.Sum()
	}
	if err := c.Runs(h.Add); err != nil {
		return Root{}, err
	}
	return h.Sum()
}

// size is the length of the file up to the end of the last append, in bytes.
func (c *Checkpoint) size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end
}

// releaseRoom gives reserved room back to the file system.
func (c *Checkpoint) releaseRoom() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil {
		return c.failed
	}
	return c.file.Truncate(c.end)
}

// Close closes the file, which stays. A second Close and every later Append is os.ErrClosed.
func (c *Checkpoint) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(c.failed, os.ErrClosed) {
		return os.ErrClosed
	}
	c.failed = os.ErrClosed
	return c.file.Close()
}
