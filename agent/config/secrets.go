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
	if v, err := r.file.Expand(ref.Section, v, r.fallback); err == nil && v.Text != "" {
		r.secrets[v.Text] = true
	}
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
	for _, problem := range r.problems {
		var placed *ini.Error
		if errors.As(problem, &placed) {
			all = append(all, &ini.Error{File: placed.File, Line: placed.Line, Problem: r.mask(placed.Problem)})
		} else {
			all = append(all, errors.New(r.mask(problem.Error())))
		}
	}
	if r.more > 0 {
		all = append(all, fmt.Errorf("and %d more", r.more))
	}
	return errors.Join(all...)
}
