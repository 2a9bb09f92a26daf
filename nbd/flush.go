package nbd

import (
	"fmt"
	"sync"
)

// flusher makes the flushes of one device one after another, and lets callers that wait together share one.
//
// A failure is sticky. The order matters for that: of two flushes side by side the medium may tell its error to one and
// success to the other, though both stand for the same lost writes.
type flusher struct {
	turn sync.Mutex // held during a flush

	mu      sync.Mutex
	started uint64 // flushes begun
	err     error  // of the first that failed
}

// flush returns nil when a call of sync that began after flush was called has succeeded, and none ever failed.
func (f *flusher) flush(sync func() error) error {
	arrived, err := f.state()
	if err != nil {
		return err
	}
	f.turn.Lock()
	defer f.turn.Unlock()
	started, err := f.state()
	if err != nil || started > arrived {
		return err // shared with a caller that came after us and began before us
	}
	f.begin()
	return f.end(sync())
}

func (f *flusher) state() (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.started, f.err
}

func (f *flusher) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.started++
}

func (f *flusher) end(err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.err = fmt.Errorf("a flush failed, writes before it may be lost: %w", err)
	}
	return err
}
