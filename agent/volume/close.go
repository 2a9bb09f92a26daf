package volume

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Close stops serving: it ends the calls under way, drains and removes the exports, and closes all devices, each within
// Options.CloseTimeout and all within ctx. Attachments stay recorded, and are served again by the next Start. The error
// names what had to be abandoned (dataplane.ErrAbandoned) and what did not end. A second Close is ErrClosed.
func (m *Manager) Close(ctx context.Context) error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return fmt.Errorf("volumes: %w", ErrClosed)
	}
	m.closed = true
	m.mu.Unlock()
	m.stop(ErrClosed)
	err := m.waitForCalls(ctx)
	return errors.Join(err, m.closeServed(ctx), m.closeHandles(ctx))
}

func (m *Manager) waitForCalls(ctx context.Context) error {
	done := make(chan struct{})
	go func() { m.running.Wait(); close(done) }()
	ctx, cancel := context.WithTimeout(ctx, m.o.CloseTimeout)
	defer cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("volumes: a back end does not answer, and a call to it was left behind: %w", context.Cause(ctx))
	}
}

// closeServed removes all exports side by side.
func (m *Manager) closeServed(ctx context.Context) error {
	m.mu.Lock()
	var all []string
	for id := range m.served {
		all = append(all, id)
	}
	m.mu.Unlock()
	return sideBySide(all, func(id string) error { return m.unserve(ctx, id) })
}

// closeHandles closes what is still open side by side, and waits for those that close already.
func (m *Manager) closeHandles(ctx context.Context) error {
	m.mu.Lock()
	var all []*Handle
	for h := range m.handles {
		all = append(all, h)
	}
	m.mu.Unlock()
	return sideBySide(all, func(h *Handle) error { return h.finish(ctx) })
}

// sideBySide does do for all at the same time and joins the errors.
func sideBySide[T any](all []T, do func(T) error) error {
	errs := make([]error, len(all))
	var group sync.WaitGroup
	for i := range all {
		group.Go(func() { errs[i] = do(all[i]) })
	}
	group.Wait()
	return errors.Join(errs...)
}
