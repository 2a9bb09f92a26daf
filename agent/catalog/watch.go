package catalog

import (
	"context"
	"sync"
)

// watchers are the channels of Store.Watch. The zero value is ready.
type watchers struct {
	mu     sync.Mutex
	stops  map[chan struct{}]func() bool // ends the wait for ctx
	closed bool
}

// add returns a channel that lives until ctx ends or close is called.
func (w *watchers) add(ctx context.Context) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	ch := make(chan struct{}, 1)
	if w.closed {
		close(ch)
		return ch
	}
	if w.stops == nil {
		w.stops = make(map[chan struct{}]func() bool)
	}
	w.stops[ch] = context.AfterFunc(ctx, func() { w.remove(ch) })
	return ch
}

func (w *watchers) remove(ch chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.stops[ch]; ok {
		delete(w.stops, ch)
		close(ch)
	}
}

// notify puts a token into every channel that has none.
func (w *watchers) notify() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ch := range w.stops {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// close closes all channels, now and to come.
func (w *watchers) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for ch, stop := range w.stops {
		stop()
		close(ch)
	}
	w.stops = nil
}
