// Package catalogtest is the suite that every catalog.Store passes.
package catalogtest

import (
	"testing"

	"github.com/cvold/cvold/agent/catalog"
)

// Open opens the store that lives in dir, and makes it the first time. The suite closes it.
type Open func(t *testing.T, dir string) catalog.Store

// Run runs the suite on stores of open. Stores that are a catalog.Leaser are tested as that too.
func Run(t *testing.T, open Open) {
	tests := []struct {
		name string
		test func(*testing.T, Open)
	}{
		{"typed tables", testTables},
		{"order", testOrder},
		{"refusals", testRefusals},
		{"limits", testLimits},
		{"copies", testCopies},
		{"own writes", testOwnWrites},
		{"read only", testReadOnly},
		{"transaction over", testOver},
		{"rollback on error", testRollbackError},
		{"rollback on panic", testRollbackPanic},
		{"isolation", testIsolation},
		{"concurrent updates", testConcurrent},
		{"durable", testDurable},
		{"watch", testWatch},
		{"watch ends", testWatchEnds},
		{"closed", testClosed},
		{"lease excludes", testLease},
		{"lease ends", testLeaseEnds},
		{"lease tokens", testLeaseTokens},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.test(t, open) })
	}
}

// fresh opens a new store and closes it at the end of the test, if the test has not.
func fresh(t *testing.T, open Open) catalog.Store {
	t.Helper()
	store := open(t, t.TempDir())
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// table is the table of tests that need only one.
var table = catalog.Volumes.Name()

func put(t *testing.T, store catalog.Store, key, value string) {
	t.Helper()
	if err := store.Update(func(tx catalog.Tx) error { return tx.Put(table, key, []byte(value)) }); err != nil {
		t.Fatal(err)
	}
}

// get returns the record's text, or "" if there is none.
func get(t *testing.T, store catalog.Store, key string) string {
	t.Helper()
	var text string
	err := store.View(func(tx catalog.Tx) error {
		value, err := tx.Get(table, key)
		text = string(value)
		return ignoreNotFound(err)
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}
