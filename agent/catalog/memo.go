package catalog

import (
	"bytes"
	"sync"
)

// maxMemorized bounds the records that a Memo keeps, each with what it was decoded from: some 3 KB a volume. What is
// beyond is decoded at each read.
const maxMemorized = 4096

// Memo reads a whole table as Table.All does, but keeps what the records decode to: one whose bytes are those of the last
// read is not decoded again, which is most of the time that the list of a thousand takes. It follows no writes and can
// not be stale: the bytes are read and compared each time. It is for one store, and safe for concurrent use.
type Memo[T any] struct {
	table Table[T]
	// clone makes a record that shares nothing that its user may change.
	clone func(T) T

	mu    sync.Mutex
	known map[string]memorized[T]
}

type memorized[T any] struct {
	value  []byte
	record T
}

// NewMemo makes a Memo of table; clone copies what a record points to.
func NewMemo[T any](table Table[T], clone func(T) T) *Memo[T] {
	return &Memo[T]{table: table, clone: clone}
}

// All returns every record in the order of keys, the caller's to change: ErrCorrupt.
func (m *Memo[T]) All(tx Tx) ([]T, error) {
	m.mu.Lock()
	known := m.known
	m.mu.Unlock()
	all, now := make([]T, 0, len(known)), make(map[string]memorized[T], len(known))
	err := tx.Each(m.table.name, func(key string, value []byte) (err error) {
		k, ok := known[key]
		if !ok || !bytes.Equal(k.value, value) {
			k = memorized[T]{value: value}
			if k.record, err = m.table.decode(key, value); err != nil {
				return err
			}
		}
		if len(now) < maxMemorized {
			now[key] = k
		}
		all = append(all, m.clone(k.record))
		return nil
	})
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.known = now // never changed from here on: others may be reading it
	m.mu.Unlock()
	return all, nil
}
