package systemd

import (
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"golang.org/x/term"
)

// shortTime is how a terminal shows the time: whoever looks at it knows the day.
const shortTime = "15:04:05.000"

// Logger returns the log handler for w, usually os.Stderr: entries with fields for the journal when w is os.Stderr and
// the service manager connected that to the journal; text with short times on a terminal; else text with full times.
// Records below level are dropped; nil is slog.LevelInfo.
func Logger(w io.Writer, level slog.Leveler) slog.Handler {
	if level == nil {
		level = slog.LevelInfo
	}
	if w == io.Writer(os.Stderr) {
		if direct, err := journal.StderrIsJournalStream(); err == nil && direct {
			return newJournalHandler(level, journal.Send, textHandler(w, level, false))
		}
	}
	file, ok := w.(*os.File)
	return textHandler(w, level, ok && term.IsTerminal(int(file.Fd())))
}

func textHandler(w io.Writer, level slog.Leveler, terminal bool) slog.Handler {
	options := &slog.HandlerOptions{Level: level}
	if terminal {
		options.ReplaceAttr = shorten
	}
	return slog.NewTextHandler(w, options)
}

// shorten replaces the record's own time.
func shorten(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 || a.Key != slog.TimeKey || a.Value.Kind() != slog.KindTime {
		return a
	}
	return slog.String(a.Key, a.Value.Time().In(time.Local).Format(shortTime))
}
