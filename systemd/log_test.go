package systemd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
)

func TestLoggerWritesText(t *testing.T) {
	var out bytes.Buffer
	logger := slog.New(Logger(&out, nil))
	logger.Debug("hidden")
	logger.Info("shown", "volume", "v 1")
	if !regexp.MustCompile(`^time=\d{4}-\d\d-\d\dT\S+ level=INFO msg=shown volume="v 1"\n$`).Match(out.Bytes()) {
		t.Errorf("got %q", &out)
	}
}

func TestTerminalTimesAreShort(t *testing.T) {
	var out bytes.Buffer
	logger := slog.New(textHandler(&out, slog.LevelDebug, true))
	logger.Debug("shown", "time", "kept", slog.Group("g", "time", time.Unix(0, 0).UTC()))
	if !regexp.MustCompile(`^time=\d\d:\d\d:\d\d\.\d{3} level=DEBUG msg=shown time=kept g\.time=1970-01-01T00:00:00\.000Z\n$`).Match(out.Bytes()) {
		t.Errorf("got %q", &out)
	}
}

func TestLoggerChoosesTheJournal(t *testing.T) {
	var stat syscall.Stat_t
	if err := syscall.Fstat(2, &stat); err != nil {
		t.Fatal(err)
	}
	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", stat.Dev, stat.Ino))
	if _, ok := Logger(os.Stderr, nil).(*journalHandler); !ok {
		t.Error("stderr is the journal, and was not used as such")
	}
	if _, ok := Logger(io.Discard, nil).(*journalHandler); ok {
		t.Error("another writer became the journal")
	}
	for _, stream := range []string{"1:1", "nonsense"} {
		t.Setenv("JOURNAL_STREAM", stream)
		if _, ok := Logger(os.Stderr, nil).(*journalHandler); ok {
			t.Errorf("JOURNAL_STREAM=%s was taken for stderr", stream)
		}
	}
}

// entry is what one Send got.
type entry struct {
	message  string
	priority journal.Priority
	fields   map[string]string
}

// recorder is a journal that keeps what it is sent.
type recorder struct {
	entries []entry
	err     error
}

func (r *recorder) send(message string, priority journal.Priority, fields map[string]string) error {
	if r.err != nil {
		return r.err
	}
	r.entries = append(r.entries, entry{message, priority, fields})
	return nil
}

func TestJournalFields(t *testing.T) {
	var r recorder
	logger := slog.New(newJournalHandler(slog.LevelInfo, r.send, slog.DiscardHandler))
	logger = logger.With("volume", "v1").WithGroup("nbd").With("export-name", "a b")
	logger.Warn("connection lost", "error", errors.New("broken pipe"), "took", 1500*time.Millisecond, slog.Group("client", "uid", 7))
	if len(r.entries) != 1 {
		t.Fatalf("%d entries", len(r.entries))
	}
	got := r.entries[0]
	message := `connection lost volume=v1 nbd.export-name="a b" nbd.error="broken pipe" nbd.took=1.5s nbd.client.uid=7`
	if got.message != message || got.priority != journal.PriWarning {
		t.Errorf("got %q at %d", got.message, got.priority)
	}
	want := map[string]string{
		"VOLUME": "v1", "NBD_EXPORT_NAME": "a b", "NBD_ERROR": "broken pipe", "NBD_TOOK": "1.5s", "NBD_CLIENT_UID": "7",
	}
	for field, text := range want {
		if got.fields[field] != text {
			t.Errorf("%s is %q, want %q", field, got.fields[field], text)
		}
	}
	if !strings.HasSuffix(got.fields["CODE_FILE"], "log_test.go") || got.fields["CODE_LINE"] == "" ||
		!strings.HasSuffix(got.fields["CODE_FUNC"], "TestJournalFields") {
		t.Errorf("source %q", got.fields)
	}
}

func TestJournalFieldNames(t *testing.T) {
	for _, test := range []struct{ path, want string }{
		{"volume", "VOLUME"}, {"a.b", "A_B"}, {"größe", "GR__E"}, {"9p", "CVOLD_9P"}, {"_pid", "CVOLD_PID"},
		{"", "CVOLD_"}, {"message", "CVOLD_MESSAGE"}, {"priority", "CVOLD_PRIORITY"},
		{strings.Repeat("x", 100), strings.Repeat("X", 64)},
	} {
		if got := fieldName(strings.Split(test.path, ".")); got != test.want {
			t.Errorf("%q becomes %q, want %q", test.path, got, test.want)
		}
	}
}

func TestJournalLevels(t *testing.T) {
	var r recorder
	logger := slog.New(newJournalHandler(slog.LevelDebug, r.send, slog.DiscardHandler))
	want := []struct {
		level    slog.Level
		priority journal.Priority
	}{
		{slog.LevelDebug, journal.PriDebug}, {slog.LevelInfo, journal.PriInfo}, {slog.LevelWarn, journal.PriWarning},
		{slog.LevelError, journal.PriErr}, {slog.LevelError + 4, journal.PriErr}, {slog.LevelInfo + 1, journal.PriInfo},
	}
	logger.Log(context.Background(), slog.LevelDebug-1, "hidden")
	for _, w := range want {
		logger.Log(context.Background(), w.level, "shown")
	}
	if len(r.entries) != len(want) {
		t.Fatalf("%d entries", len(r.entries))
	}
	for i, w := range want {
		if r.entries[i].priority != w.priority {
			t.Errorf("%v has priority %d, want %d", w.level, r.entries[i].priority, w.priority)
		}
	}
}

func TestJournalFallsBack(t *testing.T) {
	var out bytes.Buffer
	r := recorder{err: errors.New("journal is gone")}
	logger := slog.New(newJournalHandler(slog.LevelInfo, r.send, textHandler(&out, slog.LevelInfo, false)))
	logger.With("volume", "v1").WithGroup("g").Error("kept", "a", 1)
	if !strings.Contains(out.String(), "level=ERROR msg=kept volume=v1 g.a=1\n") {
		t.Errorf("got %q", &out)
	}
}

// TestJournalHandlerIsASlogHandler runs the standard library's suite on what arrives, read back into nested maps.
func TestJournalHandlerIsASlogHandler(t *testing.T) {
	var r recorder
	slogtest.Run(t, func(t *testing.T) slog.Handler {
		if strings.Contains(t.Name(), "zero-time") {
			t.Skip("journald stamps each entry itself; the record's time is not sent")
		}
		r = recorder{}
		return newJournalHandler(slog.LevelInfo, r.send, slog.DiscardHandler)
	}, func(t *testing.T) map[string]any {
		return nested(t, r.entries[0].message)
	})
}

// nested reads "message a=1 g.b=2" as the maps that slogtest wants.
func nested(t *testing.T, message string) map[string]any {
	t.Helper()
	text, rest, _ := strings.Cut(message, " ")
	result := map[string]any{slog.MessageKey: text, slog.LevelKey: "INFO", slog.TimeKey: "journald's"}
	for word := range strings.FieldsSeq(rest) {
		path, value, ok := strings.Cut(word, "=")
		if !ok {
			t.Fatalf("no = in %q of %q", word, message)
		}
		keys := strings.Split(path, ".")
		level := result
		for _, key := range keys[:len(keys)-1] {
			if level[key] == nil {
				level[key] = map[string]any{}
			}
			level = level[key].(map[string]any)
		}
		level[keys[len(keys)-1]] = value
	}
	return result
}
