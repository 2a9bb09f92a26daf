package transfer

import "time"

const (
	// depthGain is how much faster twice the workers must be to stay.
	depthGain = 1.12
	// depthLoss is how much slower half of the workers may be to stay: fewer in flight leave more to others.
	depthLoss = 0.97
	// depthRound is the least number of chunks that a depth is judged by, and roundFill how often each worker has its turn
	// in it.
	depthRound = 32
	roundFill  = 4
	// depthHold and maxDepthHold are for how many rounds a depth is kept once its neighbours were slower; each time it
	// turns out so again twice as long.
	depthHold    = 16
	maxDepthHold = 256
)

// depth finds how many chunks should be in flight, from how fast they are done: it climbs in steps of two while that makes
// the copy faster, and looks again now and then, for devices and links change. Not safe for concurrent use.
type depth struct {
	now, most int

	chunks int       // done in this round
	bytes  int64     // of them
	began  time.Time // of the round

	probing int // +1: now is twice what it was, -1: half of it; 0: no
	before  int // the depth before the probe; half of an odd one, doubled, is another
	settled float64
	up      bool // where to look next
	hold    int  // rounds to keep now
	pause   int  // what hold will be
}

func newDepth(start, most int) *depth {
	most = max(most, 1)
	return &depth{now: min(start, most), most: most, up: true, pause: depthHold}
}

// done counts a chunk, and answers how many should be in flight from now on.
func (d *depth) done(bytes int64, now time.Time) int {
	if d.began.IsZero() {
		d.began = now // what came before the first chunk was not copying
		return d.now
	}
	d.chunks++
	d.bytes += bytes
	passed := now.Sub(d.began)
	if d.chunks < max(depthRound, roundFill*d.now) || passed <= 0 {
		return d.now
	}
	rate := float64(d.bytes) / passed.Seconds()
	d.chunks, d.bytes, d.began = 0, 0, now
	d.judge(rate)
	return d.now
}

// judge takes the rate of a round.
func (d *depth) judge(rate float64) {
	switch {
	case d.probing > 0 && rate >= d.settled*depthGain, d.probing < 0 && rate >= d.settled*depthLoss:
		d.pause = depthHold // it paid: go on the same way at once
		d.settled = rate
		d.probe(d.probing > 0)
	case d.probing != 0:
		d.now = d.before
		d.up = d.probing < 0
		d.probing = 0
		d.hold, d.pause = d.pause, min(2*d.pause, maxDepthHold)
	case d.hold > 0:
		d.hold--
		d.settled = rate
	default:
		d.settled = rate
		d.probe(d.up)
	}
}

// probe tries twice, or half, as many.
func (d *depth) probe(up bool) {
	d.probing, d.before = 0, d.now
	switch {
	case up && 2*d.now <= d.most:
		d.now, d.probing = 2*d.now, 1
	case !up && d.now > 1:
		d.now, d.probing = d.now/2, -1
	default:
		d.up = !up
		d.hold = d.pause
	}
}
