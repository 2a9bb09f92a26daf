package catalogtest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
)

func ignoreNotFound(err error) error {
	if errors.Is(err, catalog.ErrNotFound) {
		return nil
	}
	return err
}

// at is a time as JSON gives it back.
var at = time.Date(2026, 8, 1, 12, 30, 15, 123456789, time.UTC)

func testTables(t *testing.T, open Open) {
	store := fresh(t, open)
	object := dataplane.Volume{ID: "a1", Name: "volume-a1", Size: 1 << 30, Identity: "17:4711"}
	volume := catalog.Volume{Volume: object, Host: "n1@files#files", Status: catalog.StatusAvailable, CreatedAt: at}
	checkTyped(t, store, catalog.Volumes, "a1", volume)
	checkTyped(t, store, catalog.Types, "t1", catalog.Type{ID: "t1", ExtraSpecs: map[string]string{"a": "b"}})
	checkTyped(t, store, catalog.Services, "n1@files", catalog.Service{Host: "n1@files", UpdatedAt: at})
	checkTyped(t, store, catalog.Attachments, "x1", catalog.Attachment{ID: "x1", VolumeID: "a1", CreatedAt: at})
	checkTyped(t, store, catalog.Stubs, "a1", catalog.Stub{VolumeID: "a1", Node: "n2", Epoch: 7, At: at})
	checkTyped(t, store, catalog.Migrations, "m1", catalog.Migration{ID: "m1", VolumeID: "a1", Target: object})
	checkTyped(t, store, catalog.Guests, "m1", catalog.Guest{MigrationID: "m1", Record: &volume})
}

// checkTyped writes, reads, lists and deletes one record of a table.
func checkTyped[T any](t *testing.T, store catalog.Store, table catalog.Table[T], key string, record T) {
	t.Helper()
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %s: %v", table.Name(), what, err)
		}
	}
	must("put", store.Update(func(tx catalog.Tx) error { return table.Put(tx, key, record) }))
	must("view", store.View(func(tx catalog.Tx) error {
		found, err := table.Get(tx, key)
		must("get", err)
		all, err := table.All(tx)
		must("all", err)
		if !reflect.DeepEqual(found, record) || !reflect.DeepEqual(all, []T{record}) {
			t.Errorf("%s: got %+v, all %+v, want %+v", table.Name(), found, all, record)
		}
		return nil
	}))
	must("delete", store.Update(func(tx catalog.Tx) error { return table.Delete(tx, key) }))
	must("delete nothing", store.Update(func(tx catalog.Tx) error { return table.Delete(tx, key) }))
	err := store.View(func(tx catalog.Tx) error { _, err := table.Get(tx, key); return err })
	if !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("%s: get after delete: %v, want ErrNotFound", table.Name(), err)
	}
}

func testOrder(t *testing.T, open Open) {
	store := fresh(t, open)
	want := []string{"A", "a", "a#", "a-1", "a1", "b@c#d", "ä"}
	for _, key := range []string{"b@c#d", "a1", "ä", "A", "a", "a-1", "a#"} {
		put(t, store, key, "of "+key)
	}
	var keys []string
	stop := errors.New("stop")
	visit := func(limit int) error {
		keys = nil
		return store.View(func(tx catalog.Tx) error {
			return tx.Each(table, func(key string, value []byte) error {
				if string(value) != "of "+key {
					t.Errorf("%s has %q", key, value)
				}
				if keys = append(keys, key); len(keys) == limit {
					return stop
				}
				return nil
			})
		})
	}
	if err := visit(-1); err != nil || !slices.Equal(keys, want) {
		t.Errorf("keys %q, error %v, want %q", keys, err, want)
	}
	if err := visit(2); err != stop || len(keys) != 2 {
		t.Errorf("stopped at %q with %v", keys, err)
	}
}

func testRefusals(t *testing.T, open Open) {
	store := fresh(t, open)
	long := strings.Repeat("k", catalog.MaxKey+1)
	for _, key := range []string{"", long, "a\nb", "a\x00", "a\x7f", "\xff", "tab\t", "\u2028"} {
		err := store.Update(func(tx catalog.Tx) error { return tx.Put(table, key, nil) })
		if !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("put under %q: %v, want ErrInvalid", key, err)
		}
	}
	for name, fn := range map[string]func(tx catalog.Tx) error{
		"get":        func(tx catalog.Tx) error { _, err := tx.Get("volume", "a"); return err },
		"put":        func(tx catalog.Tx) error { return tx.Put("volume", "a", nil) },
		"delete":     func(tx catalog.Tx) error { return tx.Delete("", "a") },
		"each":       func(tx catalog.Tx) error { return tx.Each("meta", nil) },
		"delete key": func(tx catalog.Tx) error { return tx.Delete(table, "") },
		"other key":  func(tx catalog.Tx) error { return catalog.Types.Put(tx, "a", catalog.Type{ID: "b"}) },
		"no key":     func(tx catalog.Tx) error { return catalog.Types.Put(tx, "", catalog.Type{}) },
	} {
		if err := store.Update(fn); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	put(t, store, "bad", "no JSON")
	for name, fn := range map[string]func(tx catalog.Tx) error{
		"get": func(tx catalog.Tx) error { _, err := catalog.Volumes.Get(tx, "bad"); return err },
		"all": func(tx catalog.Tx) error { _, err := catalog.Volumes.All(tx); return err },
	} {
		if err := store.View(fn); !errors.Is(err, catalog.ErrCorrupt) {
			t.Errorf("%s of what is no JSON: %v, want ErrCorrupt", name, err)
		}
	}
}

func testLimits(t *testing.T, open Open) {
	store := fresh(t, open)
	key, record := strings.Repeat("k", catalog.MaxKey), strings.Repeat("r", catalog.MaxRecord)
	put(t, store, key, record)
	if get(t, store, key) != record {
		t.Error("the largest record under the longest key comes back changed")
	}
	err := store.Update(func(tx catalog.Tx) error { return tx.Put(table, "a", []byte(record+"r")) })
	if !errors.Is(err, catalog.ErrInvalid) {
		t.Errorf("a larger record: %v, want ErrInvalid", err)
	}
	put(t, store, "empty", "")
	if err := store.View(func(tx catalog.Tx) error { _, err := tx.Get(table, "empty"); return err }); err != nil {
		t.Errorf("the empty record: %v", err)
	}
}

func testCopies(t *testing.T, open Open) {
	store := fresh(t, open)
	value := []byte("before")
	err := store.Update(func(tx catalog.Tx) error {
		if err := tx.Put(table, "a", value); err != nil {
			return err
		}
		value[0] = 'X'
		found, err := tx.Get(table, "a")
		if string(found) != "before" {
			t.Errorf("the store kept the caller's bytes: %q", found)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var kept []byte
	err = store.View(func(tx catalog.Tx) error {
		return tx.Each(table, func(_ string, value []byte) error { value[0], kept = 'Y', value; return nil })
	})
	put(t, store, "a", "behind")
	if err != nil || string(kept) != "Yefore" {
		t.Errorf("what Each gave became %q, error %v", kept, err)
	}
}

func testOwnWrites(t *testing.T, open Open) {
	store := fresh(t, open)
	put(t, store, "old", "1")
	err := store.Update(func(tx catalog.Tx) error {
		for i := range 100 {
			if err := tx.Put(table, fmt.Sprintf("new%03d", i), []byte("2")); err != nil {
				return err
			}
		}
		if err := tx.Delete(table, "old"); err != nil {
			return err
		}
		if _, err := tx.Get(table, "old"); !errors.Is(err, catalog.ErrNotFound) {
			t.Errorf("get of what was deleted before: %v", err)
		}
		n := 0
		err := tx.Each(table, func(string, []byte) error { n++; return nil })
		if n != 100 {
			t.Errorf("%d records, want 100", n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
