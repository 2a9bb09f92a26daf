package nbd

import (
	"sync/atomic"
	"time"
)

const (
	// quickCall and quickByte say what a device may take for a request so that nobody else should do the next one: a
	// system call and a copy through memory, with room for a busy machine.
	quickCall = 60 * time.Microsecond
	quickByte = time.Nanosecond // for two bytes
	// slowRequests after a slow one are done beside each other before the device is tried again.
	slowRequests = 64
)

// pace knows whether the device of an export answers as fast as memory does.
type pace struct{ slow atomic.Int32 }

// quick reports whether the request is likely over before somebody else could have taken the next one.
func (p *pace) quick(r *request) bool {
	if r.refused.code != 0 {
		return true
	}
	return (r.command == cmdRead || r.command == cmdWrite) && r.flags&flagFUA == 0 && p.slow.Load() == 0
}

// took is told how long the device took for a request.
func (p *pace) took(r *request, d time.Duration) {
	if r.command != cmdRead && r.command != cmdWrite || r.flags&flagFUA != 0 {
		return
	}
	if d > quickCall+time.Duration(r.length)*quickByte/2 {
		p.stumbled()
	} else if left := p.slow.Load(); left > 0 {
		p.slow.CompareAndSwap(left, left-1)
	}
}

// stumbled is told that a request was late.
func (p *pace) stumbled() { p.slow.Store(slowRequests) }
