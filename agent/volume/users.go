package volume

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
)

// UserKind is what sort of user has a volume open.
type UserKind string

// The kinds of users. Exports come by Export alone, and are durable as attachments; the others last as long as their
// handle.
const (
	UserExport    UserKind = "export"
	UserView      UserKind = "view"
	UserMigration UserKind = "migration"
)

// User is someone who has a volume open.
type User struct {
	Kind UserKind
	// Name is the export's name, the migration's id, or whatever tells a view's users apart; not empty.
	Name string
}

// String is the kind and the name.
func (u User) String() string { return string(u.Kind) + " " + u.Name }

// use is one opened device, or one that is being opened.
type use struct {
	user     User
	volumeID string
	backend  string // the section's name
	object   string // the object's name there
	identity string
	writable bool
	// abandoned: the device did not close in its time, and I/O may still land. Such a use stays until the process ends.
	abandoned bool
}

func newUse(b Backend, v dataplane.Volume, u User, mode dataplane.Mode) *use {
	return &use{
		user: u, volumeID: v.ID, backend: b.Name, object: v.Name, identity: v.Identity,
		writable: !mode.ReadOnly && !mode.Medium,
	}
}

// sameObject compares the objects: by identity, and by name for one that has none yet or was renamed meanwhile.
func (n *use) sameObject(o *use) bool {
	return n.backend == o.backend && (n.object == o.object || n.identity != "" && n.identity == o.identity)
}

// excludes is why n cannot be while o is, or nil.
func (n *use) excludes(o *use) error {
	same := n.sameObject(o)
	switch {
	case o.abandoned && same:
		return dataplane.ErrAbandoned
	case o.abandoned || n.volumeID != o.volumeID && !same || n.user == o.user && n.user.Kind == UserMigration:
		return nil
	case o.user.Kind == UserMigration:
		return ErrMigrating
	case n.user.Kind == UserMigration:
		return ErrInUse
	case n.writable && o.writable && (n.user.Kind != UserView || o.user.Kind != UserView):
		// Writers through the one view share its page cache; all others know nothing of each other.
		return ErrInUse
	}
	return nil
}

// reserve adds n to the uses if none of them excludes it. called names the volume in the error.
func (m *Manager) reserve(n *use, called string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for o := range m.uses {
		if err := n.excludes(o); err != nil {
			return fmt.Errorf("%s: %s: %w: %s", called, o.user, err, wayOut(err))
		}
	}
	m.uses[n] = struct{}{}
	return nil
}

// wayOut is what a person can do about a use that excludes another.
func wayOut(err error) string {
	switch err {
	case dataplane.ErrAbandoned:
		return "when the back end answers again, restart the agent"
	case ErrMigrating:
		return "wait for its end, or abort it"
	}
	return "end this use first"
}

// drop gives a use back.
func (m *Manager) drop(u *use) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.uses, u)
}

// Users are those who have the volume open now, each once, exports first. Attachments that are not served are not among
// them, nor devices that were abandoned.
func (m *Manager) Users(id string) []User {
	m.mu.Lock()
	defer m.mu.Unlock()
	var users []User
	for u := range m.uses {
		if u.volumeID == id && !u.abandoned {
			users = append(users, u.user)
		}
	}
	slices.SortFunc(users, func(a, b User) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return slices.Compact(users)
}

// hung is the use that was abandoned on the object of v, or nil.
func (m *Manager) hung(b Backend, v dataplane.Volume) *use {
	object := newUse(b, v, User{}, dataplane.Mode{})
	m.mu.Lock()
	defer m.mu.Unlock()
	for u := range m.uses {
		if u.abandoned && u.sameObject(object) {
			return u
		}
	}
	return nil
}

// notHung is dataplane.ErrAbandoned, in a sentence, while a device of v's object is abandoned. A back end that is not
// configured any more has none.
func (m *Manager) notHung(v catalog.Volume) error {
	b, err := m.Backend(v.Host)
	if err != nil {
		return nil
	}
	if u := m.hung(b, v.Volume); u != nil {
		return fmt.Errorf("%s: %s: %w: %s", called(v), u.user, dataplane.ErrAbandoned, wayOut(dataplane.ErrAbandoned))
	}
	return nil
}

// unused is nil if v has no users but those that allowed accepts, and no attachments; else ErrInUse, or ErrAbandoned,
// naming them.
func (m *Manager) unused(v catalog.Volume, attached []catalog.Attachment, allowed func(User) bool) error {
	if err := m.notHung(v); err != nil {
		return err
	}
	var who []string
	for _, a := range attached {
		who = append(who, m.describeExport(a.Export))
	}
	for _, u := range m.Users(v.ID) {
		if u.Kind != UserExport && !allowed(u) {
			who = append(who, u.String())
		}
	}
	if len(who) == 0 {
		return nil
	}
	return fmt.Errorf("%s %w by %s: end this use first", called(v), ErrInUse, strings.Join(who, ", "))
}

// nobody allows no user.
func nobody(User) bool { return false }

// describeExport names an export with its connections.
func (m *Manager) describeExport(name string) string {
	switch n, served := m.connections(name); {
	case !served:
		return fmt.Sprintf("export %s (not served)", name)
	case n == 1:
		return fmt.Sprintf("export %s (1 connection)", name)
	default:
		return fmt.Sprintf("export %s (%d connections)", name, n)
	}
}
