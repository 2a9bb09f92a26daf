package catalog

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// holderChild opens the store, says so, and holds it until its input ends.
func holderChild(path string) error {
	b, err := OpenBolt(path, BoltOptions{})
	if err != nil {
		return err
	}
	fmt.Println("held")
	bufio.NewScanner(os.Stdin).Scan()
	return b.Close()
}

// TestLocked: one process at a time; who waits gets the store when the other one ends.
func TestLocked(t *testing.T) {
	path := storePath(t)
	cmd := child(t, "holder", path)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if lines := bufio.NewScanner(out); !lines.Scan() || lines.Text() != "held" {
		t.Fatalf("the other process says %q", lines.Text())
	}
	_, err := OpenBolt(path, BoltOptions{LockTimeout: time.Millisecond})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("opened twice: %v, want ErrLocked with the file", err)
	}
	go in.Close()
	b, err := OpenBolt(path, BoltOptions{LockTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	closeBolt(t, b)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestFileMode(t *testing.T) {
	path := storePath(t)
	openBolt(t, path, BoltOptions{})
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, error %v, want 0600", info.Mode(), err)
	}
}

func TestNotAFile(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, fifo, filepath.Join(dir, "missing", "cvold.db")} {
		if b, err := OpenBolt(path, BoltOptions{}); err == nil {
			closeBolt(t, b)
			t.Errorf("opened %s", path)
		} else if !strings.Contains(err.Error(), path) {
			t.Errorf("%v does not name %s", err, path)
		}
	}
}

// TestNewerSchema: a store of a newer agent is refused, and not touched.
func TestNewerSchema(t *testing.T) {
	path := storePath(t)
	b := openBolt(t, path, BoltOptions{})
	if err := b.updateMeta(func(m *storeMeta) { m.Schema = schema() + 1 }); err != nil {
		t.Fatal(err)
	}
	closeBolt(t, b)
	before, _ := os.ReadFile(path)
	if _, err := OpenBolt(path, BoltOptions{}); !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v, want ErrVersion with the file", err)
	}
	if after, _ := os.ReadFile(path); string(before) != string(after) {
		t.Error("the file was changed")
	}
}

// TestUpgrade: upgrades run in their order, once, and all or none.
func TestUpgrade(t *testing.T) {
	path := storePath(t)
	closeBolt(t, openBolt(t, path, BoltOptions{}))
	t.Cleanup(func() { upgrades = nil })
	type upgrade = func(*bolt.Tx, *totals) error
	add := func(key string) upgrade {
		return func(tx *bolt.Tx, sum *totals) error { return (&boltTx{tx: tx, totals: sum}).Put(Types.name, key, nil) }
	}
	upgrades = []upgrade{add("one"), func(*bolt.Tx, *totals) error { return errors.New("breaks off") }}
	if _, err := OpenBolt(path, BoltOptions{}); err == nil || !strings.Contains(err.Error(), "from schema 2") {
		t.Errorf("an upgrade that fails: %v", err)
	}
	upgrades = []upgrade{func(tx *bolt.Tx, sum *totals) error {
		if _, err := (&boltTx{tx: tx}).Get(Types.name, "one"); !errors.Is(err, ErrNotFound) {
			t.Errorf("half of an upgrade is there: %v", err)
		}
		return add("one")(tx, sum)
	}, add("two")}
	for range 2 {
		b := openBolt(t, path, BoltOptions{})
		all, err := texts(b)
		if err != nil || len(all) != 2 {
			t.Errorf("after the upgrade: %v, error %v", all, err)
		}
		closeBolt(t, b)
		upgrades[0] = func(*bolt.Tx, *totals) error { return errors.New("upgraded twice") }
	}
	upgrades = upgrades[:1]
	if _, err := OpenBolt(path, BoltOptions{}); !errors.Is(err, ErrVersion) {
		t.Errorf("back to an older agent: %v, want ErrVersion", err)
	}
}

// TestNotACatalog: files of bbolt that are not, or not wholly, a catalog.
func TestNotACatalog(t *testing.T) {
	tests := []struct {
		name   string
		change func(tx *bolt.Tx) error
	}{
		{"no table of the store", func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte(metaTable)) }},
		{"a table lost", func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte(Stubs.name)) }},
		{"a table too many", func(tx *bolt.Tx) error { _, err := tx.CreateBucket([]byte("x")); return err }},
		{"no record of the store", func(tx *bolt.Tx) error { return tx.Bucket([]byte(metaTable)).Delete([]byte(metaKey)) }},
		{"an empty record of the store", func(tx *bolt.Tx) error { return saveMeta(tx, &storeMeta{}) }},
		{"a record lost", func(tx *bolt.Tx) error { return tx.Bucket([]byte(Types.name)).Delete([]byte("t")) }},
		{"a record as it was before", func(tx *bolt.Tx) error {
			return tx.Bucket([]byte(Types.name)).Put([]byte("t"), seal(Types.name, "t", []byte("old")))
		}},
		{"a table inside a table", func(tx *bolt.Tx) error {
			_, err := tx.Bucket([]byte(Stubs.name)).CreateBucket([]byte("x"))
			return err
		}},
		{"a record without checksum", func(tx *bolt.Tx) error {
			return tx.Bucket([]byte(Stubs.name)).Put([]byte("x"), []byte("{}"))
		}},
		{"a record in another's place", func(tx *bolt.Tx) error {
			return tx.Bucket([]byte(Stubs.name)).Put([]byte("x"), seal(Stubs.name, "y", []byte("{}")))
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := storePath(t)
			b := openBolt(t, path, BoltOptions{})
			if err := b.Update(func(tx Tx) error { return tx.Put(Types.name, "t", []byte("new")) }); err != nil {
				t.Fatal(err)
			}
			closeBolt(t, b)
			db, err := bolt.Open(path, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(db.Update(test.change), db.Close()); err != nil {
				t.Fatal(err)
			}
			if b, err = OpenBolt(path, BoltOptions{}); err == nil {
				closeBolt(t, b)
			}
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "backup") || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v, want ErrCorrupt with the file and the way out", err)
			}
		})
	}
}

// TestGuard: panics and faults become errors.
func TestGuard(t *testing.T) {
	err := guard(func() error { panic("page 7: not a leaf") })
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "page 7") {
		t.Errorf("a panic became %v", err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "short"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	beyond, err := syscall.Mmap(int(f.Fd()), 0, 4096, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(beyond)
	if err := guard(func() error { return fmt.Errorf("read %d", beyond[100]) }); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a fault became %v", err)
	}
}
