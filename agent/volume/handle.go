package volume

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cvold/cvold/dataplane"
)

// device is embedded under a name of its own, so that nobody gets at the device behind a Handle's back.
type device = dataplane.Device

// Handle is an opened volume: the driver's device, whose Close gives the use back.
type Handle struct {
	device
	m       *Manager
	use     *use
	closing atomic.Bool
	ended   chan struct{}
	err     error // of the close; set before ended is closed
}

// newHandle makes the handle of a device whose use is reserved.
func (m *Manager) newHandle(d dataplane.Device, u *use) *Handle {
	h := &Handle{device: d, m: m, use: u, ended: make(chan struct{})}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.handles[h] = struct{}{}
	return h
}

// Close closes the device and gives the use back, once; the second Close is dataplane.ErrClosed. A device that does not
// close in its time is given up with dataplane.ErrAbandoned: what is in flight may still land, so its object is not
// opened or deleted any more by this process.
func (h *Handle) Close() error {
	if !h.closing.CompareAndSwap(false, true) {
		return fmt.Errorf("volume %s: %w", h.use.volumeID, dataplane.ErrClosed)
	}
	return h.close(context.Background())
}

// finish is Close within ctx; it waits if someone else closes already.
func (h *Handle) finish(ctx context.Context) error {
	if h.closing.CompareAndSwap(false, true) {
		return h.close(ctx)
	}
	select {
	case <-h.ended:
		return h.err
	case <-ctx.Done():
		return fmt.Errorf("volume %s: %s: close: %w", h.use.volumeID, h.use.user, context.Cause(ctx))
	}
}

func (h *Handle) close(ctx context.Context) error {
	defer close(h.ended)
	closed := make(chan error, 1)
	go func() { closed <- h.device.Close() }()
	timer := time.NewTimer(h.m.o.CloseTimeout)
	defer timer.Stop()
	select {
	case h.err = <-closed:
		h.m.forget(h)
		return h.err
	case <-ctx.Done():
	case <-timer.C:
	}
	h.m.abandon(h)
	h.err = fmt.Errorf("close volume %s: %s: %w", h.use.volumeID, h.use.user, dataplane.ErrAbandoned)
	h.m.o.Logger.Error("device abandoned", "volume", h.use.volumeID, "backend", h.use.backend,
		"object", h.use.object, "user", h.use.user.String())
	return h.err
}

// forget takes a closed handle off the lists.
func (m *Manager) forget(h *Handle) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.handles, h)
	delete(m.uses, h.use)
}

// abandon takes a handle off the lists whose device did not close in its time; its use stays, and says so.
func (m *Manager) abandon(h *Handle) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.handles, h)
	h.use.abandoned = true
}
