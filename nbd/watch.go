package nbd

import (
	"sync/atomic"
	"time"
)

// lateAfter is how long a request may keep the turn while it is carried out: a device that was fast can hang on one. A
// shorter one costs: its timer wakes a thread that often while there are requests.
const lateAfter = 10 * time.Millisecond

// watch takes the turn from a worker whose request keeps it too long. It costs two atomic additions a request; its timer
// runs only while there are requests.
type watch struct {
	// calls is odd while a request is carried out by who has the turn. Whoever makes it even again has the turn then.
	calls atomic.Uint64
	armed atomic.Bool
	timer *time.Timer
	seen  uint64 // by the timer the last time
	late  func() // has the turn, and must pass it on
}

func newWatch(late func()) *watch {
	w := &watch{late: late}
	w.timer = time.AfterFunc(lateAfter, w.look)
	w.timer.Stop()
	return w
}

// begin is said before a request is carried out with the turn.
func (w *watch) begin() uint64 {
	call := w.calls.Add(1)
	if !w.armed.Load() && w.armed.CompareAndSwap(false, true) {
		w.timer.Reset(lateAfter)
	}
	return call
}

// end reports whether the turn was kept.
func (w *watch) end(call uint64) bool { return w.calls.CompareAndSwap(call, call+1) }

// look is the timer.
func (w *watch) look() {
	call := w.calls.Load()
	if call == w.seen {
		if call%2 == 1 && w.calls.CompareAndSwap(call, call+1) {
			call++
			w.late()
		}
		w.armed.Store(false)
		if w.calls.Load() == call || !w.armed.CompareAndSwap(false, true) {
			return // nothing began meanwhile, or who began has armed the timer
		}
	}
	w.seen = call
	w.timer.Reset(lateAfter)
}

func (w *watch) stop() { w.timer.Stop() }
