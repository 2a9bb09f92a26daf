package volume

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cvold/cvold/agent/catalog"
)

// specBackendName is the extra spec by which a type chooses back ends (Cinder's volume_backend_name).
const specBackendName = "volume_backend_name"

// choose is the back end for a new volume: of those that are not disabled, have what the type asks for, and have room, the
// one with the most free space, as Cinder's default filters and weigher choose. If there is none, the error says why of
// each: ErrNoSpace if it is for want of room alone, else ErrNoBackend.
func (m *Manager) choose(ctx context.Context, r CreateRequest, typ catalog.Type) (Backend, error) {
	candidates, err := m.candidates(r.Host)
	if err != nil {
		return Backend{}, err
	}
	var best Backend
	var free int64 = -1
	var reasons []string
	var errs []error
	full := true
	for _, b := range candidates {
		c, reason, err := m.fit(ctx, b, typ)
		switch {
		case err != nil:
			errs, full = append(errs, err), false
		case reason != "":
			reasons, full = append(reasons, fmt.Sprintf("%s: %s", c.Host, reason)), false
		case c.Stats.Free < r.Size:
			reasons = append(reasons, fmt.Sprintf("%s: it has %d bytes free", c.Host, c.Stats.Free))
		case c.Stats.Free > free:
			best, free = b, c.Stats.Free
		}
	}
	switch why := strings.Join(reasons, "; "); {
	case free >= 0:
		return best, nil
	case full && len(reasons) > 0:
		return Backend{}, fmt.Errorf("%w for %d bytes: %s", ErrNoSpace, r.Size, why)
	case len(candidates) == 0:
		return Backend{}, fmt.Errorf("%w: this node has none", ErrNoBackend)
	case len(reasons) == 0:
		return Backend{}, fmt.Errorf("no back end answers: %w", errors.Join(errs...))
	default:
		for _, err := range errs {
			why += "; " + err.Error()
		}
		return Backend{}, fmt.Errorf("%w for this volume: %s", ErrNoBackend, why)
	}
}

// fit says why a back end cannot have volumes of a type; empty if it can. The error is the back end's own.
func (m *Manager) fit(ctx context.Context, b Backend, typ catalog.Type) (c Capabilities, reason string, err error) {
	if c, err = m.Capabilities(ctx, b); err != nil {
		return c, "", err
	}
	if reason, err = m.disabled(b); err != nil || reason != "" {
		return c, reason, err
	}
	if reason = c.lacking(typ.ExtraSpecs); reason != "" {
		reason = fmt.Sprintf("volume type %s: %s", typ.Name, reason)
	}
	return c, reason, nil
}

// candidates are the back ends of this node, or the one that is asked for.
func (m *Manager) candidates(host string) ([]Backend, error) {
	if host == "" {
		return m.Backends(), nil
	}
	if !strings.ContainsAny(host, "@#") {
		host = m.o.Node + "@" + host
	}
	b, err := m.Backend(host)
	return []Backend{b}, err
}
