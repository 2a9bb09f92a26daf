package file

import (
	"fmt"
	"sync"
	"time"

	"github.com/cvold/cvold/dataplane"
)

// closeTimeout is how long Close waits for calls in the kernel, which nothing can interrupt: longer than a disk that
// recovers takes, shorter than an operator's patience with a stop.
const closeTimeout = 30 * time.Second

// gate counts the calls in a device and lets none in after it was shut.
type gate struct {
	mu    sync.Mutex
	calls int
	shut  bool
	idle  chan struct{} // closed when the gate is shut and the last call has left
}

func (g *gate) enter() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return errClosed
	}
	g.calls++
	return nil
}

var errClosed = fmt.Errorf("file: %w", dataplane.ErrClosed)

// ended is errClosed once the gate was shut: what long calls ask between their pieces.
func (g *gate) ended() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return errClosed
	}
	return nil
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls--
	g.settle()
}

// settle tells close when the last call has left.
func (g *gate) settle() {
	if g.shut && g.calls == 0 {
		close(g.idle)
	}
}

// close shuts the gate, waits until the last call has left, and calls release, which may hang too: who closes a block device last
// writes what the page cache has of it. ErrAbandoned if all that takes longer than timeout: then release comes, and ends,
// when what hangs does, if it ever does.
func (g *gate) close(timeout time.Duration, release func()) error {
	g.mu.Lock()
	if g.shut {
		g.mu.Unlock()
		return errClosed
	}
	g.shut, g.idle = true, make(chan struct{})
	g.settle()
	g.mu.Unlock()
	released := make(chan struct{})
	go func() {
		<-g.idle
		release()
		close(released)
	}()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-released:
		return nil
	case <-timer.C:
		return fmt.Errorf("close after %v: %w", timeout, dataplane.ErrAbandoned)
	}
}
