package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cvold/cvold/internal/ini"
)

// reader takes options out of a file and collects what is wrong.
type reader struct {
	file     *ini.File
	hostname func() (string, error)
	// names are the enabled back ends that can be read.
	names    []string
	settings []Setting
	problems []error
	// secrets are values that may be secrets of Cinder's and are part of the agent's own.
	secrets map[string]bool
	// more counts the problems beyond maxProblems.
	more int
}

// maxProblems bounds what is said at once: more than a terminal has lines is not the one configuration of anybody, and what
// was probably meant takes long to find in a file of megabytes.
const maxProblems = 100

func newReader(file *ini.File, hostname func() (string, error)) *reader {
	return &reader{file: file, hostname: hostname, secrets: map[string]bool{}}
}

func (r *reader) section(name string) ini.Section { return r.file.Section(name) }

// full says that enough is wrong: more is not looked for at length.
func (r *reader) full() bool { return len(r.problems) >= maxProblems }

// problem adds what is wrong at the value's place; a place without a file is a default, or nothing at all. See said.
func (r *reader) problem(at ini.Value, format string, args ...any) {
	if r.full() {
		r.more++
		return
	}
	r.problems = append(r.problems, &problem{at, say(format, args...)})
}

// header is the place of a section's first header.
func header(s ini.Section) ini.Value { return ini.Value{File: s.File, Line: s.Line} }

// read sets all options of a section; what the section does not say is taken from the sections in also.
func read[T any](r *reader, section ini.Section, options []option[T], into *T, also ...string) {
	for _, o := range options {
		v, isSet := r.get(section, o.key, also)
		if !isSet {
			v.Text = o.preset
		}
		o.secret = o.secret || r.borrows(section.Name, v.Text)
		v, err := r.file.Expand(section.Name, v, r.fallback)
		if err != nil {
			r.problems = append(r.problems, err)
			continue
		}
		if v.Text != "" {
			if err := o.set(into, v.Text); err != nil {
				r.problem(v, "[%s] %s = %s: %v", section.Name, word(o.key), o.shown(v.Text), err)
			}
		}
		v.Text = o.shown(v.Text)
		r.record(section.Name, o.key, v)
	}
}

// get finds the value of a key. An empty one counts as not set.
func (r *reader) get(section ini.Section, key string, also []string) (ini.Value, bool) {
	if v, ok := section.Get(key); ok && v.Text != "" {
		return v, true
	}
	for _, name := range also {
		if v, ok := r.section(name).Get(key); ok && v.Text != "" {
			return v, true
		}
	}
	return ini.Value{}, false
}

// fallback is what an option that no file sets stands for in others' values.
func (r *reader) fallback(section, key string) (string, bool) {
	options := defaultOptions
	switch {
	case strings.EqualFold(section, own):
		options = ownOptions
	case section != ini.Default:
		return "", false
	case key == "host":
		name, err := r.hostname()
		return name, err == nil
	}
	i := slices.IndexFunc(options, func(o option[Config]) bool { return o.key == key })
	if i < 0 || options[i].preset == "" {
		return "", false
	}
	return options[i].preset, true
}

// record notes what counts for a key, and where that was said.
func (r *reader) record(section, key string, v ini.Value) {
	origin := byDefault
	if v.File != "" {
		origin = fmt.Sprintf("%s:%d", v.File, v.Line)
	}
	r.settings = append(r.settings, Setting{section, key, v.Text, origin})
}

// unknown reports the keys of a section that begin with prefix and are none of known.
func (r *reader) unknown(section ini.Section, prefix string, known []string) {
	for _, key := range section.Keys() {
		if !strings.HasPrefix(key, prefix) || slices.Contains(known, key) {
			continue
		}
		at, _ := section.Get(key)
		switch {
		case r.full():
			r.more++
		case slices.Contains(keys(defaultOptions), key):
			r.problem(at, "[%s] %s: belongs in [%s]", section.Name, word(key), word(ini.Default))
		default:
			r.problem(at, "[%s] %s: no such option: %s", section.Name, key, word(hint(key, known)))
		}
	}
}

// hint names the known key that is nearest to a wrong one, or all of them.
func hint(wrong string, known []string) string {
	if key := nearest(wrong, known); key != "" {
		return "did you mean " + key + "?"
	}
	return "there are " + strings.Join(known, ", ")
}

// nearest is the name that was probably meant, or "".
func nearest(wrong string, known []string) string {
	best, least := "", max(2, len(wrong)/3)+1
	for _, name := range known {
		if d := distance(strings.ToLower(wrong), strings.ToLower(name)); d < least {
			best, least = name, d
		}
	}
	return best
}

// maxDistance bounds what distance compares: keys are short, and a file's are anyone's.
const maxDistance = 64

// distance is Levenshtein's: the fewest letters to put in, take out or change that make b of a.
func distance(a, b string) int {
	if len(a) > maxDistance || len(b) > maxDistance {
		return max(len(a), len(b))
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		above := row[0]
		row[0] = i + 1
		for j := range len(b) {
			next := above
			if a[i] != b[j] {
				next = 1 + min(above, row[j], row[j+1])
			}
			above, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
