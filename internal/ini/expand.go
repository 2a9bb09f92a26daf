package ini

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// maxDepth bounds how deep values may name each other; oslo.config has only Python's stack.
const maxDepth = 32

// reference finds what oslo.config's template does: "$$" and "\$", "$name" and "${name}". Names may hold dots, with or
// without braces; a $ that begins none of them is left alone.
var reference = regexp.MustCompile(`\$\$|\\\$|\$(?i:([_a-z][._a-z0-9]*))|\$\{(?i:([_a-z][._a-z0-9]*))\}`)

// Expand returns v, found in section, with every reference replaced by the value it names, itself expanded. "name" is
// looked for in section and then in DEFAULT, "group.name" in group. fallback answers for options that no file sets with their
// default; it may be nil. A name that nobody knows, a circle, and a result beyond MaxValueSize are an *Error at v's line.
func (f *File) Expand(section string, v Value, fallback func(section, key string) (string, bool)) (Value, error) {
	e := expansion{file: f, fallback: fallback, origin: v}
	text, err := e.expand(section, v.Text, nil)
	if err != nil {
		return Value{}, err
	}
	v.Text = text
	return v, nil
}

// Reference is one option that a value is made of.
type Reference struct{ Section, Key string }

// References are the options that text, found in section, is made of when it is expanded, at any depth, each once and in
// no order. Those that no file sets are among them under the section that the name says, or DEFAULT. Section names are in
// small letters, but for DEFAULT.
func (f *File) References(section, text string) []Reference {
	e, seen := expansion{file: f}, map[Reference]bool{}
	found := e.references(section, text)
	for i := 0; i < len(found); i++ {
		if !seen[found[i].Reference] {
			found = append(found, e.references(found[i].Section, found[i].text)...)
		}
		seen[found[i].Reference] = true
	}
	return slices.Collect(maps.Keys(seen))
}

// named is a reference and the text it stands for.
type named struct {
	Reference
	text string
}

// references are those that stand in text itself.
func (e *expansion) references(section, text string) []named {
	var all []named
	for _, m := range reference.FindAllStringSubmatch(text, -1) {
		name := m[1] + m[2]
		if name == "" {
			continue // a dollar sign
		}
		in, text, ok := e.lookup(section, name)
		if !ok && in == "" {
			in = Default
		}
		_, key, dotted := strings.Cut(name, ".")
		if !dotted {
			key = name
		}
		all = append(all, named{Reference{normalize(in), key}, text})
	}
	return all
}

// expansion is one call of Expand.
type expansion struct {
	file     *File
	fallback func(section, key string) (string, bool)
	origin   Value
	produced int // bytes made so far, over all levels: values that double each other must not fill the memory
}

func (e *expansion) errorf(format string, args ...any) error {
	return &Error{File: e.origin.File, Line: e.origin.Line, Problem: fmt.Sprintf(format, args...)}
}

// expand replaces the references in text; path holds the names that led here.
func (e *expansion) expand(section, text string, path []string) (string, error) {
	if !strings.Contains(text, "$") {
		return text, e.count(len(text))
	}
	var out strings.Builder
	end := 0
	for _, m := range reference.FindAllStringSubmatchIndex(text, -1) {
		out.WriteString(text[end:m[0]])
		end = m[1]
		value, err := e.replace(section, text, m, path)
		if err != nil {
			return "", err
		}
		out.WriteString(value)
	}
	out.WriteString(text[end:])
	return out.String(), e.count(out.Len())
}

func (e *expansion) count(n int) error {
	if e.produced += n; e.produced > MaxValueSize {
		return e.errorf("expands to more than %d bytes", MaxValueSize)
	}
	return nil
}

// replace answers one match of reference.
func (e *expansion) replace(section, text string, m []int, path []string) (string, error) {
	switch {
	case m[2] >= 0:
		return e.value(section, text[m[2]:m[3]], path)
	case m[4] >= 0:
		return e.value(section, text[m[4]:m[5]], path)
	default:
		return "$", nil
	}
}

func (e *expansion) value(section, name string, path []string) (string, error) {
	in, text, ok := e.lookup(section, name)
	if !ok {
		return "", e.errorf("$%s is set nowhere: set it, or write $$ for a dollar sign", name)
	}
	for _, before := range path {
		if before == in+"."+name {
			return "", e.errorf("$%s is made of itself", name)
		}
	}
	if len(path) == maxDepth {
		return "", e.errorf("$%s is more than %d references deep", name, maxDepth)
	}
	return e.expand(in, text, append(path, in+"."+name))
}

// lookup finds the section in which name is set, and its text.
func (e *expansion) lookup(section, name string) (in, text string, ok bool) {
	if group, key, dotted := strings.Cut(name, "."); dotted {
		text, ok = e.get(group, key)
		return group, text, ok
	}
	for _, in := range []string{section, Default} {
		if text, ok := e.get(in, name); ok {
			return in, text, true
		}
	}
	return "", "", false
}

func (e *expansion) get(section, key string) (string, bool) {
	if v, ok := e.file.Section(section).Get(key); ok {
		return v.Text, true
	}
	if e.fallback == nil {
		return "", false
	}
	return e.fallback(section, key)
}
