package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/file"
	"github.com/cvold/cvold/transfer"
)

const (
	// ddUnit in bytes: what transfer.Copy copies is a multiple of it.
	ddUnit = 512
	// ddGrowPiece in bytes is how much is allocated by one call, so that a signal is heeded in between.
	ddGrowPiece = 1 << 30
)

// copy does what the command line says. The target is open, and nothing is in it yet.
func (j *ddJob) copy(ctx context.Context) error {
	if err := j.truncate(); err != nil {
		return err
	}
	if err := j.copyLength(ctx); err != nil {
		return errors.Join(err, j.cut())
	}
	j.finished.Store(true)
	if j.target.file != nil && (j.dataSync || j.fullSync) {
		if err := j.target.file.Sync(); err != nil {
			return &ddError{"fsync failed for", j.target.name, err}
		}
	}
	if j.length < j.wanted {
		what := "writing to"
		if j.oneBuffer {
			what = "error writing"
		}
		return &ddError{what, j.target.name, unix.ENOSPC}
	}
	return nil
}

// truncate ends a file where the copy begins, unless open has done so.
func (j *ddJob) truncate() error {
	t := &j.target
	if t.kind != ddFile {
		return nil
	}
	info, err := t.file.Stat()
	if err == nil {
		j.sizeBefore = info.Size()
		if !j.noTruncate && j.sizeBefore != j.seek {
			j.sizeBefore = j.seek
			err = t.file.Truncate(j.seek)
		}
	}
	if err != nil {
		return &ddError{fmt.Sprintf("failed to truncate to %d bytes in output file", j.seek), t.name, err}
	}
	return nil
}

// cut ends a file that was grown, and did not get all that it was grown for, where the copied bytes end, as dd leaves it.
func (j *ddJob) cut() error {
	if !j.grown {
		return nil
	}
	if err := j.target.file.Truncate(max(j.sizeBefore, j.seek+j.copied())); err != nil {
		return &ddError{"failed to truncate output file", j.target.name, err}
	}
	return nil
}

// grow gives a file its size before it is written: all can be written at once then, and without conv=sparse the space
// is there. Where a file system cannot allocate it makes a hole of it, and what is written allocates.
func (j *ddJob) grow(ctx context.Context) error {
	f, end := j.target.file, j.seek+j.length
	j.grown = end > j.sizeBefore
	for off := j.seek; off < end && !j.sparse; off += ddGrowPiece {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := allocate(f, off, min(ddGrowPiece, end-off))
		if errors.Is(err, errors.ErrUnsupported) {
			break
		}
		if err != nil {
			return &ddError{"error writing", j.target.name, err}
		}
	}
	info, err := f.Stat()
	if err == nil && info.Size() < end {
		err = f.Truncate(end)
	}
	if err != nil {
		return &ddError{"error writing", j.target.name, err}
	}
	return nil
}

func allocate(f *os.File, off, n int64) error {
	for {
		if err := unix.Fallocate(int(f.Fd()), 0, off, n); err != unix.EINTR {
			return err
		}
	}
}

// copyLength copies j.length bytes, and returns when the target's medium has given them back.
func (j *ddJob) copyLength(ctx context.Context) error {
	if j.length == 0 {
		return nil
	}
	if j.target.kind == ddFile {
		if err := j.grow(ctx); err != nil {
			return err
		}
	}
	target, medium, err := j.targetDevices(ctx)
	if err != nil {
		return &ddError{"failed to open", j.target.name, err}
	}
	if medium != target {
		defer medium.Close()
	}
	source, unit := j.source.device, max(ddUnit, j.source.block(), j.target.block())
	if j.outputFlags&unix.O_DIRECT != 0 {
		unit = max(unit, ddDirectBlock)
	}
	body := j.length / unit * unit
	from := j.skip
	if j.source.kind == ddZero {
		from = 0
	}
	err = ddCopy(ctx, ddWindow{source, from, body},
		ddTarget{ddWindow{target, j.seek, body}, j.zeroes(), j.outputFlags&unix.O_DIRECT != 0},
		ddWindow{medium, j.seek, body}, body, &j.progress)
	if err == nil {
		err = j.copyTail(source, target, medium, from+body, j.seek+body, j.length-body)
	}
	return j.explain(err)
}

// targetDevices are the devices through which the target is written and read back. They are one of an NBD export.
func (j *ddJob) targetDevices(ctx context.Context) (target, medium dataplane.Device, err error) {
	t := &j.target
	if t.kind == ddFile {
		device, err := file.FromFile(t.file, dataplane.Mode{})
		if err != nil {
			return nil, nil, err
		}
		t.open(device)
	}
	target = t.device
	if j.wrap != nil {
		target = j.wrap(target)
	}
	if t.kind == ddExport {
		return target, target, nil
	}
	// By the descriptor: the name may have become another file's.
	medium, err = file.OpenPath(ctx, fmt.Sprintf("/proc/self/fd/%d", t.file.Fd()), dataplane.Mode{Medium: true})
	return target, medium, err
}

// zeroes says how zeroes get onto the target. A wipe keeps the space, and in a file that has old data it overwrites
// these: a file system that is asked for zeroes forgets the old blocks, and does not clear them.
func (j *ddJob) zeroes() ddZeroes {
	old := j.target.kind != ddFile || j.sizeBefore > j.seek
	switch {
	case j.source.kind == ddZero && old && j.target.kind == ddFile:
		return ddOverwrite
	case j.source.kind == ddZero && old, !j.sparse:
		return ddAllocate
	}
	return ddUnmap
}

// ddCopy makes the first size bytes of target those of source, verified by what medium gives back.
func ddCopy(ctx context.Context, source, target, medium dataplane.Device, size int64, p *transfer.Progress) error {
	g := transfer.NewGeometry(size)
	return transfer.Copy(ctx, source, target, transfer.Config{
		Geometry: g, Verifier: transfer.NewVerifier(medium, g), Progress: p,
	})
}

// errDiffers: the target gives back other bytes than were written.
var errDiffers = errors.New("it gives back other bytes than were written")

// copyTail copies the n bytes after the last whole unit, less than one, and reads them back. On a target with larger
// blocks the rest of the block stays as it is.
func (j *ddJob) copyTail(source, target, medium dataplane.Device, from, to, n int64) error {
	if n == 0 {
		return nil
	}
	p, err := ddReadBlocks(source, from, n, j.source.block())
	if err != nil {
		return &ddError{"error reading", j.source.name, err}
	}
	if err := j.endDirect(); err != nil {
		return &ddError{"error writing", j.target.name, err}
	}
	block, err := ddReadBlocks(medium, to, n, j.target.block())
	if err != nil {
		return &ddError{"error reading", j.target.name, err}
	}
	copy(block, p[:n])
	if _, err := target.WriteAt(block, to); err != nil {
		return &ddError{"error writing", j.target.name, err}
	}
	if err := target.Sync(); err != nil {
		return &ddError{"fdatasync failed for", j.target.name, err}
	}
	back, err := ddReadBlocks(medium, to, n, j.target.block())
	if err == nil && !bytes.Equal(back[:n], p[:n]) {
		err = errDiffers
	}
	if err != nil {
		return &ddError{"error verifying", j.target.name, err}
	}
	j.tail.Store(n)
	return nil
}

// ddReadBlocks reads n bytes, and what follows them in their last block.
func ddReadBlocks(d dataplane.Device, off, n, block int64) ([]byte, error) {
	p := make([]byte, (n+block-1)/block*block)
	_, err := d.ReadAt(p, off)
	return p, err
}

// endDirect ends direct I/O on the target, as dd does before a write that is no whole block.
func (j *ddJob) endDirect() error {
	if j.target.file == nil || j.outputFlags&unix.O_DIRECT == 0 {
		return nil
	}
	fd := j.target.file.Fd()
	flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
	if err == nil {
		_, err = unix.FcntlInt(fd, unix.F_SETFL, flags&^unix.O_DIRECT)
	}
	return err
}

// explain makes an error of ddCopy one of dd's.
func (j *ddJob) explain(err error) error {
	var told *ddError
	var device *transfer.DeviceError
	switch {
	case err == nil, errors.As(err, &told), errors.Is(err, context.Canceled):
		return err
	case !errors.As(err, &device):
		return &ddError{"error verifying", j.target.name, err}
	case device.Device == "source":
		return &ddError{"error reading", j.source.name, err}
	}
	switch device.Op {
	case "flush":
		return &ddError{"fdatasync failed for", j.target.name, err}
	case "write", "zero":
		return &ddError{"error writing", j.target.name, err}
	}
	return &ddError{"error verifying", j.target.name, err}
}

// copied is how much is verified so far, in bytes.
func (j *ddJob) copied() int64 { return j.progress.Snapshot().VerifiedBytes + j.tail.Load() }

// counts are what dd would have read and written by now.
func (j *ddJob) counts() ddCount {
	n := j.copied()
	c := ddCount{read: n, written: n, counted: n, ibs: j.ibs, obs: j.obs}
	if j.finished.Load() && j.length < j.wanted {
		// The target is full: dd has read the records up to the one of which nothing, or not all, could be written.
		c.read = (j.length/j.obs + 1) * j.obs
		if rest := c.read % j.ibs; rest > 0 {
			c.read += min(j.ibs-rest, math.MaxInt64-c.read)
		}
		c.read = min(c.read, j.wanted)
		if j.oneBuffer { // where dd does not count the record that was cut
			c.counted -= c.counted % j.obs
		}
	}
	return c
}
