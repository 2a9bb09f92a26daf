package main

import (
	"fmt"
	"io"
	"os"
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
	// linePoll is how long a question waits where only a change of phase is shown.
	linePoll = 30 * time.Second
	// barRefresh is how often the bar is drawn.
	barRefresh = 250 * time.Millisecond
)

// view shows how a migration goes on.
type view interface {
	// poll is how long the view can do without news.
	poll() time.Duration
	// show shows the migration as it is now.
	show(client.Migration)
	// lost shows that the agent does not answer.
	lost(error)
	// close leaves the terminal in order. It is called once, with the migration as it was last seen.
	close(client.Migration)
}

// newView chooses the view for where it goes.
func newView(stderr io.Writer, none bool) view {
	if none {
		return silence{}
	}
	if f, ok := stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return newBar(f)
	}
	return &lines{w: stderr}
}

// silence shows nothing.
type silence struct{}

func (silence) poll() time.Duration    { return linePoll }
func (silence) show(client.Migration)  {}
func (silence) lost(error)             {}
func (silence) close(client.Migration) {}

// lines writes a line for each change of phase, for logs.
type lines struct {
	w    io.Writer
	last string
}

func (l *lines) poll() time.Duration { return linePoll }

func (l *lines) show(m client.Migration) {
	text := phase(m)
	if p := m.Progress; p.TotalBytes > 0 {
		text += fmt.Sprintf(": %s of %s verified, holes %s", size(p.VerifiedBytes), size(p.TotalBytes), size(p.ZeroBytes))
	}
	if read := readBack(m); read != "" {
		text += ", " + read
	}
	l.line(phase(m), text)
}

func (l *lines) lost(err error) { l.line("lost", fmt.Sprintf("waiting for the agent: %v", err)) }

func (l *lines) close(client.Migration) {}

// line writes text if its key is not that of the line before.
func (l *lines) line(key, text string) {
	if key == l.last {
		return
	}
	l.last = key
	_, _ = fmt.Fprintln(l.w, "cvol: "+printable(text))
}

// phase is what a migration does now.
func phase(m client.Migration) string {
	if p := m.Progress.Phase; p != "" && p != m.State && !m.Final {
		return m.State + " (" + p + ")"
	}
	return m.State
}

// readBack is how far the target has read the volume back from its medium; empty in other states than readying.
func readBack(m client.Migration) string {
	total := m.Progress.TotalBytes
	if m.State != "readying" || total <= 0 {
		return ""
	}
	return fmt.Sprintf("reading back %d %%", int64(float64(min(m.ReadBackBytes, total))/float64(total)*100))
}

// bar draws a progress bar of the verified bytes.
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

func (b *bar) poll() time.Duration { return barPoll }

func (b *bar) show(m client.Migration) {
	before := phase(m)
	if read := readBack(m); read != "" {
		before += " (" + read + ")"
	}
	b.now.Store(&barText{before: printable(before), after: figures(m)})
	// The bar is never complete by its figures: all bytes are verified well before the migration is over.
	b.bar.SetTotal(max(m.Progress.TotalBytes, 1), false)
	b.bar.SetCurrent(m.Progress.VerifiedBytes)
}

func (b *bar) lost(error) {
	b.now.Store(&barText{before: "waiting for the agent", after: b.now.Load().after})
}

func (b *bar) close(m client.Migration) {
	if m.Outcome == client.OutcomeSucceeded {
		b.bar.SetTotal(-1, true)
	} else {
		b.bar.Abort(false)
	}
	b.progress.Wait()
}

// figures are the numbers of a migration in one line.
func figures(m client.Migration) string {
	p := m.Progress
	if p.TotalBytes <= 0 {
		return ""
	}
	text := fmt.Sprintf("%s %s/%s holes %s", percent(p), size(p.VerifiedBytes), size(p.TotalBytes), size(p.ZeroBytes))
	if p.BytesPerSecond > 0 && !m.Final {
		text += " " + rate(p.BytesPerSecond)
	}
	if left := timeLeft(p); left != "" && !m.Final {
		text += " ETA " + left
	}
	return text
}
