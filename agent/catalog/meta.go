package catalog

import (
	"encoding/json"
	"errors"
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
	// Openings counts how often the store was opened.
	Openings uint64 `json:"session"`
	// Restored says that the store went back in time, and nobody has cleared it since.
	Restored bool `json:"restored,omitempty"`
	// LastToken is the highest token of a lease.
	LastToken uint64 `json:"last_token"`
	// Commit is bbolt's number of the transaction that wrote this record, which is the last one.
	Commit uint64 `json:"commit"`
	totals
}

// upgrades lead from one schema to the next: the first from 1 to 2. They run in the transaction that
// opens the store, and keep its totals.
var upgrades []func(*bolt.Tx, *totals) error

// schema is the version that this agent writes.
func schema() int { return 1 + len(upgrades) }

// wentBack says that the store is older than the openings file, or that the two do not belong together, or that the
// record of the store is not of the last transaction: its page is an old one, or another program has written.
func wentBack(tx *bolt.Tx, m storeMeta, before openings, isNew bool) bool {
	if isNew {
		return before != openings{}
	}
	return before.StoreID != m.StoreID || before.Openings > m.Openings || m.Commit+1 != uint64(tx.ID())
}

// load fills in the record of the store, after a check of all records, or makes a new store.
func load(tx *bolt.Tx, m *storeMeta) (isNew bool, err error) {
	if len(tableNames(tx)) == 0 {
		*m = storeMeta{Schema: schema(), StoreID: uuid.NewString(), Created: time.Now().UTC()}
		return true, makeTables(tx)
	}
	if err := loadMeta(tx, m); err != nil {
		return false, err
	}
	if m.Schema > schema() {
		return false, fmt.Errorf("%w: %d, this agent knows %d", ErrVersion, m.Schema, schema())
	}
	if err := checkRecords(tx, m.totals); err != nil {
		return false, err
	}
	for ; m.Schema < schema(); m.Schema++ {
		if err := upgrades[m.Schema-1](tx, &m.totals); err != nil {
			return false, fmt.Errorf("upgrade from schema %d: %w", m.Schema, err)
		}
	}
	return false, checkTables(tx)
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

// checkTables checks that the tables are those of this schema: a lost one must not look like an empty one.
func checkTables(tx *bolt.Tx) error {
	want := slices.Sorted(slices.Values(append([]string{metaTable}, tables...)))
	if names := tableNames(tx); !slices.Equal(names, want) {
		return fmt.Errorf("%w: tables %q, want %q", ErrCorrupt, names, want)
	}
	return nil
}

// checkRecords checks every record in whatever tables there are, and their totals.
func checkRecords(tx *bolt.Tx, want totals) error {
	var found totals
	for _, name := range tableNames(tx) {
		if name == metaTable {
			continue
		}
		err := tx.Bucket([]byte(name)).ForEach(func(key, sealed []byte) error {
			_, err := unseal(name, string(key), sealed)
			return errors.Join(err, found.add(sealed))
		})
		if err != nil {
			return err
		}
	}
	if found != want {
		return fmt.Errorf("%w: %d records with the sum %x, should be %d with %x",
			ErrCorrupt, found.Records, found.Sum, want.Records, want.Sum)
	}
	return nil
}

func loadMeta(tx *bolt.Tx, m *storeMeta) error {
	table := tx.Bucket([]byte(metaTable))
	if table == nil {
		return fmt.Errorf("%w: no table %s: not a catalog", ErrCorrupt, metaTable)
	}
	value, err := unseal(metaTable, metaKey, table.Get([]byte(metaKey)))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(value, m); err != nil || m.Schema < 1 || m.StoreID == "" {
		return fmt.Errorf("%w: table %s: %q", ErrCorrupt, metaTable, value)
	}
	return nil
}

func saveMeta(tx *bolt.Tx, m *storeMeta) error {
	m.Commit = uint64(tx.ID())
	value, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return tx.Bucket([]byte(metaTable)).Put([]byte(metaKey), seal(metaTable, metaKey, value))
}

// updateMeta changes the record of the store, durably.
func (b *Bolt) updateMeta(fn func(*storeMeta)) error {
	_, err := b.write(func(_ *bolt.Tx, m *storeMeta) (bool, error) {
		fn(m)
		return true, nil
	})
	return err
}

// Openings is how often the store was opened.
func (b *Bolt) Openings() uint64 { return b.openings }

// Restored says that the store is, or may be, older than what an agent has seen before: it was put back from a backup,
// its openings file is missing, or its newest commit is unreadable. Before such a store serves a volume, the peers must
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
