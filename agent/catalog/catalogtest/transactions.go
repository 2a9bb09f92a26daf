package catalogtest

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
)

func testReadOnly(t *testing.T, open Open) {
	store := fresh(t, open)
	put(t, store, "a", "1")
	writes := map[string]func(tx catalog.Tx) error{
		"put":    func(tx catalog.Tx) error { return tx.Put(table, "a", []byte("2")) },
		"delete": func(tx catalog.Tx) error { return tx.Delete(table, "a") },
	}
	for name, write := range writes {
		if err := store.View(write); !errors.Is(err, catalog.ErrReadOnly) {
			t.Errorf("%s in a View: %v, want ErrReadOnly", name, err)
		}
		err := store.Update(func(tx catalog.Tx) error {
			return tx.Each(table, func(string, []byte) error { return write(tx) })
		})
		if !errors.Is(err, catalog.ErrReadOnly) {
			t.Errorf("%s in Each: %v, want ErrReadOnly", name, err)
		}
	}
	if got := get(t, store, "a"); got != "1" {
		t.Errorf("record is %q", got)
	}
}

func testOver(t *testing.T, open Open) {
	store := fresh(t, open)
	var kept catalog.Tx
	keep := func(tx catalog.Tx) error { kept = tx; return nil }
	for _, run := range []func(func(catalog.Tx) error) error{store.View, store.Update} {
		if err := run(keep); err != nil {
			t.Fatal(err)
		}
		_, err := kept.Get(table, "a")
		for name, err := range map[string]error{
			"get": err, "put": kept.Put(table, "a", nil), "delete": kept.Delete(table, "a"), "each": kept.Each(table, nil),
		} {
			if !errors.Is(err, catalog.ErrClosed) {
				t.Errorf("%s after the end: %v, want ErrClosed", name, err)
			}
		}
	}
}

func testRollbackError(t *testing.T, open Open) {
	store := fresh(t, open)
	put(t, store, "a", "1")
	want := errors.New("no")
	err := store.Update(func(tx catalog.Tx) error {
		return errors.Join(tx.Put(table, "a", []byte("2")), tx.Put(table, "b", []byte("2")), tx.Delete(table, "a"), want)
	})
	if !errors.Is(err, want) {
		t.Errorf("error %v, want fn's own", err)
	}
	if a, b := get(t, store, "a"), get(t, store, "b"); a != "1" || b != "" {
		t.Errorf("after an error a is %q and b is %q", a, b)
	}
	if err := store.View(func(catalog.Tx) error { return want }); err != want {
		t.Errorf("error %v of a View, want fn's own", err)
	}
}

func testRollbackPanic(t *testing.T, open Open) {
	store := fresh(t, open)
	put(t, store, "a", "1")
	for _, run := range []func(func(catalog.Tx) error) error{store.View, store.Update} {
		func() {
			defer func() {
				if recover() != "oh" {
					t.Error("the panic did not come through")
				}
			}()
			_ = run(func(tx catalog.Tx) error {
				_ = tx.Put(table, "a", []byte("2"))
				panic("oh")
			})
		}()
	}
	if got := get(t, store, "a"); got != "1" {
		t.Errorf("after a panic the record is %q", got)
	}
	put(t, store, "a", "3")
}

func testIsolation(t *testing.T, open Open) {
	store := fresh(t, open)
	put(t, store, "a", "1")
	err := store.View(func(tx catalog.Tx) error {
		done := make(chan error)
		go func() {
			done <- store.Update(func(tx catalog.Tx) error {
				return errors.Join(tx.Put(table, "a", []byte("2")), tx.Put(table, "b", []byte("2")))
			})
		}()
		if err := <-done; err != nil {
			return err
		}
		value, err := tx.Get(table, "a")
		if string(value) != "1" {
			t.Errorf("a View sees %q of a later Update", value)
		}
		if _, err := tx.Get(table, "b"); !errors.Is(err, catalog.ErrNotFound) {
			t.Errorf("a View sees a later record: %v", err)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := get(t, store, "a"); got != "2" {
		t.Errorf("a later View sees %q", got)
	}
}

func testConcurrent(t *testing.T, open Open) {
	const writers, each = 4, 10
	store := fresh(t, open)
	put(t, store, "count", "0")
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := store.Update(func(tx catalog.Tx) error { return count(tx, fmt.Sprintf("%d-%d", w, i)) }); err != nil {
					t.Error(err)
				}
				if err := store.View(func(tx catalog.Tx) error { return checkCount(t, tx) }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := get(t, store, "count"); got != strconv.Itoa(writers*each) {
		t.Errorf("count is %s, want %d", got, writers*each)
	}
}

// count adds one to the record "count", and a record in another table.
func count(tx catalog.Tx, key string) error {
	value, err := tx.Get(table, "count")
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(string(value))
	if err != nil {
		return err
	}
	return errors.Join(tx.Put(table, "count", []byte(strconv.Itoa(n+1))), tx.Put(catalog.Types.Name(), key, nil))
}

// checkCount checks that both tables are of one state.
func checkCount(t *testing.T, tx catalog.Tx) error {
	value, err := tx.Get(table, "count")
	if err != nil {
		return err
	}
	n := 0
	err = tx.Each(catalog.Types.Name(), func(string, []byte) error { n++; return nil })
	if string(value) != strconv.Itoa(n) {
		t.Errorf("a View sees %s in one table and %d in the other", value, n)
	}
	return err
}

func testDurable(t *testing.T, open Open) {
	dir := t.TempDir()
	store := open(t, dir)
	id := store.ID()
	put(t, store, "a", "1")
	put(t, store, "b", "1")
	put(t, store, "a", "2")
	if err := store.Update(func(tx catalog.Tx) error { return tx.Delete(table, "b") }); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	store = open(t, dir)
	defer store.Close()
	if a, b := get(t, store, "a"), get(t, store, "b"); a != "2" || b != "" {
		t.Errorf("opened again: a is %q, b is %q", a, b)
	}
	if store.ID() != id || id == "" {
		t.Errorf("store id %q became %q", id, store.ID())
	}
	if other := fresh(t, open); other.ID() == id {
		t.Errorf("two stores with the id %q", id)
	}
}
