package catalog

import (
	"bytes"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// boltTx is a Tx on a transaction of bbolt. It outlives fn only as a value that answers ErrClosed.
type boltTx struct {
	tx *bolt.Tx
	// eaching counts the calls of Each that run: bbolt's cursors do not survive writes.
	eaching int
	// totals are kept over what is written.
	totals *totals
	// wrote says that there is something to commit.
	wrote bool
}

// end cuts the Tx off its transaction.
func (t *boltTx) end() { t.tx = nil }

func (t *boltTx) bucket(table string) (*bolt.Bucket, error) {
	if t.tx == nil {
		return nil, fmt.Errorf("%s: transaction is over: %w", table, ErrClosed)
	}
	if err := checkTable(table); err != nil {
		return nil, err
	}
	return t.tx.Bucket([]byte(table)), nil
}

func (t *boltTx) writable(table, key string) (*bolt.Bucket, error) {
	b, err := t.bucket(table)
	if err != nil {
		return nil, err
	}
	if !t.tx.Writable() || t.eaching > 0 {
		return nil, fmt.Errorf("%s %s: %w", table, key, ErrReadOnly)
	}
	if err := checkKey(key); err != nil {
		return nil, fmt.Errorf("%s: %w", table, err)
	}
	return b, nil
}

func (t *boltTx) Get(table, key string) ([]byte, error) {
	b, err := t.bucket(table)
	if err != nil {
		return nil, err
	}
	sealed := b.Get([]byte(key))
	if sealed == nil {
		return nil, fmt.Errorf("%s %s: %w", table, key, ErrNotFound)
	}
	value, err := unseal(table, key, sealed)
	return bytes.Clone(value), err
}

func (t *boltTx) Put(table, key string, value []byte) error {
	b, err := t.writable(table, key)
	if err != nil {
		return err
	}
	if len(value) > MaxRecord {
		return fmt.Errorf("%s %s: record of %d bytes, %d are allowed: %w", table, key, len(value), MaxRecord, ErrInvalid)
	}
	sealed := seal(table, key, value)
	if err := errors.Join(t.totals.subtract(b.Get([]byte(key))), t.totals.add(sealed)); err != nil {
		return fmt.Errorf("%s %s: %w", table, key, err)
	}
	t.wrote = true
	return b.Put([]byte(key), sealed)
}

func (t *boltTx) Delete(table, key string) error {
	b, err := t.writable(table, key)
	if err != nil {
		return err
	}
	old := b.Get([]byte(key))
	if old == nil {
		return nil
	}
	if err := t.totals.subtract(old); err != nil {
		return fmt.Errorf("%s %s: %w", table, key, err)
	}
	t.wrote = true
	return b.Delete([]byte(key))
}

func (t *boltTx) Each(table string, fn func(key string, value []byte) error) error {
	b, err := t.bucket(table)
	if err != nil {
		return err
	}
	t.eaching++
	defer func() { t.eaching-- }()
	return b.ForEach(func(k, sealed []byte) error {
		key := string(k)
		value, err := unseal(table, key, sealed)
		if err != nil {
			return err
		}
		return fn(key, bytes.Clone(value))
	})
}
