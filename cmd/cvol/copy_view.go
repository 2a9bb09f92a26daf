package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/cvold/cvold/client"
	"github.com/cvold/cvold/transfer"
)

const (
	// stallNote is how long a copy may stand still before that is told of: a device that hangs looks like one that works.
	stallNote = 15 * time.Second
	// copyLine is how often there is a line of progress where there is no terminal: a log of hours stays short.
	copyLine = 10 * time.Second
)

// copyView shows how a copy goes on: with a bar on a terminal, with lines or numbers where --progress wants them. Wherever
// standard error goes, a copy that stands still is told of.
type copyView struct {
	cli      *cli
	progress *transfer.Progress
	wanted   progressTo
	bar      *bar         // nil: none
	came     func() int64 // bytes of a stream of which the length is not known; nil: it is no such copy
	stop     chan struct{}
	drawing  sync.WaitGroup

	began   time.Time
	line    time.Time // the last one
	percent int64     // told last
	moved   int64     // when it moved last
	at      time.Time
	stalled bool

	mu   sync.Mutex // of notes, which any goroutine makes
	told map[string]int
}

// newCopyView begins to show the progress. came is of a copy of a stream, else nil. close must follow.
func (c *cli) newCopyView(p *transfer.Progress, wanted progressTo, came func() int64) *copyView {
	now := time.Now()
	v := &copyView{
		cli: c, progress: p, wanted: wanted, came: came, stop: make(chan struct{}),
		began: now, line: now, at: now, percent: -1, told: make(map[string]int),
	}
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
	p := progressOf(s)
	v.count(p)
	before, after := v.words(s, p, now)
	switch {
	case v.bar != nil:
		v.bar.draw(before, after, p)
	case v.wanted.stderr && now.Sub(v.line) >= copyLine:
		v.line = now
		v.notef("%s %s", before, after)
	}
}

// progressOf is a snapshot as agents tell it.
func progressOf(s transfer.ProgressSnapshot) client.Progress {
	return client.Progress{
		TotalBytes: s.TotalBytes, VerifiedBytes: s.VerifiedBytes, BytesPerSecond: s.BytesPerSecond, ETASeconds: s.ETA.Seconds(),
	}
}

// words are what is done now, and how far it is.
func (v *copyView) words(s transfer.ProgressSnapshot, p client.Progress, now time.Time) (before, after string) {
	before = s.Phase
	if s.Phase == transfer.PhaseRechecking {
		before += " " + size(s.RecheckedBytes)
	}
	if v.came != nil {
		came := v.came()
		if passed := now.Sub(v.began).Seconds(); passed > 0 {
			after = " " + rate(float64(came)/passed)
		}
		return before, size(came) + after
	}
	after = far(p)
	if s.ZeroBytes > 0 {
		after += " holes " + size(s.ZeroBytes)
	}
	if s.SkippedBytes > 0 {
		after += " unchanged " + size(s.SkippedBytes)
	}
	return before, after + pace(p)
}

// count writes how far it is as nbdcopy does for programs: a line N/100.
func (v *copyView) count(p client.Progress) {
	if v.wanted.file == nil || p.TotalBytes == 0 {
		return
	}
	percent := int64(float64(p.VerifiedBytes) / float64(p.TotalBytes) * 100)
	if percent != v.percent {
		v.percent = percent
		_, _ = fmt.Fprintf(v.wanted.file, "%d/100\n", percent) // who does not read it need not
	}
}

// watch tells once when nothing moves, and again when it does.
func (v *copyView) watch(s transfer.ProgressSnapshot, now time.Time) {
	moved, why := s.SentBytes+s.VerifiedBytes+s.RecheckedBytes, "a device does not answer, or a limit is very low"
	if v.came != nil {
		moved, why = moved+v.came(), "nothing comes, a device does not answer, or a limit is very low"
	}
	if moved != v.moved {
		if v.stalled {
			v.notef("it goes on, after %s", took(now.Sub(v.at)))
		}
		v.moved, v.at, v.stalled = moved, now, false
		return
	}
	if !v.stalled && now.Sub(v.at) >= stallNote && s.Phase != "" && s.Phase != transfer.PhaseDone {
		v.stalled = true
		v.notef("nothing has moved for %s: %s", took(now.Sub(v.at)), why)
	}
}

// notef is cli.notef while the bar is drawn. Safe for concurrent use.
func (v *copyView) notef(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.bar == nil {
		v.cli.notef(format, args...)
		return
	}
	_, _ = fmt.Fprintln(v.bar.progress, note(format, args...))
}

// close ends the drawing; complete says that all was copied.
func (v *copyView) close(complete bool) {
	close(v.stop)
	v.drawing.Wait()
	if complete {
		v.line = time.Time{} // the last line is always there
		v.draw(time.Now())
	}
	if v.bar != nil {
		v.bar.end(complete)
	}
	v.wanted.close()
}
