package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/drivers"
	"github.com/cvold/cvold/transfer"
)

const (
	// nullName is a TARGET that forgets, streamName standard input or output, as nbdcopy has them.
	nullName   = "null:"
	streamName = "-"
)

func isStream(name string) bool { return name == streamName }

// isURI says that the name is no path.
func isURI(name string) bool {
	scheme, _, found := strings.Cut(name, "://")
	return found && !strings.Contains(scheme, "/")
}

// copyEnds are the two devices of a copy, and what reads the target back.
type copyEnds struct {
	source, target dataplane.Device
	medium         dataplane.Device // nil: the target itself
	made           bool             // the target file was not there before
	size           int64            // of the source
	class          transfer.Class   // what reading back proves
}

// open opens both ends, and makes the target if it has to.
func (p *copyJob) open(ctx context.Context) (e *copyEnds, err error) {
	e = &copyEnds{class: transfer.ServerReadback}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close(), e.discard(p.targetName))
		}
	}()
	if e.source, err = p.device(ctx, p.sourceName, dataplane.Mode{ReadOnly: true, Direct: p.direct}); err != nil {
		return e, err
	}
	if e.size, err = e.source.Size(); err != nil {
		return e, err
	}
	if p.targetName == nullName {
		e.target = nullDevice{size: e.size}
		return e, nil
	}
	if err = e.makeTarget(p); err != nil {
		return e, err
	}
	if e.target, err = p.device(ctx, p.targetName, dataplane.Mode{Direct: p.direct}); err != nil {
		return e, err
	}
	if same(e.source, e.target) || p.sourceName == p.targetName {
		return e, errSameDevice
	}
	if p.verify != verifyReadback {
		return e, nil
	}
	return e, e.openMedium(ctx, p)
}

// openMedium opens a local target once more, to read what its medium holds.
func (e *copyEnds) openMedium(ctx context.Context, p *copyJob) (err error) {
	if isURI(p.targetName) {
		return nil
	}
	if e.medium, err = p.device(ctx, p.targetName, dataplane.Mode{ReadOnly: true, Medium: true}); err != nil {
		return err
	}
	e.class = transfer.Cached
	if e.medium.Info().Medium {
		e.class = transfer.DeviceDirect
	}
	return nil
}

func (p *copyJob) device(ctx context.Context, name string, mode dataplane.Mode) (dataplane.Device, error) {
	return drivers.OpenURI(ctx, name, mode, drivers.URIOptions{
		Connections: p.connections, Reconnect: p.reconnect, Timeout: p.timeout,
	})
}

// makeTarget makes a target file that is not there, and gives one that is too short the source's size.
func (e *copyEnds) makeTarget(p *copyJob) error {
	if isURI(p.targetName) {
		return nil
	}
	f, err := os.OpenFile(p.targetName, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, os.ErrExist) {
		return e.growTarget(p.targetName)
	}
	if err != nil {
		return fmt.Errorf("make %s: %w", p.targetName, err)
	}
	e.made = true
	return errors.Join(f.Truncate(e.size), f.Close())
}

// growTarget: a regular file ends in zeroes where the source is longer; a device says in the end that it is too small.
func (e *copyEnds) growTarget(path string) error {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() >= e.size {
		return err
	}
	return os.Truncate(path, e.size)
}

// verifier reads the target back.
func (e *copyEnds) verifier(p *copyJob, g transfer.Geometry) transfer.Verifier {
	switch {
	case p.verify != verifyReadback || p.targetName == nullName:
		return nil
	case e.medium != nil:
		return transfer.NewVerifier(e.medium, g)
	}
	return transfer.NewVerifier(e.target, g)
}

func (e *copyEnds) close() (err error) {
	for _, d := range []*dataplane.Device{&e.medium, &e.target, &e.source} {
		if *d != nil {
			err = errors.Join(err, (*d).Close())
			*d = nil
		}
	}
	return err
}

// discard removes a target that was made for nothing.
func (e *copyEnds) discard(path string) error {
	if !e.made {
		return nil
	}
	e.made = false
	return os.Remove(path)
}

// same says that both devices are one local file or block device.
func same(a, b dataplane.Device) bool {
	var x, y unix.Stat_t
	if a.Info().Path == "" || b.Info().Path == "" || unix.Stat(a.Info().Path, &x) != nil || unix.Stat(b.Info().Path, &y) != nil {
		return false
	}
	if x.Mode&unix.S_IFMT == unix.S_IFBLK && y.Mode&unix.S_IFMT == unix.S_IFBLK {
		return x.Rdev == y.Rdev
	}
	return x.Dev == y.Dev && x.Ino == y.Ino
}

// nullDevice forgets what is written to it.
type nullDevice struct{ size int64 }

func (nullDevice) ReadAt([]byte, int64) (int, error)             { return 0, dataplane.ErrNotSupported }
func (nullDevice) WriteAt(p []byte, _ int64) (int, error)        { return len(p), nil }
func (nullDevice) Sync() error                                   { return nil }
func (d nullDevice) Size() (int64, error)                        { return d.size, nil }
func (nullDevice) ZeroAt(int64, int64, dataplane.ZeroMode) error { return nil }
func (nullDevice) Discard(int64, int64) error                    { return nil }
func (nullDevice) Info() dataplane.Info                          { return dataplane.Info{MinBlock: 1, PreferredBlock: 1} }
func (nullDevice) Close() error                                  { return nil }
func (nullDevice) Extents(ctx context.Context, off, n int64, fn func(dataplane.Extent) error) error {
	return dataplane.AllData(ctx, off, n, fn)
}
