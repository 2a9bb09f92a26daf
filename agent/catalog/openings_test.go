package catalog

import (
	"errors"
	"io/fs"
	"os"
	"testing"
)

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestRestored names the ways in which a store comes to be older than it was, and those in which it only seems so.
func TestRestored(t *testing.T) {
	text := func(s string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path+openingsSuffix, []byte(s), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(suffix string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			if err := os.Remove(path + suffix); err != nil {
				t.Fatal(err)
			}
		}
	}
	tests := []struct {
		name string
		do   func(t *testing.T, path string)
		want bool
	}{
		{"nothing", func(*testing.T, string) {}, false},
		{"a backup put back", func(t *testing.T, path string) { copyFile(t, path+".backup", path) }, true},
		{"the store lost", remove(""), true},
		{"the openings file lost", remove(openingsSuffix), true},
		{"the openings file torn", text(`{"version":1,"sto`), true},
		{"the openings file empty", text(""), true},
		{"the openings file of another store", text(`{"version":1,"store_id":"x","session":1}`), true},
		{"both lost", func(t *testing.T, path string) { remove("")(t, path); remove(openingsSuffix)(t, path) }, false},
		{"a crash between store and openings file", func(t *testing.T, path string) {
			copyFile(t, path+".before", path+openingsSuffix)
		}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := storePath(t)
			closeBolt(t, openBolt(t, path, BoltOptions{}))
			copyFile(t, path, path+".backup")
			copyFile(t, path+openingsSuffix, path+".before")
			closeBolt(t, openBolt(t, path, BoltOptions{}))
			test.do(t, path)
			b := openBolt(t, path, BoltOptions{})
			if b.Restored() != test.want {
				t.Errorf("restored %v, want %v", b.Restored(), test.want)
			}
		})
	}
}

// TestRestoredStays until it is cleared, and is cleared for good.
func TestRestoredStays(t *testing.T) {
	path := storePath(t)
	closeBolt(t, openBolt(t, path, BoltOptions{}))
	if err := os.Remove(path + openingsSuffix); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		b := openBolt(t, path, BoltOptions{})
		if !b.Restored() {
			t.Fatalf("not restored at opening %d", i)
		}
		closeBolt(t, b)
	}
	b := openBolt(t, path, BoltOptions{})
	if err := b.ClearRestored(); err != nil || b.Restored() {
		t.Fatalf("cleared: restored %v, error %v", b.Restored(), err)
	}
	closeBolt(t, b)
	if b = openBolt(t, path, BoltOptions{}); b.Restored() {
		t.Error("restored again")
	}
}

// TestOpenings: it grows by each opening, beyond what either place says.
func TestOpenings(t *testing.T) {
	path := storePath(t)
	for want := range uint64(3) {
		b := openBolt(t, path, BoltOptions{})
		if b.Openings() != want+1 {
			t.Errorf("openings %d, want %d", b.Openings(), want+1)
		}
		closeBolt(t, b)
	}
	b := openBolt(t, path, BoltOptions{})
	id := b.ID()
	closeBolt(t, b)
	if err := writeOpenings(path, openings{Version: 1, StoreID: id, Openings: 40}); err != nil {
		t.Fatal(err)
	}
	b = openBolt(t, path, BoltOptions{})
	if found, err := readOpenings(path); err != nil || b.Openings() != 41 || found.Openings != 41 {
		t.Errorf("openings %d, in the file %+v, error %v; want 41", b.Openings(), found, err)
	}
	if info, err := os.Stat(path + openingsSuffix); err != nil || info.Size() != openingsSize || info.Mode() != 0o600 {
		t.Errorf("openings file %v, error %v", info, err)
	}
}

// TestOpeningsFileFails: without its openings file a store does not open.
func TestOpeningsFileFails(t *testing.T) {
	path := storePath(t)
	if err := os.Mkdir(path+openingsSuffix, 0o700); err != nil {
		t.Fatal(err)
	}
	if b, err := OpenBolt(path, BoltOptions{}); err == nil {
		closeBolt(t, b)
		t.Error("opened without a openings file")
	}
	if err := writeOpenings(path, openings{}); err == nil {
		t.Error("wrote a directory")
	}
	if _, err := readOpenings(path + "\x00"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read of an impossible name: %v", err)
	}
}
