package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
)

// maxField is the longest name of a journal field in bytes (journald's own limit, journal_field_valid).
const maxField = 64

// journalHandler writes each record as one entry of the journal: MESSAGE is what a text log would show without time and
// level, and each attribute is a field of its own, so that `journalctl VOLUME=…` finds a volume's entries.
type journalHandler struct {
	level    slog.Leveler
	send     func(message string, priority journal.Priority, fields map[string]string) error
	fallback slog.Handler
	groups   []string // open groups
	attrs    []attr   // attributes so far
}

// attr is an attribute with the path of groups above it.
type attr struct {
	path  []string
	value slog.Value
}

func newJournalHandler(level slog.Leveler, send func(string, journal.Priority, map[string]string) error, fallback slog.Handler) slog.Handler {
	return &journalHandler{level: level, send: send, fallback: fallback}
}

// Enabled reports whether records of that level are written.
func (h *journalHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

// WithAttrs adds attributes to every record.
func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.attrs = slices.Clone(h.attrs)
	for _, a := range attrs {
		next.attrs = appendAttr(next.attrs, h.groups, a)
	}
	next.fallback = h.fallback.WithAttrs(attrs)
	return &next
}

// WithGroup puts later attributes below name.
func (h *journalHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	next := *h
	next.groups = append(slices.Clip(h.groups), name)
	next.fallback = h.fallback.WithGroup(name)
	return &next
}

// Handle sends one entry. If the journal does not take it, it goes to the fallback, which systemd connects to the same
// journal by another way.
func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	attrs := slices.Clone(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		attrs = appendAttr(attrs, h.groups, a)
		return true
	})
	fields := source(r.PC)
	message := strings.Builder{}
	message.WriteString(r.Message)
	for _, a := range attrs {
		text := valueText(a.value)
		fields[fieldName(a.path)] = text
		fmt.Fprintf(&message, " %s=%s", strings.Join(a.path, "."), quote(text))
	}
	if err := h.send(message.String(), priority(r.Level), fields); err != nil {
		return h.fallback.Handle(ctx, r)
	}
	return nil
}

// appendAttr resolves a and flattens groups, after the rules of slog.Handler: a group without attributes is left out, one
// without a name is inlined, and so is an attribute that is empty.
func appendAttr(attrs []attr, groups []string, a slog.Attr) []attr {
	value := a.Value.Resolve()
	if a.Equal(slog.Attr{}) {
		return attrs
	}
	if value.Kind() != slog.KindGroup {
		return append(attrs, attr{append(slices.Clip(groups), a.Key), value})
	}
	if a.Key != "" {
		groups = append(slices.Clip(groups), a.Key)
	}
	for _, inner := range value.Group() {
		attrs = appendAttr(attrs, groups, inner)
	}
	return attrs
}

func valueText(v slog.Value) string {
	if v.Kind() == slog.KindTime {
		return v.Time().Format(time.RFC3339Nano)
	}
	return v.String()
}

// quote makes a value of the message one word.
func quote(text string) string {
	if text != "" && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == '"' || r == '=' || !strconv.IsPrint(r) }) {
		return text
	}
	return strconv.Quote(text)
}

// source says where the record was made, under the journal's own names.
func source(pc uintptr) map[string]string {
	fields := map[string]string{}
	if pc == 0 {
		return fields
	}
	frame, _ := runtime.CallersFrames([]uintptr{pc}).Next()
	fields["CODE_FILE"], fields["CODE_LINE"], fields["CODE_FUNC"] = frame.File, strconv.Itoa(frame.Line), frame.Function
	return fields
}

// reserved are the fields with a meaning of their own, which an attribute must not take.
var reserved = []string{"MESSAGE", "MESSAGE_ID", "PRIORITY", "CODE_FILE", "CODE_LINE", "CODE_FUNC", "ERRNO"}

// fieldName is the path in the journal's alphabet: upper case letters, digits and _, neither _ nor a digit first, at most
// 64 bytes.
func fieldName(path []string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		default:
			return '_'
		}
	}, strings.Join(path, "_"))
	if name == "" || name[0] == '_' || (name[0] >= '0' && name[0] <= '9') || slices.Contains(reserved, name) {
		name = "CVOLD_" + strings.TrimLeft(name, "_")
	}
	return name[:min(len(name), maxField)]
}

// priority is the syslog level that stands for a level of slog.
func priority(level slog.Level) journal.Priority {
	switch {
	case level >= slog.LevelError:
		return journal.PriErr
	case level >= slog.LevelWarn:
		return journal.PriWarning
	case level >= slog.LevelInfo:
		return journal.PriInfo
	default:
		return journal.PriDebug
	}
}
