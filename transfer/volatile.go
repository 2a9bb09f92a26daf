package transfer

import (
	"errors"
	"fmt"
	"os"
)

// NewVolatileCheckpoint makes a checkpoint for a copy that nobody resumes: it keeps the digests, for a root and a manifest,
// in a file of the directory without a name (empty: os.TempDir), which is gone when it is closed. Nothing is flushed.
func NewVolatileCheckpoint(dir string, h CheckpointHeader) (*Checkpoint, error) {
	if err := h.Validate(); err != nil {
		return nil, fmt.Errorf("create checkpoint: %w", err)
	}
	f, err := os.CreateTemp(dir, "cvol-digests-*")
	if err != nil {
		return nil, fmt.Errorf("create checkpoint: %w", err)
	}
	page, crc := h.encode()
	_, err = f.Write(page)
	if err = errors.Join(err, os.Remove(f.Name())); err != nil {
		return nil, errors.Join(fmt.Errorf("create checkpoint: %w", err), f.Close())
	}
	c := newCheckpoint(f, h, crc)
	c.sync = func(*os.File) error { return nil }
	return c, nil
}
