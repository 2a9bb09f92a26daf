package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cvold/cvold/internal/ini"
)

// borrows says that a value is made of options that are not the agent's: what Cinder keeps there may be a secret.
func (r *reader) borrows(section, text string) bool {
	found := false
	for _, ref := range r.file.References(section, text) {
		known := slices.Concat(keys(backendOptions), keys(peerOptions))
		switch {
		case ref.Section == ini.Default:
			known = keys(defaultOptions)
		case strings.EqualFold(ref.Section, own):
			known = keys(ownOptions)
		}
		if !slices.Contains(known, ref.Key) {
			found = true
			r.keepSecret(ref)
		}
	}
	return found
}

// keepSecret keeps what an option stands for out of all that is said later: a part of a value may stand in a message too.
func (r *reader) keepSecret(ref ini.Reference) {
	v, _ := r.section(ref.Section).Get(ref.Key)
	v, err := r.file.Expand(ref.Section, v, r.fallback)
	if err != nil || v.Text == "" {
		return
	}
	r.secrets[v.Text] = true
	for _, entry := range parseList(v.Text) { // messages have them one by one
		r.secrets[entry] = true
	}
}

// said is a message of which the parts that are not its own words are known, for a secret as short as a blank stands in any
// words. A string or error among args is a value, or has one in it, unless it is a word.
type said struct {
	text, format string
	args         []any
}

func say(format string, args ...any) *said { return &said{fmt.Sprintf(format, args...), format, args} }

// word is an argument of a message that is no value: the name of an option, of a section of ours, of a driver.
type word string

func (s *said) Error() string { return s.text }

// problem is what is wrong at a place.
type problem struct {
	at ini.Value
	*said
}

func (p *problem) Error() string { return placed(p.at, p.text).Error() }

// placed is the text as the error of a place, if it is one.
func placed(at ini.Value, text string) error {
	if at.File == "" {
		return errors.New(text)
	}
	return &ini.Error{File: at.File, Line: at.Line, Problem: text}
}

// shown is what err says, without the secrets.
func (r *reader) shown(err error) string {
	s, ok := err.(*said)
	if !ok {
		return r.mask(err.Error())
	}
	args := slices.Clone(s.args)
	for i, arg := range args {
		switch arg := arg.(type) {
		case string:
			args[i] = r.mask(arg)
		case error:
			args[i] = r.shown(arg)
		}
	}
	return fmt.Sprintf(s.format, args...)
}

// mask is text without the secrets.
func (r *reader) mask(text string) string {
	longestFirst := func(a, b string) int { return len(b) - len(a) }
	for _, secret := range slices.SortedFunc(maps.Keys(r.secrets), longestFirst) {
		text = strings.ReplaceAll(text, secret, hidden)
	}
	return text
}

// wrong joins all that is wrong, without the secrets; nil if nothing is.
func (r *reader) wrong() error {
	all := make([]error, 0, len(r.problems)+1)
	for _, err := range r.problems {
		if p, ok := err.(*problem); ok {
			err = placed(p.at, r.shown(p.said))
		}
		all = append(all, err) // others are of references, and have names in them alone
	}
	if r.more > 0 {
		all = append(all, fmt.Errorf("and %d more", r.more))
	}
	return errors.Join(all...)
}
