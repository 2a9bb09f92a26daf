package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

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
	room           int64            // of the target
	class          transfer.Class   // what reading back proves
}

// open opens both ends, as openEnds does, or leaves them behind: who opens what is being closed waits for that.
func (r *copyRun) open(ctx context.Context) (*copyEnds, error) {
	var opened *copyEnds
	err := r.bounded(ctx, func() (err error) {
		opened, err = r.openEnds(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return opened, nil
}

// openEnds opens both ends, and makes the target if it has to. A target that is too short is left so: see grow.
func (p *copyJob) openEnds(ctx context.Context) (e *copyEnds, err error) {
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
		e.target, e.room = nullDevice{size: e.size}, e.size
		return e, nil
	}
	if err = e.makeTarget(p); err != nil {
		return e, err
	}
	if err = e.openTarget(ctx, p); err != nil {
		return e, err
	}
	if same(e.source, e.target) || p.sourceName == p.targetName {
		return e, errSameDevice
	}
	return e, e.checkRoom(p)
}

// openTarget opens the target, and makes sure that a server can do what is promised.
func (e *copyEnds) openTarget(ctx context.Context, p *copyJob) (err error) {
	if e.target, err = p.device(ctx, p.targetName, dataplane.Mode{Direct: p.direct}); err != nil {
		return err
	}
	if e.room, err = e.target.Size(); err != nil {
		return err
	}
	if p.verify == verifyNone {
		e.target = unflushed{e.target}
	}
	if e.target.Info().Path != "" {
		return nil
	}
	if err := e.target.Sync(); errors.Is(err, dataplane.ErrNotSupported) {
		return &hintedError{err, "what is written there is never known to be durable: --verify none copies all the same"}
	}
	return nil // another error comes again with the copy's first flush, which knows what to do
}

// checkRoom refuses a target that is too small and cannot grow.
func (e *copyEnds) checkRoom(p *copyJob) error {
	switch {
	case e.room >= e.size || e.made:
		return nil
	case !isFile(e.target):
		return refusal("the source has %s, the target only %s", exactSize(e.size), exactSize(e.room))
	case p.since != "":
		return refusal("the source has %s, the target only %s: it cannot hold what --since says", exactSize(e.size), exactSize(e.room))
	}
	return nil
}

// isFile says that the device is a local file.
func isFile(d dataplane.Device) bool {
	info, err := os.Stat(d.Info().Path)
	return err == nil && info.Mode().IsRegular()
}

// grow gives a target file that is too short the source's size; it is locked meanwhile. What is new reads as zeroes.
func (e *copyEnds) grow(ctx context.Context, p *copyJob) error {
	if e.room >= e.size {
		return nil
	}
	if err := os.Truncate(p.targetName, e.size); err != nil {
		return err
	}
	err := e.target.Close()
	e.target = nil
	if err != nil {
		return err
	}
	return e.openTarget(ctx, p)
}

// openMedium opens a local target once more, to read what its medium holds; it reads a block, to see whether that works.
func (r *copyRun) openMedium(ctx context.Context) error {
	if r.verify != verifyReadback || isURI(r.targetName) || r.targetName == nullName {
		return nil
	}
	var medium dataplane.Device
	err := r.bounded(ctx, func() (err error) {
		medium, err = r.device(ctx, r.targetName, dataplane.Mode{ReadOnly: true, Medium: true})
		return err
	})
	if err != nil {
		return err
	}
	r.ends.medium, r.ends.class = medium, transfer.Cached
	if medium.Info().Medium {
		r.ends.class = transfer.DeviceDirect
	}
	return nil
}

func (p *copyJob) device(ctx context.Context, name string, mode dataplane.Mode) (dataplane.Device, error) {
	return drivers.OpenURI(ctx, name, mode, drivers.URIOptions{
		Connections: p.connections, Reconnect: p.reconnect, Timeout: p.timeout,
	})
}

// makeTarget makes a target file that is not there, empty.
func (e *copyEnds) makeTarget(p *copyJob) error {
	if isURI(p.targetName) {
		return nil
	}
	if _, err := os.Lstat(p.targetName); !errors.Is(err, os.ErrNotExist) {
		return nil // what it is shows when it is opened
	}
	if err := p.mustBeThere(); err != nil {
		return err
	}
	if err := makeFile(p.targetName, modeLike(p.sourceName)); err != nil {
		return fmt.Errorf("make target: %w", err)
	}
	e.made = true
	return nil
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

// close closes all of them at once: none waits for another one that hangs. Before they are open there are none.
func (e *copyEnds) close() error {
	if e == nil {
		return nil
	}
	var closing sync.WaitGroup
	var errs [3]error
	for i, d := range []*dataplane.Device{&e.medium, &e.target, &e.source} {
		if *d == nil {
			continue
		}
		closing.Go(func() {
			errs[i] = (*d).Close()
			*d = nil
		})
	}
	closing.Wait()
	return errors.Join(errs[:]...)
}

// discard removes a target that was made for nothing.
func (e *copyEnds) discard(path string) error {
	if !e.made {
		return nil
	}
	e.made = false
	return os.Remove(path)
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

// unflushed is a target of a copy that promises nothing, on a server that cannot flush.
type unflushed struct{ dataplane.Device }

func (u unflushed) Sync() error {
	if err := u.Device.Sync(); !errors.Is(err, dataplane.ErrNotSupported) {
		return err
	}
	return nil
}
