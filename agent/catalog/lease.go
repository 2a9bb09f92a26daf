package catalog

import (
	"context"
	"fmt"
	"sync"
)

// leases are the leases of a store that nobody shares with us: whoever asks first holds it, the others of this process
// wait. The zero value is ready.
type leases struct {
	mu     sync.Mutex
	held   map[string]*boltLease
	closed bool
}

// boltLease is a Lease of a Bolt.
type boltLease struct {
	leases *leases
	name   string
	token  uint64
	done   chan struct{}
}

func (l *boltLease) Token() uint64         { return l.token }
func (l *boltLease) Done() <-chan struct{} { return l.done }

func (l *boltLease) Release() error {
	l.leases.mu.Lock()
	defer l.leases.mu.Unlock()
	if l.leases.held[l.name] == l {
		delete(l.leases.held, l.name)
		close(l.done)
	}
	return nil
}

// Acquire implements Leaser. The token is durable before it is given out.
func (b *Bolt) Acquire(ctx context.Context, name string) (Lease, error) {
	if err := checkKey(name); err != nil {
		return nil, fmt.Errorf("lease: %w", err)
	}
	lease, err := b.leases.take(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("lease %s: %w", name, err)
	}
	err = b.updateMeta(func(m *storeMeta) {
		m.LastToken++
		lease.token = m.LastToken
	})
	if err != nil {
		lease.Release()
		return nil, fmt.Errorf("lease %s: %w", name, err)
	}
	return lease, nil
}

// take waits until the name is free and takes it.
func (l *leases) take(ctx context.Context, name string) (*boltLease, error) {
	for {
		lease, holder, err := l.try(name)
		if lease != nil || err != nil {
			return lease, err
		}
		select {
		case <-holder:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// try takes the name if it is free; otherwise holder is closed when it is worth another try.
func (l *leases) try(name string) (lease *boltLease, holder <-chan struct{}, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, nil, ErrClosed
	}
	if held, ok := l.held[name]; ok {
		return nil, held.done, nil
	}
	if l.held == nil {
		l.held = make(map[string]*boltLease)
	}
	lease = &boltLease{leases: l, name: name, done: make(chan struct{})}
	l.held[name] = lease
	return lease, nil, nil
}

// close ends all leases, now and to come.
func (l *leases) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, lease := range l.held {
		close(lease.done)
	}
	l.held = nil
}
