package volume

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/cvold/cvold/agent/catalog"
)

const (
	// typesMax is how many types a catalog may have: beyond any cloud's, and few enough to look through.
	typesMax = 1000
	// specsMax is how many extra specs a type may have, so that its record stays far below catalog.MaxRecord.
	specsMax = 128
)

// typeNamespace makes the ids of types of their names.
var typeNamespace = uuid.MustParse("7f1d6c5e-5f0b-5d0a-9d5c-6a0f3f0c7b11")

// specKey is what a key of an extra spec is made of (Cinder's api/validation/parameter_types.py extra_specs).
var specKey = regexp.MustCompile(`^[a-zA-Z0-9-_:. ]{1,255}$`)

// Types are all volume types, the newest first.
func (m *Manager) Types() (all []catalog.Type, err error) {
	err = m.o.Store.View(func(tx catalog.Tx) (err error) {
		all, err = catalog.Types.All(tx)
		return err
	})
	slices.SortStableFunc(all, func(a, b catalog.Type) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.Name, b.Name))
	})
	return all, err
}

// Type is the volume type of that id: ErrNotFound.
func (m *Manager) Type(id string) (t catalog.Type, err error) {
	err = m.o.Store.View(func(tx catalog.Tx) (err error) {
		t, err = getType(tx, id)
		return err
	})
	return t, err
}

func getType(tx catalog.Tx, id string) (catalog.Type, error) {
	t, err := catalog.Types.Get(tx, id)
	if errors.Is(err, catalog.ErrNotFound) || errors.Is(err, catalog.ErrInvalid) {
		return t, fmt.Errorf("volume type %q: %w", id, ErrNotFound)
	}
	return t, err
}

// typeOf finds a type by id or name; the zero Type for none. ErrInvalid names those that there are.
func (m *Manager) typeOf(idOrName string) (found catalog.Type, err error) {
	if idOrName == "" {
		return catalog.Type{}, nil
	}
	all, err := m.Types()
	var names []string
	for _, t := range all {
		names = append(names, t.Name)
		if t.ID == idOrName || t.Name == idOrName && found.ID == "" {
			found = t
		}
	}
	if err == nil && found.ID == "" {
		err = fmt.Errorf("volume type %q: %w: there is %s", idOrName, ErrInvalid, orNone(names))
	}
	return found, err
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// CreateType makes a volume type. Its id is made of the name, so that agents that know a type by one name know it by one
// id: a volume of the type can migrate between them. The name has 1 to 255 characters and is no other type's: ErrExists;
// ErrInvalid.
func (m *Manager) CreateType(name, description string, specs map[string]string) (catalog.Type, error) {
	t := catalog.Type{Name: name, Description: description, ExtraSpecs: maps.Clone(specs), CreatedAt: m.now()}
	if err := checkType(t); err != nil {
		return catalog.Type{}, err
	}
	err := m.o.Store.Update(func(tx catalog.Tx) error {
		all, err := catalog.Types.All(tx)
		if err != nil {
			return err
		}
		if len(all) >= typesMax {
			return fmt.Errorf("volume type %q: %w: there are %d types, more are not kept", name, ErrInvalid, len(all))
		}
		if err := freeName(all, t); err != nil {
			return err
		}
		t.ID = typeID(all, name)
		return catalog.Types.Put(tx, t.ID, t)
	})
	return t, err
}

// typeID is the id of a new type: of its name, or, if a type that was renamed has that id, any.
func typeID(all []catalog.Type, name string) string {
	id := uuid.NewSHA1(typeNamespace, []byte(name)).String()
	if slices.ContainsFunc(all, func(t catalog.Type) bool { return t.ID == id }) {
		return uuid.NewString()
	}
	return id
}

func freeName(all []catalog.Type, t catalog.Type) error {
	for _, other := range all {
		if other.ID != t.ID && other.Name == t.Name {
			return fmt.Errorf("volume type %s %w", t.Name, ErrExists)
		}
	}
	return nil
}

func checkType(t catalog.Type) error {
	if strings.TrimSpace(t.Name) == "" {
		return fmt.Errorf("volume type name can not be empty: %w", ErrInvalid)
	}
	if len(t.ExtraSpecs) > specsMax {
		return fmt.Errorf("%d extra specs: %w: %d are allowed", len(t.ExtraSpecs), ErrInvalid, specsMax)
	}
	for _, key := range sortedKeys(t.ExtraSpecs) {
		if !specKey.MatchString(key) {
			return fmt.Errorf("key %q of an extra spec: %w: want 1 to 255 letters, digits, blanks, dots, colons, - and _", key, ErrInvalid)
		}
		if err := checkText("extra spec "+key, t.ExtraSpecs[key]); err != nil {
			return err
		}
	}
	return errors.Join(checkText("name", t.Name), checkText("description", t.Description))
}

// UpdateType renames or describes a type; nil leaves what is there. ErrNotFound, ErrExists, ErrInvalid.
func (m *Manager) UpdateType(id string, name, description *string) (catalog.Type, error) {
	return m.changeType(id, func(_ catalog.Tx, t *catalog.Type) error {
		if name != nil {
			t.Name = *name
		}
		if description != nil {
			t.Description = *description
		}
		return nil
	})
}

// ChangeExtraSpecs sets and removes extra specs of a type that no volume has (Cinder:
// allow_inuse_volume_type_modification). ErrNotFound for the type, and for a key to remove that it has not; ErrInUse,
// ErrInvalid.
func (m *Manager) ChangeExtraSpecs(id string, set map[string]string, unset ...string) (catalog.Type, error) {
	return m.changeType(id, func(tx catalog.Tx, t *catalog.Type) error {
		if err := unusedType(tx, *t); err != nil {
			return err
		}
		specs := maps.Clone(t.ExtraSpecs)
		if specs == nil {
			specs = map[string]string{}
		}
		for _, key := range unset {
			if _, ok := specs[key]; !ok {
				return fmt.Errorf("extra spec %q of volume type %s: %w", key, t.Name, ErrNotFound)
			}
			delete(specs, key)
		}
		maps.Copy(specs, set)
		t.ExtraSpecs = specs
		return nil
	})
}

// changeType rewrites the record of a type in one transaction.
func (m *Manager) changeType(id string, fn func(tx catalog.Tx, t *catalog.Type) error) (t catalog.Type, err error) {
	err = m.o.Store.Update(func(tx catalog.Tx) error {
		if t, err = getType(tx, id); err != nil {
			return err
		}
		if err := fn(tx, &t); err != nil {
			return err
		}
		if err := checkType(t); err != nil {
			return err
		}
		all, err := catalog.Types.All(tx)
		if err != nil {
			return err
		}
		if err := freeName(all, t); err != nil {
			return err
		}
		return catalog.Types.Put(tx, id, t)
	})
	return t, err
}

// DeleteType removes a type that no volume has: ErrNotFound, ErrInUse.
func (m *Manager) DeleteType(id string) error {
	return m.o.Store.Update(func(tx catalog.Tx) error {
		t, err := getType(tx, id)
		if err != nil {
			return err
		}
		if err := unusedType(tx, t); err != nil {
			return err
		}
		return catalog.Types.Delete(tx, id)
	})
}

// unusedType refuses what would change the volumes of a type.
func unusedType(tx catalog.Tx, t catalog.Type) error {
	volumes, err := catalog.Volumes.All(tx)
	if err != nil {
		return err
	}
	n := 0
	for _, v := range volumes {
		if v.TypeID == t.ID {
			n++
		}
	}
	if n > 0 {
		return fmt.Errorf("volume type %s %w: %d volumes have it", t.Name, ErrInUse, n)
	}
	return nil
}
