package volume

import (
	"context"
	"fmt"
)

// turn is one call's turn at a volume: nobody else changes the volume or opens it until end.
type turn struct {
	// asked ends with the caller's context and when the manager stops.
	asked context.Context
	// deed ends when the manager stops only: what has a record is not dropped half-way because a client went away.
	deed context.Context
	end  func()
}

// turn waits for the turn at volume id. ErrClosed once Close was called.
func (m *Manager) turn(ctx context.Context, id string) (*turn, error) {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil, fmt.Errorf("volume %s: %w", id, ErrClosed)
	}
	m.running.Add(1)
	m.mu.Unlock()
	asked, cancelAsked := m.untilStop(ctx)
	deed, cancelDeed := m.untilStop(context.WithoutCancel(ctx))
	unlock, err := m.locks.lock(asked, id)
	end := func() {
		if err == nil {
			unlock()
		}
		cancelAsked()
		cancelDeed()
		m.running.Done()
	}
	if err != nil {
		end()
		return nil, fmt.Errorf("volume %s: wait for what is done to it now: %w", id, err)
	}
	return &turn{asked: asked, deed: deed, end: end}, nil
}

// untilStop is ctx, ended with ErrClosed when the manager stops.
func (m *Manager) untilStop(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(m.stopping, func() { cancel(ErrClosed) })
	return ctx, func() { stop(); cancel(nil) }
}
