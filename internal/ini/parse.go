package ini

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The limits. A real cinder.conf with every option in it and commented is about 250 KiB.
const (
	// MaxFileSize bounds what Parse reads, in bytes.
	MaxFileSize = 4 << 20
	// MaxValueSize bounds one value with its continuations, and one expanded value, in bytes.
	MaxValueSize = 64 << 10
	// MaxSections bounds the sections of a file: a node has a few dozen back ends.
	MaxSections = 4096
)

// Error is something in a file that cannot be meant.
type Error struct {
	File string
	// Line counts from 1; 0 is the file as a whole.
	Line int
	// Problem says what is wrong, and what would be right.
	Problem string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Problem)
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Problem)
}

// Parse reads one file; name is for messages alone. The first thing that cannot be meant ends it with an *Error; an error
// of r comes back wrapped.
func Parse(name string, r io.Reader) (*File, error) {
	text, err := readAll(name, r)
	if err != nil {
		return nil, err
	}
	p := parser{name: name, file: &File{}}
	for line := range strings.SplitSeq(text, "\n") {
		p.line++
		if err := p.take(strings.TrimRightFunc(line, blank)); err != nil {
			return nil, err
		}
	}
	p.flush()
	return p.file, nil
}

// readAll returns the text with every line's end as "\n", as Python reads it.
func readAll(name string, r io.Reader) (string, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxFileSize+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("read %s: %w", name, err)
	case len(data) > MaxFileSize:
		return "", &Error{File: name, Problem: fmt.Sprintf("longer than %d bytes: name a configuration file, or leave out its comments", MaxFileSize)}
	case bytes.IndexByte(data, 0) >= 0:
		return "", &Error{File: name, Line: lineAt(data, bytes.IndexByte(data, 0)), Problem: "not a text file: name a configuration file"}
	case bytes.HasPrefix(data, []byte(byteOrderMark)):
		return "", &Error{File: name, Line: 1, Problem: "begins with a byte order mark: save the file as UTF-8 without one"}
	case !utf8.Valid(data):
		return "", &Error{File: name, Line: lineAt(data, firstInvalid(data)), Problem: "not UTF-8: save the file in that encoding"}
	}
	return strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(data)), nil
}

// byteOrderMark is what some editors put before UTF-8; no section can stand behind it, in oslo.config neither.
const byteOrderMark = "\ufeff"

// lineAt is the line of the byte at offset.
func lineAt(data []byte, offset int) int { return 1 + bytes.Count(data[:offset], []byte("\n")) }

// firstInvalid is the offset of the first byte that is not UTF-8, or all of data.
func firstInvalid(data []byte) int {
	for at := 0; at < len(data); {
		r, size := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && size == 1 {
			return at
		}
		at += size
	}
	return len(data)
}

// parser is the state between two lines: the section, and the assignment that a continuation may still follow.
type parser struct {
	name    string
	line    int
	file    *File
	section *Section
	key     string // empty: no assignment is open
	begin   int    // the line of key
	lines   []string
	size    int // of lines, in bytes
}

// errorf is an *Error at this line.
func (p *parser) errorf(format string, args ...any) error {
	return &Error{File: p.name, Line: p.line, Problem: fmt.Sprintf(format, args...)}
}

// take takes one line without its trailing spaces.
func (p *parser) take(line string) error {
	if line == "" {
		p.flush()
		return nil
	}
	if line[0] == ' ' || line[0] == '\t' {
		return p.continuation(strings.TrimLeftFunc(line, blank))
	}
	p.flush()
	switch line[0] {
	case '[':
		return p.header(line)
	case '#', ';':
		return nil
	default:
		return p.assignment(line)
	}
}

// flush ends the open assignment.
func (p *parser) flush() {
	if p.key != "" {
		p.section.add(p.key, Value{Text: strings.Join(p.lines, "\n"), File: p.name, Line: p.begin})
		p.key, p.lines, p.size = "", nil, 0
	}
}

func (p *parser) continuation(text string) error {
	if p.key == "" {
		return p.errorf("a line that begins with a space continues a value, and there is none above: "+
			"begin %q in the first column", excerpt(text))
	}
	return p.extend(text)
}

func (p *parser) header(line string) error {
	if !strings.HasSuffix(line, "]") {
		return p.errorf("section %q does not end with ]: nothing may follow it, comments have lines of their own", excerpt(line))
	}
	name := line[1 : len(line)-1]
	if name == "" {
		return p.errorf("section without a name: write [name]")
	}
	p.section = p.file.section(name, p.name, p.line)
	if len(p.file.sections) > MaxSections {
		return p.errorf("more than %d sections", MaxSections)
	}
	return nil
}

func (p *parser) assignment(line string) error {
	end := strings.IndexAny(line, "=:")
	if end < 0 {
		return p.errorf("no = or : in %q: write key = value", excerpt(line))
	}
	key := strings.TrimFunc(line[:end], blank)
	if key == "" {
		return p.errorf("no key before the %q of %q: write key = value", line[end], excerpt(line))
	}
	if p.section == nil {
		return p.errorf("key %q stands before any section: begin the file with [%s]", excerpt(key), Default)
	}
	p.key, p.begin = key, p.line
	return p.extend(unquote(strings.TrimFunc(line[end+1:], blank)))
}

// extend adds one line to the open assignment.
func (p *parser) extend(text string) error {
	p.lines = append(p.lines, text)
	if p.size += len(text) + 1; p.size+len(p.key) > MaxValueSize {
		return p.errorf("the value of %q is longer than %d bytes", excerpt(p.key), MaxValueSize)
	}
	return nil
}

// blank is what Python's strip takes off: the separators of ASCII too.
func blank(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

// unquote takes one matching pair of quotes away. As in oslo.config a lone quote is its own pair.
func unquote(value string) string {
	if value == "" || (value[0] != '"' && value[0] != '\'') || value[0] != value[len(value)-1] {
		return value
	}
	return value[1:max(1, len(value)-1)]
}

// excerpt keeps messages readable, and secrets out of them: it ends before the value of an assignment.
func excerpt(text string) string {
	const longest = 40
	if end := strings.IndexAny(text, "=:"); end > 0 {
		text = text[:end+1] + "…"
	}
	if runes := []rune(text); len(runes) > longest {
		text = string(runes[:longest]) + "…"
	}
	return text
}
