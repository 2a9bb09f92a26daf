package volume

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// nameMax is the longest name, description, host or metadata text in characters: the width of Cinder's columns.
const nameMax = 255

// Host says where an object is: Cinder's host string node@backend#pool in its three levels. Each is set.
type Host struct {
	Node, Backend, Pool string
}

// String is node@backend#pool.
func (h Host) String() string { return h.Node + "@" + h.Backend + "#" + h.Pool }

// Service is node@backend, the name of the service that serves the host.
func (h Host) Service() string { return h.Node + "@" + h.Backend }

// ParseHost splits node@backend#pool as Cinder does (volume_utils.extract_host: first at '#', then at '@'). Without
// #pool the pool has the back end's own name. ErrInvalid says what is wrong; parts with blanks, characters that do not
// print or a second '@' or '#' are refused, and more than 255 characters in all.
func ParseHost(s string) (Host, error) {
	if err := checkHost(s); err != nil {
		return Host{}, err
	}
	service, pool, hasPool := strings.Cut(s, "#")
	node, backend, hasBackend := strings.Cut(service, "@")
	if !hasPool {
		pool = backend
	}
	for _, part := range []string{node, backend, pool} {
		if !hasBackend || part == "" || strings.ContainsAny(part, "@#") {
			return Host{}, fmt.Errorf("host %q is not node@backend#pool: %w", s, ErrInvalid)
		}
	}
	h := Host{node, backend, pool}
	if err := checkHost(h.String()); err != nil {
		return Host{}, err
	}
	return h, nil
}

func checkHost(s string) error {
	if n := utf8.RuneCountInString(s); n > nameMax {
		return fmt.Errorf("host has %d characters, %d are allowed: %w", n, nameMax, ErrInvalid)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("host %q is not UTF-8: %w", s, ErrInvalid)
	}
	for _, r := range s {
		if unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return fmt.Errorf("host %q has a character that does not print: %w", s, ErrInvalid)
		}
	}
	return nil
}
