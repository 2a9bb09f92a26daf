package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Table is typed access to one table: records as JSON, each under the key that it carries itself.
type Table[T any] struct {
	name string
	key  func(T) string
}

// The tables of a catalog.
var (
	// Volumes by id.
	Volumes = Table[Volume]{"volumes", func(v Volume) string { return v.ID }}
	// Types by id.
	Types = Table[Type]{"types", func(t Type) string { return t.ID }}
	// Services by host.
	Services = Table[Service]{"services", func(s Service) string { return s.Host }}
	// Attachments by id.
	Attachments = Table[Attachment]{"attachments", func(a Attachment) string { return a.ID }}
	// Stubs by the id of the volume that moved away.
	Stubs = Table[Stub]{"stubs", func(s Stub) string { return s.VolumeID }}
	// Migrations by id.
	Migrations = Table[Migration]{"migrations", func(m Migration) string { return m.ID }}
	// Guests by the id of the migration.
	Guests = Table[Guest]{"guests", func(g Guest) string { return g.MigrationID }}
)

// tables are the names of all tables, in the order above.
var tables = []string{
	Volumes.name, Types.name, Services.name, Attachments.name, Stubs.name, Migrations.name, Guests.name,
}

// Name is the table's name in a Tx.
func (t Table[T]) Name() string { return t.name }

// Get returns the record with key: ErrNotFound, ErrCorrupt.
func (t Table[T]) Get(tx Tx, key string) (T, error) {
	value, err := tx.Get(t.name, key)
	if err != nil {
		var none T
		return none, err
	}
	return t.decode(key, value)
}

// Put writes record under key, which must be the record's own: ErrInvalid.
func (t Table[T]) Put(tx Tx, key string, record T) error {
	if own := t.key(record); own != key {
		return fmt.Errorf("%s: key %q for the record of %q: %w", t.name, key, own, ErrInvalid)
	}
	value, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("%s %s: %w", t.name, key, errors.Join(ErrInvalid, err))
	}
	return tx.Put(t.name, key, value)
}

// Delete removes the record with key; deleting nothing is success.
func (t Table[T]) Delete(tx Tx, key string) error { return tx.Delete(t.name, key) }

// All returns every record in the order of keys. A record that cannot be read ends it with ErrCorrupt.
func (t Table[T]) All(tx Tx) ([]T, error) {
	var all []T
	err := tx.Each(t.name, func(key string, value []byte) error {
		record, err := t.decode(key, value)
		all = append(all, record)
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

func (t Table[T]) decode(key string, value []byte) (T, error) {
	var record T
	if err := json.Unmarshal(value, &record); err != nil {
		return record, fmt.Errorf("%s %s: %w: %w", t.name, key, ErrCorrupt, err)
	}
	return record, nil
}
