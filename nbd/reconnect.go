package nbd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cvold/cvold/dataplane"
)

const (
	// firstPause and lastPause are between tries to connect again.
	firstPause = 20 * time.Millisecond
	lastPause  = 2 * time.Second
)

// Reconnecting is an export of an NBD server that is opened again when its connections break. It is a dataplane.Device.
//
// What was under way is then done again, where that cannot do harm: with a server of ours whose export was not added anew
// since, which ends what is left of the old connections first; with any server if nothing was written since the last
// good Sync. Otherwise the device ends, as one of Dial does: writes since the last Sync may be lost, or may come late.
// A Sync that failed is sticky.
type Reconnecting struct {
	options DialOptions
	patient time.Duration
	info    dataplane.Info
	session Session
	gate    gate
	flusher flusher
	ctx     context.Context // ends dialling
	cancel  context.CancelFunc

	renewing sync.Mutex // held while connecting again

	mu      sync.Mutex
	device  *Device
	failed  error  // sticky
	writing int    // calls under way
	written uint64 // calls begun
	flushed uint64 // of them, those that the last good Sync covered
}

// DialReconnecting opens an export as Dial does. patient is how long a break may last; calls wait as long. The caller closes
// the device.
func DialReconnecting(ctx context.Context, o DialOptions, patient time.Duration) (*Reconnecting, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	o.identity = identity{key: newToken()}
	device, err := Dial(ctx, o)
	if err != nil {
		return nil, err
	}
	r := &Reconnecting{options: o, patient: patient, info: device.Info(), session: device.Session(), device: device}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r, nil
}

// call does something with the device, again when that broke meanwhile.
func (r *Reconnecting) call(do func(*Device) error) error {
	for {
		device, err := r.current()
		if err != nil {
			return err
		}
		if err = do(device); err == nil || device.cause() == nil {
			return err
		}
		if err := r.renew(device, err); err != nil {
			return err
		}
	}
}

func (r *Reconnecting) current() (*Device, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.device, r.failed
}

// renew puts a new device in the place of one that broke, unless somebody did so.
func (r *Reconnecting) renew(broken *Device, cause error) error {
	r.renewing.Lock()
	defer r.renewing.Unlock()
	device, err := r.current()
	if err != nil || device != broken {
		return err
	}
	broken.Close()
	if device, err = r.dial(); err == nil {
		err = r.accept(broken, device)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.failed = fmt.Errorf("%w: %w; %w", dataplane.ErrDisconnected, cause, err)
		return r.failed
	}
	r.device = device
	return nil
}

// dial tries to connect until it succeeds, the patience ends, or there is no sense in it.
func (r *Reconnecting) dial() (*Device, error) {
	ctx, cancel := context.WithTimeout(r.ctx, r.patient)
	defer cancel()
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		r.options.identity.generation++
		device, err := Dial(ctx, r.options)
		if err == nil {
			return device, nil
		}
		if errors.Is(err, ErrRefused) || errors.Is(err, ErrTLSRequired) || errors.Is(err, ErrNoTLS) {
			return nil, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("connect again for %v: %w", r.patient, err)
		}
	}
}

// accept says whether one may go on with the new device.
func (r *Reconnecting) accept(broken, device *Device) error {
	same := device.session.incarnation != "" && device.session.incarnation == broken.session.incarnation
	switch {
	case !sameExport(broken.session, device.session):
		device.Close()
		return fmt.Errorf("export %s is not what it was", device.session.Export)
	case !same && !r.clean():
		device.Close()
		return errors.New("what was written since the last flush may be lost, or may come late")
	}
	r.options.Logger.Info("NBD device is connected again", "export", device.session.Export, "server", device.session.Address)
	return nil
}

// clean: all that was written is flushed, and nothing is being written.
func (r *Reconnecting) clean() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.writing == 0 && r.flushed == r.written
}

// write does a call that changes the device.
func (r *Reconnecting) write(do func(*Device) error) error {
	r.mu.Lock()
	r.writing++
	r.written++
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.writing--
	}()
	return r.call(do)
}

// enter is the check with which calls begin; who gets nil must leave the gate.
func (r *Reconnecting) enter() error {
	if !r.gate.enter() {
		return dataplane.ErrClosed
	}
	return nil
}

// ReadAt implements dataplane.Device.
func (r *Reconnecting) ReadAt(p []byte, off int64) (n int, err error) {
	if err := r.enter(); err != nil {
		return 0, err
	}
	defer r.gate.leave()
	err = r.call(func(d *Device) error { n, err = d.ReadAt(p, off); return err })
	return n, err
}

// WriteAt implements dataplane.Device.
func (r *Reconnecting) WriteAt(p []byte, off int64) (n int, err error) {
	if err := r.enter(); err != nil {
		return 0, err
	}
	defer r.gate.leave()
	err = r.write(func(d *Device) error { n, err = d.WriteAt(p, off); return err })
	return n, err
}

// Sync implements dataplane.Device.
func (r *Reconnecting) Sync() error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.gate.leave()
	return r.flusher.flush(func() error {
		r.mu.Lock()
		covered, whole := r.written, r.writing == 0
		r.mu.Unlock()
		if err := r.call((*Device).Sync); err != nil {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if whole {
			r.flushed = covered
		}
		return nil
	})
}

// ZeroAt implements dataplane.Device.
func (r *Reconnecting) ZeroAt(off, n int64, mode dataplane.ZeroMode) error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.gate.leave()
	return r.write(func(d *Device) error { return d.ZeroAt(off, n, mode) })
}

// Discard implements dataplane.Device.
func (r *Reconnecting) Discard(off, n int64) error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.gate.leave()
	return r.write(func(d *Device) error { return d.Discard(off, n) })
}

// Extents implements dataplane.Device. After a break it goes on where it was.
func (r *Reconnecting) Extents(ctx context.Context, off, n int64, fn func(dataplane.Extent) error) error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.gate.leave()
	var told error
	err := r.call(func(d *Device) error {
		err := d.Extents(ctx, off, n, func(e dataplane.Extent) error {
			if told = fn(e); told == nil {
				off, n = e.End(), n-e.Length
			}
			return told
		})
		if told != nil {
			return nil
		}
		return err
	})
	if told != nil {
		return told
	}
	return err
}

// Size implements dataplane.Device: what the server said at first.
func (r *Reconnecting) Size() (int64, error) {
	if err := r.enter(); err != nil {
		return 0, err
	}
	defer r.gate.leave()
	return r.session.Size, nil
}

// Info implements dataplane.Device.
func (r *Reconnecting) Info() dataplane.Info { return r.info }

// Close implements dataplane.Device. A call that waits for a connection ends with an error.
func (r *Reconnecting) Close() error {
	if !r.gate.close() {
		return dataplane.ErrClosed
	}
	r.cancel()
	r.mu.Lock()
	device := r.device
	if r.failed == nil {
		r.failed = dataplane.ErrClosed
	}
	r.mu.Unlock()
	err := device.Close()
	if errors.Is(err, dataplane.ErrClosed) {
		err = nil // it broke, and was closed then
	}
	r.gate.wait(context.Background())
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.device != device { // connected again at the last moment
		return r.device.Close()
	}
	return err
}
