package catalog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func openAt(t *testing.T, path string) *Bolt {
	t.Helper()
	b, err := OpenBolt(path, BoltOptions{Reserve: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// TestBackup: a copy that was made while somebody wrote is one of the states that there were, whole, and counts as restored
// also where the openings file says that nothing happened since.
func TestBackup(t *testing.T) {
	dir := t.TempDir()
	b := openAt(t, filepath.Join(dir, "db"))
	put := func(i int) error {
		return b.Update(func(tx Tx) error { // two records that are always equal
			v, w := Volume{DisplayName: fmt.Sprint(i)}, Volume{DisplayName: fmt.Sprint(i)}
			v.ID, w.ID = "a", "b"
			return errors.Join(Volumes.Put(tx, "a", v), Volumes.Put(tx, "b", w))
		})
	}
	if err := put(0); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := 1; ; i++ {
			select {
			case <-stop:
				return
			default:
				if err := put(i); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	for i := range 10 {
		path := filepath.Join(dir, fmt.Sprint("copy", i))
		if err := b.Backup(path); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
	}
	close(stop)
	writer.Wait()
	for i := range 10 {
		holdsPair(t, filepath.Join(dir, fmt.Sprint("copy", i)))
	}
	openings, err := os.ReadFile(filepath.Join(dir, "db.session"))
	if err != nil {
		t.Fatal(err)
	}
	last := filepath.Join(dir, "last")
	if err := errors.Join(b.Backup(last), b.Close(), os.WriteFile(last+openingsSuffix, openings, 0o600)); err != nil {
		t.Fatal(err)
	}
	holdsPair(t, last)
}

func holdsPair(t *testing.T, path string) {
	t.Helper()
	b := openAt(t, path)
	defer b.Close()
	if !b.Restored() {
		t.Errorf("%s does not count as restored", path)
	}
	err := b.View(func(tx Tx) error {
		all, err := Volumes.All(tx)
		if len(all) != 2 || all[0].DisplayName != all[1].DisplayName {
			t.Errorf("%s holds %+v", path, all)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestBackupFails: there is no file, or the one that was there.
func TestBackupFails(t *testing.T) {
	dir := t.TempDir()
	b := openAt(t, filepath.Join(dir, "db"))
	there := filepath.Join(dir, "there")
	if err := os.WriteFile(there, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.Backup(there); !errors.Is(err, os.ErrExist) {
		t.Error(err)
	}
	if p, err := os.ReadFile(there); err != nil || string(p) != "x" {
		t.Errorf("%q, %v", p, err)
	}
	if err := b.Backup(filepath.Join(dir, "none", "x")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	gone := filepath.Join(dir, "closed")
	if err := b.Backup(gone); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if _, err := os.Stat(gone); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
