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
	known map[string]*memorized[T] // never changed once it is here: others may be reading it
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
	all, keys, misses := make([]T, 0, len(known)), make([]string, 0, len(known)), map[string]*memorized[T]{}
	err := tx.Each(m.table.name, func(key string, value []byte) (err error) {
		k := known[key]
		if k == nil || !bytes.Equal(k.value, value) {
			k = &memorized[T]{value: value}
			if k.record, err = m.table.decode(key, value); err != nil {
				return err
			}
			misses[key] = k
		}
		keys, all = append(keys, key), append(all, m.clone(k.record))
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(misses) > 0 || len(known) > len(keys) {
		m.keep(keys, known, misses)
	}
	return all, nil
}

// keep makes known what was just read, the first of it if that is too much.
func (m *Memo[T]) keep(keys []string, known, misses map[string]*memorized[T]) {
	now := make(map[string]*memorized[T], min(len(keys), maxMemorized))
	for _, key := range keys[:min(len(keys), maxMemorized)] {
		if now[key] = misses[key]; now[key] == nil {
			now[key] = known[key]
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known = now
}
