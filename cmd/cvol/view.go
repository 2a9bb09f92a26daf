package main

import (
	"fmt"
	"io"
	"time"

	"github.com/cvold/cvold/client"
)

// linePoll is how long a question waits where only a change of phase is shown.
const linePoll = 30 * time.Second

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
	if f := terminal(stderr); f != nil {
		return migrationBar{newBar(f)}
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

// migrationBar draws a progress bar of the verified bytes.
type migrationBar struct{ *bar }

func (migrationBar) poll() time.Duration { return barPoll }

func (b migrationBar) show(m client.Migration) {
	before := phase(m)
	if read := readBack(m); read != "" {
		before += " (" + read + ")"
	}
	b.draw(before, figures(m), m.Progress)
}

func (b migrationBar) lost(error) { b.say("waiting for the agent") }

func (b migrationBar) close(m client.Migration) { b.end(m.Outcome == client.OutcomeSucceeded) }

// figures are the numbers of a migration in one line.
func figures(m client.Migration) string {
	p := m.Progress
	if p.TotalBytes <= 0 {
		return ""
	}
	text := far(p) + " holes " + size(p.ZeroBytes)
	if !m.Final {
		text += pace(p)
	}
	return text
}
