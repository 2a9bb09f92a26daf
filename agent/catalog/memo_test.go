package catalog

import (
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

func cloneVolume(v Volume) Volume {
	v.Metadata = maps.Clone(v.Metadata)
	return v
}

// TestMemo: whatever is written, a Memo says what the table says, and what its user does to a record stays with him.
func TestMemo(t *testing.T) {
	dir, n := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		store, err := OpenBolt(filepath.Join(dir, fmt.Sprint(n)), BoltOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		memo := NewMemo(Volumes, cloneVolume)
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				v := Volume{DisplayName: rapid.String().Draw(t, "name"), Metadata: map[string]string{"a": "b"}}
				v.ID = rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "id")
				if err := store.Update(func(tx Tx) error { return Volumes.Put(tx, v.ID, v) }); err != nil {
					t.Fatal(err)
				}
			},
			"delete": func(t *rapid.T) {
				id := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "id")
				if err := store.Update(func(tx Tx) error { return Volumes.Delete(tx, id) }); err != nil {
					t.Fatal(err)
				}
			},
			"": func(t *rapid.T) { compareMemo(t, store, memo) },
		})
	})
}

func compareMemo(t *rapid.T, store Store, memo *Memo[Volume]) {
	err := store.View(func(tx Tx) error {
		want, err := Volumes.All(tx)
		if err != nil {
			return err
		}
		got, err := memo.All(tx)
		if err != nil {
			return err
		}
		if len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v, not %+v", got, want)
		}
		if len(memo.known) != len(want) {
			t.Fatalf("%d records are kept of %d", len(memo.known), len(want))
		}
		for _, v := range got {
			v.Metadata["a"] = "changed"
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestMemoIsBounded: of a larger table the first records are kept, and all are returned.
func TestMemoIsBounded(t *testing.T) {
	memo := NewMemo(Volumes, cloneVolume)
	tx := manyRecords(maxMemorized + 10)
	for range 2 {
		all, err := memo.All(tx)
		if err != nil || len(all) != int(tx) || len(memo.known) != maxMemorized {
			t.Fatalf("%d records, %d kept: %v", len(all), len(memo.known), err)
		}
	}
}

// TestMemoOfDamage: a record that cannot be read is an error each time.
func TestMemoOfDamage(t *testing.T) {
	memo := NewMemo(Volumes, cloneVolume)
	for range 2 {
		if _, err := memo.All(damaged{}); err == nil {
			t.Fatal("read what is no JSON")
		}
	}
}

// manyRecords is a Tx with so many volumes.
type manyRecords int

func (manyRecords) Get(string, string) ([]byte, error) { return nil, ErrNotFound }
func (manyRecords) Put(string, string, []byte) error   { return ErrReadOnly }
func (manyRecords) Delete(string, string) error        { return ErrReadOnly }
func (n manyRecords) Each(_ string, fn func(string, []byte) error) error {
	for i := range int(n) {
		key := fmt.Sprintf("%06d", i)
		if err := fn(key, []byte(`{"id":"`+key+`"}`)); err != nil {
			return err
		}
	}
	return nil
}

type damaged struct{ manyRecords }

func (damaged) Each(_ string, fn func(string, []byte) error) error { return fn("a", []byte("{")) }
