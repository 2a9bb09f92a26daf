package ini

import (
	"slices"
	"strings"
)

// Default is the section of the options that belong to no group. Its name alone has a case.
const Default = "DEFAULT"

// Value is one assignment.
type Value struct {
	// Text is the value, with continuation lines after a newline each, and not yet expanded.
	Text string
	// File and Line say where it was assigned; Line counts from 1 and is that of the key.
	File string
	Line int
}

// File is what one or several files say. The zero value is an empty file. It is not changed after Parse or Merge, and so
// safe for concurrent use.
type File struct {
	sections []*Section
	index    map[string]*Section // by normalize(Name)
}

// Section is one group of keys. The zero value is an empty section.
type Section struct {
	// Name as it was first written.
	Name string
	// File and Line of the first header; empty and 0 if no file has such a section.
	File string
	Line int

	keys   []string
	values map[string][]Value
}

// Section returns the section of that name, empty if there is none. Case does not count, save for DEFAULT.
func (f *File) Section(name string) Section {
	if s := f.index[normalize(name)]; s != nil {
		return *s
	}
	return Section{Name: name}
}

// Sections are the names of all sections, as first written and in that order.
func (f *File) Sections() []string {
	names := make([]string, 0, len(f.sections))
	for _, s := range f.sections {
		names = append(names, s.Name)
	}
	return names
}

// Get returns what counts for key: its last value.
func (s Section) Get(key string) (Value, bool) {
	all := s.values[key]
	if len(all) == 0 {
		return Value{}, false
	}
	return all[len(all)-1], true
}

// All returns every value of key in the order of the files: what counts for an option that takes many (oslo's MultiStr).
func (s Section) All(key string) []Value { return slices.Clone(s.values[key]) }

// Keys are the section's keys in the order of their first assignment.
func (s Section) Keys() []string { return slices.Clone(s.keys) }

// Merge returns what the files say together. Later files win; a nil file says nothing. The files themselves stay as they are.
func Merge(files ...*File) *File {
	merged := &File{}
	for _, f := range files {
		if f == nil {
			continue
		}
		for _, s := range f.sections {
			merged.section(s.Name, s.File, s.Line).append(s)
		}
	}
	return merged
}

// normalize is the name under which a section is found.
func normalize(name string) string {
	if name == Default {
		return name
	}
	return strings.ToLower(name)
}

// section finds or adds a section.
func (f *File) section(name, file string, line int) *Section {
	if s := f.index[normalize(name)]; s != nil {
		return s
	}
	s := &Section{Name: name, File: file, Line: line, values: map[string][]Value{}}
	if f.index == nil {
		f.index = map[string]*Section{}
	}
	f.index[normalize(name)] = s
	f.sections = append(f.sections, s)
	return s
}

func (s *Section) add(key string, values ...Value) {
	if _, ok := s.values[key]; !ok {
		s.keys = append(s.keys, key)
	}
	s.values[key] = append(s.values[key], values...)
}

func (s *Section) append(other *Section) {
	for _, key := range other.keys {
		s.add(key, other.values[key]...)
	}
}
