package nbd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/cvold/cvold/dataplane"
	"github.com/pojntfx/go-nbd/pkg/backend"
)

// FromBackend makes a device of a backend that was made for go-nbd: ranges are checked before the backend sees them,
// zeroes are written, everything is data, and a panic of the backend is ErrIO. A dataplane.Device is returned as it is.
// Close waits for the calls under way; a backend has no way to end them.
func FromBackend(b backend.Backend) dataplane.Device {
	if device, ok := b.(dataplane.Device); ok {
		return device
	}
	return &backendDevice{backend: b}
}

type backendDevice struct {
	backend backend.Backend
	gate    gate
}

func (d *backendDevice) ReadAt(p []byte, off int64) (int, error) {
	return d.transfer("ReadAt", p, off, d.backend.ReadAt)
}

func (d *backendDevice) WriteAt(p []byte, off int64) (int, error) {
	return d.transfer("WriteAt", p, off, d.backend.WriteAt)
}

// transfer checks the range and calls do. A backend may read as an io.ReaderAt does, with io.EOF beside a full read.
func (d *backendDevice) transfer(name string, p []byte, off int64, do func([]byte, int64) (int, error)) (n int, err error) {
	if !d.gate.enter() {
		return 0, dataplane.ErrClosed
	}
	defer d.gate.leave()
	if err := d.check(off, int64(len(p))); err != nil || len(p) == 0 {
		return 0, err
	}
	err = guard(name, func() error {
		n, err = do(p, off)
		return err
	})
	if n == len(p) && errors.Is(err, io.EOF) {
		err = nil
	}
	if n != len(p) && err == nil || errors.Is(err, io.EOF) {
		err = fmt.Errorf("%s moved %d of %d bytes: %w", name, n, len(p), dataplane.ErrIO)
	}
	return n, err
}

func (d *backendDevice) check(off, n int64) error {
	size, err := d.size()
	if err != nil {
		return err
	}
	return dataplane.CheckRange(off, n, size, 1)
}

func (d *backendDevice) size() (size int64, err error) {
	err = guard("Size", func() error {
		size, err = d.backend.Size()
		return err
	})
	return size, err
}

func (d *backendDevice) Size() (int64, error) {
	if !d.gate.enter() {
		return 0, dataplane.ErrClosed
	}
	defer d.gate.leave()
	return d.size()
}

func (d *backendDevice) Sync() error {
	if !d.gate.enter() {
		return dataplane.ErrClosed
	}
	defer d.gate.leave()
	return guard("Sync", d.backend.Sync)
}

func (d *backendDevice) ZeroAt(off, n int64, mode dataplane.ZeroMode) error {
	if !d.gate.enter() {
		return dataplane.ErrClosed
	}
	defer d.gate.leave()
	if err := d.check(off, n); err != nil {
		return err
	}
	return dataplane.WriteZeroes(d.WriteAt, off, n, 0, mode)
}

// Discard does nothing: a backend cannot.
func (d *backendDevice) Discard(off, n int64) error {
	if !d.gate.enter() {
		return dataplane.ErrClosed
	}
	defer d.gate.leave()
	return d.check(off, n)
}

func (d *backendDevice) Extents(ctx context.Context, off, n int64, fn func(dataplane.Extent) error) error {
	if !d.gate.enter() {
		return dataplane.ErrClosed
	}
	defer d.gate.leave()
	if err := d.check(off, n); err != nil {
		return err
	}
	return dataplane.AllData(ctx, off, n, fn)
}

func (d *backendDevice) Info() dataplane.Info {
	return dataplane.Info{MinBlock: 1, PreferredBlock: usualBlock}
}

func (d *backendDevice) Close() error {
	if !d.gate.close() {
		return dataplane.ErrClosed
	}
	return d.gate.wait(context.Background())
}

// panicError is a panic of a backend as an error. The stack is for the log.
type panicError struct {
	what  string
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("%s panicked: %v", e.what, e.value) }
func (e *panicError) Unwrap() error { return dataplane.ErrIO }

// guard calls do and turns a panic into an error that is ErrIO.
func guard(what string, do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &panicError{what: what, value: r, stack: debug.Stack()}
		}
	}()
	return do()
}
