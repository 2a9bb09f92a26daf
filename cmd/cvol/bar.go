package main

import (
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/cvold/cvold/client"
)

const (
	// barPoll is how often a bar gets new figures: the eye sees it move.
	barPoll = 500 * time.Millisecond
	// barRefresh is how often the bar is drawn.
	barRefresh = 250 * time.Millisecond
	// gaugeSamples of barPoll are the time over which a gauge measures its rate: calm, and quick enough to show a change.
	gaugeSamples = 20
)

// terminal is the terminal that w writes to, or nil.
func terminal(w io.Writer) *os.File {
	if o, ok := w.(*output); ok {
		w = o.w
	}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}

// bar draws a progress bar. Its methods are for one goroutine.
type bar struct {
	progress *mpb.Progress
	bar      *mpb.Bar
	// now is drawn by another goroutine.
	now atomic.Pointer[barText]
}

// barText is what stands around the bar.
type barText struct{ before, after string }

func newBar(terminal *os.File) *bar {
	b := &bar{}
	b.now.Store(&barText{})
	b.progress = mpb.New(mpb.WithOutput(terminal), mpb.WithRefreshRate(barRefresh))
	b.bar = b.progress.New(0, mpb.BarStyle().Tip(">").Filler("="),
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return b.now.Load().before })),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return b.now.Load().after })),
	)
	return b
}

// draw shows how far it is, with words on both sides. The bar is never complete by its figures, but by end: with
// migrations all bytes are verified well before it is over.
func (b *bar) draw(before, after string, p client.Progress) {
	b.now.Store(&barText{before: printable(before), after: after})
	b.bar.SetTotal(max(p.TotalBytes, 1), false)
	b.bar.SetCurrent(p.VerifiedBytes)
}

// say changes the words before the bar alone.
func (b *bar) say(before string) { b.now.Store(&barText{before: before, after: b.now.Load().after}) }

// end leaves the terminal in order.
func (b *bar) end(complete bool) {
	if complete {
		b.bar.SetTotal(-1, true)
	} else {
		b.bar.Abort(false)
	}
	b.progress.Wait()
}

// far is how far something is: "25% 5 GiB/20 GiB".
func far(p client.Progress) string {
	return percent(p) + " " + size(p.VerifiedBytes) + "/" + size(p.TotalBytes)
}

// pace is how fast it goes and how long it takes yet, as far as that is known; it begins with a blank.
func pace(p client.Progress) (text string) {
	if p.BytesPerSecond > 0 {
		text = " " + rate(p.BytesPerSecond)
	}
	if left := timeLeft(p); left != "" {
		text += " ETA " + left
	}
	return text
}

// gauge shows on a terminal how many bytes of a device a command has done by itself, without the agent. The nil gauge shows
// nothing.
type gauge struct {
	what    string
	total   int64
	done    atomic.Int64
	bar     *bar
	samples []gaugeSample // ascending
	stop    chan struct{}
	drawing sync.WaitGroup
}

type gaugeSample struct {
	at   time.Time
	done int64
}

// newGauge makes a gauge if standard error is a terminal, and progress is wanted. close must follow.
func (c *cli) newGauge(what string, total int64) *gauge {
	f := terminal(c.stderr)
	if c.noProgress || f == nil {
		return nil
	}
	g := &gauge{what: what, total: total, bar: newBar(f), stop: make(chan struct{})}
	g.draw(time.Now())
	g.drawing.Go(g.run)
	return g
}

// add counts bytes. Safe for concurrent use.
func (g *gauge) add(n int64) {
	if g != nil {
		g.done.Add(n)
	}
}

func (g *gauge) run() {
	ticker := time.NewTicker(barPoll)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			g.draw(now)
		case <-g.stop:
			return
		}
	}
}

func (g *gauge) draw(now time.Time) {
	p := g.progress(now)
	g.bar.draw(g.what, far(p)+pace(p), p)
}

// progress takes a sample.
func (g *gauge) progress(now time.Time) client.Progress {
	p := client.Progress{TotalBytes: g.total, VerifiedBytes: g.done.Load()}
	g.samples = append(g.samples, gaugeSample{now, p.VerifiedBytes})
	g.samples = g.samples[max(len(g.samples)-gaugeSamples, 0):]
	if passed := now.Sub(g.samples[0].at).Seconds(); passed > 0 {
		p.BytesPerSecond = float64(p.VerifiedBytes-g.samples[0].done) / passed
	}
	if p.BytesPerSecond > 0 {
		p.ETASeconds = float64(g.total-p.VerifiedBytes) / p.BytesPerSecond
	}
	return p
}

// close ends the drawing; complete says that all was done.
func (g *gauge) close(complete bool) {
	if g == nil {
		return
	}
	close(g.stop)
	g.drawing.Wait()
	g.draw(time.Now())
	g.bar.end(complete)
}
