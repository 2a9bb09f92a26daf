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
			if err := os.WriteFile(path+sessionSuffix, []byte(s), 0o600); err != nil {
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
		{"the session file lost", remove(sessionSuffix), true},
		{"the session file torn", text(`{"version":1,"sto`), true},
		{"the session file empty", text(""), true},
		{"the session file of another store", text(`{"version":1,"store_id":"x","session":1}`), true},
		{"both lost", func(t *testing.T, path string) { remove("")(t, path); remove(sessionSuffix)(t, path) }, false},
		{"a crash between store and session file", func(t *testing.T, path string) {
			copyFile(t, path+".session-before", path+sessionSuffix)
		}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := storePath(t)
			closeBolt(t, openBolt(t, path, BoltOptions{}))
			copyFile(t, path, path+".backup")
			copyFile(t, path+sessionSuffix, path+".session-before")
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
	if err := os.Remove(path + sessionSuffix); err != nil {
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

// TestSession: it grows by each opening, beyond what either place says.
func TestSession(t *testing.T) {
	path := storePath(t)
	for want := range uint64(3) {
		b := openBolt(t, path, BoltOptions{})
		if b.Session() != want+1 {
			t.Errorf("session %d, want %d", b.Session(), want+1)
		}
		closeBolt(t, b)
	}
	b := openBolt(t, path, BoltOptions{})
	id := b.ID()
	closeBolt(t, b)
	if err := writeSession(path, session{Version: 1, StoreID: id, Session: 40}); err != nil {
		t.Fatal(err)
	}
	b = openBolt(t, path, BoltOptions{})
	if found, err := readSession(path); err != nil || b.Session() != 41 || found.Session != 41 {
		t.Errorf("session %d, in the file %+v, error %v; want 41", b.Session(), found, err)
	}
	if info, err := os.Stat(path + sessionSuffix); err != nil || info.Size() != sessionSize || info.Mode() != 0o600 {
		t.Errorf("session file %v, error %v", info, err)
	}
}

// TestSessionFileFails: without its session file a store does not open.
func TestSessionFileFails(t *testing.T) {
	path := storePath(t)
	if err := os.Mkdir(path+sessionSuffix, 0o700); err != nil {
		t.Fatal(err)
	}
	if b, err := OpenBolt(path, BoltOptions{}); err == nil {
		closeBolt(t, b)
		t.Error("opened without a session file")
	}
	if err := writeSession(path, session{}); err == nil {
		t.Error("wrote a directory")
	}
	if _, err := readSession(path + "\x00"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read of an impossible name: %v", err)
	}
}
