package volume

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/faulty"
)

// errDead is what everything answers after the death of the process.
var errDead = errors.New("the process is dead")

// mortal is a process that dies at a chosen touch of the world outside: before or after a call of a driver or an update
// of the store. From then on nothing it does reaches the world.
type mortal struct {
	t       *testing.T
	mu      sync.Mutex
	touches int
	dieAt   int // 0: never
	dead    bool
	fail    error // what updates answer, doing nothing
	devices []dataplane.Device
	where   string // of its death
}

// arm lets the process die at the nth touch from now on.
func (m *mortal) arm(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.touches, m.dieAt = 0, n
}

// touch counts; it answers errDead from the deadly one on.
func (m *mortal) touch(what string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.touches++
	if m.dieAt > 0 && m.touches == m.dieAt && !m.dead {
		m.dead, m.where = true, what
	}
	if m.dead {
		return errDead
	}
	return nil
}

func (m *mortal) alive() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return errDead
	}
	return m.fail
}

func (m *mortal) driver(d dataplane.Driver) dataplane.Driver {
	return faulty.Driver(d, faulty.Hook{
		Before: func(_ context.Context, c faulty.Call) error { return m.touch("before " + c.Name) },
		After: func(_ context.Context, c faulty.Call, err error) error {
			if dead := m.touch("after " + c.Name); dead != nil {
				return dead
			}
			return err
		},
		Device: func(_ faulty.Call, d dataplane.Device) dataplane.Device {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.devices = append(m.devices, d)
			return d
		},
	})
}

// bury does what the kernel does for a dead process: it closes its files.
func (m *mortal) bury() {
	for _, d := range m.devices {
		_ = d.Close()
	}
}

func (m *mortal) store(s catalog.Store) catalog.Store { return mortalStore{s, m} }

type mortalStore struct {
	catalog.Store
	m *mortal
}

func (s mortalStore) View(fn func(catalog.Tx) error) error {
	if err := s.m.alive(); errors.Is(err, errDead) {
		return err
	}
	return s.Store.View(fn)
}

func (s mortalStore) Update(fn func(catalog.Tx) error) error {
	if err := s.m.touch("before an update"); err != nil {
		return err
	}
	if err := s.m.alive(); err != nil {
		return err
	}
	err := s.Store.Update(fn)
	if dead := s.m.touch("after an update"); dead != nil {
		return dead
	}
	return err
}

// failing is a store whose nth update after arm, and each one after it, fails until disarm.
type failing struct {
	catalog.Store
	at int

	mu    sync.Mutex
	armed bool
	seen  int
}

func (f *failing) store(s catalog.Store) catalog.Store {
	f.Store = s
	return f
}

func (f *failing) arm() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = true
}

// disarm says whether an update failed.
func (f *failing) disarm() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = false
	return f.seen >= f.at
}

func (f *failing) Update(fn func(catalog.Tx) error) error {
	f.mu.Lock()
	fails := false
	if f.armed {
		f.seen++
		fails = f.seen >= f.at
	}
	f.mu.Unlock()
	if fails {
		return catalog.ErrNoSpace
	}
	return f.Store.Update(fn)
}
