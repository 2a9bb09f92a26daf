package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/cvold/cvold/client"
	"github.com/cvold/cvold/transfer"
)

// stallNote is how long a copy may stand still before that is told of: a device that hangs looks like one that works.
const stallNote = 15 * time.Second

// copyView shows how a copy goes on: a bar on a terminal. Wherever standard error goes, a copy that stands still is told of.
type copyView struct {
	cli      *cli
	progress *transfer.Progress
	bar      *bar // nil: none
	stop     chan struct{}
	drawing  sync.WaitGroup

	moved int64 // when it moved last
	at    time.Time
	told  bool
}

// newCopyView begins to show the progress. close must follow.
func (c *cli) newCopyView(p *transfer.Progress) *copyView {
	v := &copyView{cli: c, progress: p, stop: make(chan struct{}), at: time.Now()}
	if f := terminal(c.stderr); f != nil && !c.noProgress {
		v.bar = newBar(f)
	}
	v.drawing.Go(v.run)
	return v
}

func (v *copyView) run() {
	ticker := time.NewTicker(barPoll)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			v.draw(now)
		case <-v.stop:
			return
		}
	}
}

func (v *copyView) draw(now time.Time) {
	s := v.progress.Snapshot()
	v.watch(s, now)
	if v.bar == nil {
		return
	}
	p := client.Progress{
		TotalBytes: s.TotalBytes, VerifiedBytes: s.VerifiedBytes, BytesPerSecond: s.BytesPerSecond, ETASeconds: s.ETA.Seconds(),
	}
	before := s.Phase
	if s.Phase == transfer.PhaseRechecking {
		before = fmt.Sprintf("%s %s", s.Phase, size(s.RecheckedBytes))
	}
	text := far(p)
	if s.ZeroBytes > 0 {
		text += " holes " + size(s.ZeroBytes)
	}
	if s.SkippedBytes > 0 {
		text += " unchanged " + size(s.SkippedBytes)
	}
	v.bar.draw(before, text+pace(p), p)
}

// watch tells once when nothing moves, and again when it does.
func (v *copyView) watch(s transfer.ProgressSnapshot, now time.Time) {
	moved := s.SentBytes + s.VerifiedBytes + s.RecheckedBytes
	if moved != v.moved {
		if v.told {
			v.cli.notef("it goes on, after %s", took(now.Sub(v.at)))
		}
		v.moved, v.at, v.told = moved, now, false
		return
	}
	if !v.told && now.Sub(v.at) >= stallNote && s.Phase != "" && s.Phase != transfer.PhaseDone {
		v.told = true
		v.cli.notef("nothing has moved for %s: a device does not answer, or a limit is very low", took(now.Sub(v.at)))
	}
}

// close ends the drawing; complete says that all was copied.
func (v *copyView) close(complete bool) {
	close(v.stop)
	v.drawing.Wait()
	if v.bar != nil {
		v.draw(time.Now())
		v.bar.end(complete)
	}
}
