package transfer

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/internal/durable"
)

// OpenCheckpoint opens a checkpoint to go on. An append that was interrupted is cut off, with all that follows it;
// damage that an interruption cannot explain is ErrCorrupt. The caller closes it. ErrVersion, ErrInUse, os.ErrNotExist;
// unix.ENOSPC if the room for the rest cannot be reserved.
func OpenCheckpoint(path string) (*Checkpoint, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open checkpoint: %w", err)
	}
	c, err := openCheckpoint(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open checkpoint %s: %w", path, err), f.Close())
	}
	return c, nil
}

func openCheckpoint(f *os.File) (*Checkpoint, error) {
	if err := lock(f); err != nil {
		return nil, err
	}
	page := make([]byte, checkpointHeadSize)
	if _, err := f.ReadAt(page, 0); err == io.EOF {
		return nil, fmt.Errorf("checkpoint header is cut short: %w", ErrCorrupt)
	} else if err != nil {
		return nil, err
	}
	h, crc, err := decodeCheckpointHeader(page)
	if err != nil {
		return nil, err
	}
	c := newCheckpoint(f, h, crc)
	last, err := c.load()
	if err != nil {
		return nil, err
	}
	return c, c.settle(last)
}

// load reads all whole appends and returns the offset of the last one.
func (c *Checkpoint) load() (last int64, err error) {
	last = c.end
	for {
		sequence, records, err := c.log.read(c.file, c.end)
		if err == io.EOF {
			return last, nil
		}
		if err == nil && sequence != c.sequence {
			err = errBroken
		}
		if err == errBroken {
			return last, c.judge()
		}
		if err != nil {
			return 0, err
		}
		last = c.end
		if err := c.note(records); err != nil {
			return 0, err
		}
	}
}

// judge decides on what is no whole append: nil if it may be cut off.
func (c *Checkpoint) judge() error {
	later, err := c.log.hasLater(c.file, c.end, c.sequence)
	if err == nil && later {
		err = fmt.Errorf("append %d at %d is damaged: %w", c.sequence, c.end, ErrCorrupt)
	}
	return err
}

// settle makes true on the medium what load believed. What follows the last whole append is cut off, durably, so that it
// can never follow the next one. The last append is written once more: if its flush failed, or never came because the
// process was killed, then the page cache may show bytes that the medium does not have.
func (c *Checkpoint) settle(last int64) error {
	if err := c.file.Truncate(c.end); err != nil {
		return err
	}
	p := make([]byte, c.end-last)
	if _, err := c.file.ReadAt(p, last); err != nil {
		return err
	}
	if _, err := c.file.WriteAt(p, last); err != nil {
		return err
	}
	if err := c.file.Sync(); err != nil {
		return err
	}
	if c.Complete() {
		return nil
	}
	return durable.Preallocate(c.file, checkpointRoom(c.header.Geometry)+manifestRoom(c.header.Geometry))
}

// lock keeps a second process from going on with the same transfer.
func lock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		return ErrInUse
	}
	return os.NewSyscallError("flock", err)
}
