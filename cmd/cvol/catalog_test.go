package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCatalogBackup: whole, readable by its owner alone, never over another file unless asked, and none if it fails.
func TestCatalogBackup(t *testing.T) {
	f := newFake(t)
	path := filepath.Join(t.TempDir(), "db")
	if r := f.cvol(t.Context(), "catalog", "backup", path); r.code != 0 || !strings.Contains(r.stdout, "The catalog is in "+path+", 7 B.") {
		t.Fatalf("%+v", r)
	}
	holds := func(want string) {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil || info.Mode() != 0o600 {
			t.Fatalf("%v, %v", info, err)
		}
		if p, _ := os.ReadFile(path); string(p) != want {
			t.Errorf("%q, want %q", p, want)
		}
	}
	holds("catalog")
	if err := os.WriteFile(path, []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := f.cvol(t.Context(), "catalog", "backup", path); r.code != exitOther || !strings.Contains(r.stderr, "--force") {
		t.Errorf("%+v", r)
	}
	holds("other")
	f.cutBackup = true
	if r := f.cvol(t.Context(), "catalog", "backup", "--force", path); r.code != exitUnreachable {
		t.Errorf("%+v", r)
	}
	holds("other")
	f.cutBackup = false
	if r := f.cvol(t.Context(), "catalog", "backup", "--force", path); r.code != 0 {
		t.Errorf("%+v", r)
	}
	holds("catalog")
	if r := f.cvol(t.Context(), "catalog", "backup", "-"); r.code != 0 || r.stdout != "catalog" {
		t.Errorf("%+v", r)
	}
	if r := f.cvol(t.Context(), "catalog", "backup", "--json", path+".2"); r.code != 0 || !strings.Contains(r.stdout, `"size_bytes": 7`) {
		t.Errorf("%+v", r)
	}
	if err := os.Remove(path + ".2"); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{t.TempDir(), filepath.Join(path, "x"), filepath.Join(t.TempDir(), "none", "x")} {
		if r := f.cvol(t.Context(), "catalog", "backup", bad); r.code != exitOther || r.stdout != "" {
			t.Errorf("%s: %+v", bad, r)
		}
	}
	if left, _ := filepath.Glob(path + "*"); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}
