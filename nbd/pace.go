package nbd

import (
	"sync/atomic"
	"time"
)

const (
	// quickCall and quickByte say what a device may take for a request so that nobody else should do the next one: a
	// system call and a copy through memory, with room for a busy machine. Callers beside each other share the time.
	quickCall = 60 * time.Microsecond
	quickByte = time.Nanosecond // for two bytes
	// strikesOut slow requests one after another, and the next ones are done beside each other: firstRound of them before
	// the device is tried again, and four times as many each time that it still is slow, up to lastRound.
	strikesOut = 2
	firstRound = 64
	lastRound  = 64 << 10
	// goodRun of quick requests and the device is as good as new.
	goodRun = 256
	// slowCall, not counting what waits for a client, is what memory never takes; but the system may have given the
	// processor to somebody else meanwhile, as it does on a busy machine once in some milliseconds. So it takes two such
	// requests with fewer than apartBy quick ones between them.
	slowCall = 2 * time.Millisecond
	apartBy  = 16
)

// pace knows whether the device of an export answers as fast as memory does. Its parts are counted without a lock, so a
// request more or less may go one way or the other.
type pace struct {
	apart   atomic.Int64 // requests that are yet to be done beside each other
	round   atomic.Int64 // how many they were the last time; 0: never, or long ago
	strikes atomic.Int64
	run     atomic.Int64 // quick ones since a slow one
	hung    atomic.Int64 // quick ones to come until the last of over slowCall is forgotten
	callers atomic.Int64 // with the turn, in the device
}

// quick reports whether the request is likely over before somebody else could have taken the next one.
func (p *pace) quick(r *request) bool {
	if r.refused.code != 0 {
		return true
	}
	if r.command != cmdRead && r.command != cmdWrite || r.flags&flagFUA != 0 {
		return false
	}
	if p.apart.Load() > 0 {
		p.apart.Add(-1)
		return false
	}
	return true
}

// fast reports whether quick would say so of a read.
func (p *pace) fast() bool { return p.apart.Load() <= 0 }

// enter counts who calls the device with the turn; the number goes to leave.
func (p *pace) enter() int64 { return p.callers.Add(1) }

// leave is told how long the device took for a request.
func (p *pace) leave(callers int64, length uint64, d time.Duration) {
	p.callers.Add(-1)
	switch allowed := quickCall + time.Duration(length)*quickByte/2; {
	case d > slowCall*time.Duration(callers):
		p.hang()
	case d <= allowed*time.Duration(callers):
		p.good()
	case p.strikes.Add(1) >= strikesOut:
		p.part()
	}
}

// hang is told of a request of over slowCall.
func (p *pace) hang() {
	if p.hung.Swap(apartBy) > 0 {
		p.part()
	}
}

// good is told of a quick request.
func (p *pace) good() {
	p.strikes.Store(0)
	if p.hung.Load() > 0 {
		p.hung.Add(-1)
	}
	if p.round.Load() > 0 && p.run.Add(1) > goodRun {
		p.round.Store(0)
	}
}

// part has the next requests done beside each other.
func (p *pace) part() {
	round := min(max(4*p.round.Load(), firstRound), lastRound)
	p.round.Store(round)
	p.run.Store(0)
	p.strikes.Store(0)
	p.hung.Store(0)
	p.apart.Store(round)
}
