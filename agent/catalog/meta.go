package catalog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"
)

const (
	metaTable = "meta"
	metaKey   = "store"
)

// storeMeta is the record of the store itself, the only one of table meta.
type storeMeta struct {
	// Schema is the version of tables and records.
	Schema  int       `json:"schema"`
	StoreID string    `json:"store_id"`
	Created time.Time `json:"created"`
	// Session counts how often the store was opened.
	Session uint64 `json:"session"`
	// Restored says that the store went back in time, and nobody has cleared it since.
	Restored bool `json:"restored,omitempty"`
	// LastToken is the highest token of a lease.
	LastToken uint64 `json:"last_token"`
}

// upgrades lead from one schema to the next: the first from 1 to 2. They run in the transaction that opens the store.
var upgrades []func(*bolt.Tx) error

// schema is the version that this agent writes.
func schema() int { return 1 + len(upgrades) }

// wentBack says that the store is older than the session file, or that the two do not belong together.
func wentBack(m storeMeta, before session, isNew bool) bool {
	if isNew {
		return before != session{}
	}
	return before.StoreID != m.StoreID || before.Session > m.Session
}

// load returns the store's meta record, after a check of all records, or makes a new store.
func load(tx *bolt.Tx) (m storeMeta, isNew bool, err error) {
	if names := tableNames(tx); len(names) == 0 {
		m = storeMeta{Schema: schema(), StoreID: uuid.NewString(), Created: time.Now().UTC()}
		return m, true, makeTables(tx)
	}
	if m, err = loadMeta(tx); err != nil {
		return m, false, err
	}
	if m.Schema > schema() {
		return m, false, fmt.Errorf("%w: %d, this agent knows %d", ErrVersion, m.Schema, schema())
	}
	for ; m.Schema < schema(); m.Schema++ {
		if err := upgrades[m.Schema-1](tx); err != nil {
			return m, false, fmt.Errorf("upgrade from schema %d: %w", m.Schema, err)
		}
	}
	return m, false, checkRecords(tx)
}

func tableNames(tx *bolt.Tx) []string {
	var names []string
	c := tx.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		names = append(names, string(k))
	}
	return names
}

func makeTables(tx *bolt.Tx) error {
	for _, name := range append([]string{metaTable}, tables...) {
		if _, err := tx.CreateBucket([]byte(name)); err != nil {
			return fmt.Errorf("make table %s: %w", name, err)
		}
	}
	return nil
}

// checkRecords checks that the tables are those of this schema, for a lost one must not look like an empty one, and the
// checksum of every record.
func checkRecords(tx *bolt.Tx) error {
	want := slices.Sorted(slices.Values(append([]string{metaTable}, tables...)))
	if names := tableNames(tx); !slices.Equal(names, want) {
		return fmt.Errorf("%w: tables %q, want %q", ErrCorrupt, names, want)
	}
	for _, name := range tables {
		t := &boltTx{tx: tx}
		if err := t.Each(name, func(string, []byte) error { return nil }); err != nil {
			return err
		}
	}
	return nil
}

func loadMeta(tx *bolt.Tx) (m storeMeta, err error) {
	table := tx.Bucket([]byte(metaTable))
	if table == nil {
		return m, fmt.Errorf("%w: no table %s: not a catalog", ErrCorrupt, metaTable)
	}
	value, err := unseal(metaTable, metaKey, table.Get([]byte(metaKey)))
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(bytes.Clone(value), &m); err != nil || m.Schema < 1 || m.StoreID == "" {
		return m, fmt.Errorf("%w: table %s: %q", ErrCorrupt, metaTable, value)
	}
	return m, nil
}

func saveMeta(tx *bolt.Tx, m storeMeta) error {
	value, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return tx.Bucket([]byte(metaTable)).Put([]byte(metaKey), seal(metaTable, metaKey, value))
}

// updateMeta changes the meta record, durably.
func (b *Bolt) updateMeta(fn func(*storeMeta)) error {
	_, err := b.write(func(tx *bolt.Tx) (bool, error) {
		m, err := loadMeta(tx)
		if err != nil {
			return false, err
		}
		fn(&m)
		return true, saveMeta(tx, m)
	})
	return err
}

// Session is how often the store was opened.
func (b *Bolt) Session() uint64 { return b.meta.Session }

// Restored says that the store is, or may be, older than what an agent has seen before: it was put back from a backup,
// its session file is missing, or its newest commit is unreadable. Before such a store serves a volume, the peers must
// be asked who owns it (SAFETY: a store restored from a backup asks for higher epochs). It stays so, also across
// restarts, until ClearRestored.
func (b *Bolt) Restored() bool { return b.restored.Load() }

// ClearRestored says that the peers were asked. It is durable when it returns nil.
func (b *Bolt) ClearRestored() error {
	if err := b.updateMeta(func(m *storeMeta) { m.Restored = false }); err != nil {
		return err
	}
	b.restored.Store(false)
	return nil
}
