package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxTold bounds how often one thing is told of: a disk that dies has thousands of bad blocks.
const maxTold = 10

// logger tells people what a copy logs.
func (v *copyView) logger() *slog.Logger { return slog.New(copyLog{view: v}) }

// copyLog is a handler of logs that makes notes of warnings.
type copyLog struct {
	view  *copyView
	attrs []slog.Attr
}

func (copyLog) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (l copyLog) Handle(_ context.Context, r slog.Record) error {
	switch n := l.view.tally(r.Message); {
	case n > maxTold+1:
		return nil
	case n > maxTold:
		l.view.notef("%s: there is more, which is not told of", r.Message)
		return nil
	}
	text := r.Message
	add := func(a slog.Attr) bool {
		text += fmt.Sprintf(", %s %v", a.Key, a.Value)
		return true
	}
	for _, a := range l.attrs {
		add(a)
	}
	r.Attrs(add)
	l.view.notef("%s", text)
	return nil
}

func (l copyLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	l.attrs = append(l.attrs[:len(l.attrs):len(l.attrs)], attrs...)
	return l
}

// WithGroup changes nothing: people need no namespaces.
func (l copyLog) WithGroup(string) slog.Handler { return l }

// tally counts what is told of.
func (v *copyView) tally(message string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.told[message]++
	return v.told[message]
}

// progressOnStderr is what --progress means without a value.
const progressOnStderr = "stderr"

// progressTo is the value of --progress: lines on standard error, or numbers to another open file.
type progressTo struct {
	stderr bool
	file   *os.File
}

func (p *progressTo) wanted() bool { return p.stderr || p.file != nil }

func (p *progressTo) String() string {
	switch {
	case p.file != nil:
		return p.file.Name()
	case p.stderr:
		return progressOnStderr
	}
	return ""
}

// Set takes a number of an open file; it has a descriptor of its own for it.
func (p *progressTo) Set(s string) error {
	p.close()
	if s == progressOnStderr {
		p.stderr = true
		return nil
	}
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return fmt.Errorf("%q is no number of an open file", s)
	}
	fd, err := unix.FcntlInt(uintptr(n), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	p.file = os.NewFile(uintptr(fd), s)
	return nil
}

// Type is the name of the value in the help.
func (p *progressTo) Type() string { return "FD" }

func (p *progressTo) close() {
	if p.file != nil {
		_ = p.file.Close() // nothing is buffered
	}
	*p = progressTo{}
}
