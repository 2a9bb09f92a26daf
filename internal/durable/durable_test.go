package durable

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// only fails the test unless the directory holds exactly these names.
func only(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(names) {
		t.Fatalf("directory holds %v, want %v", entries, names)
	}
	for i, e := range entries {
		if e.Name() != names[i] {
			t.Fatalf("directory holds %v, want %v", entries, names)
		}
	}
}

func write(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

func TestWriteFileReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, s := range []string{"first", "second, longer", ""} {
		if err := WriteFile(path, 0o600, write(s)); err != nil {
			t.Fatal(err)
		}
		if got := content(t, path); got != s {
			t.Fatalf("content %q, want %q", got, s)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	only(t, dir, "f")
}

func TestWriteFileFailureKeepsTheOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := WriteFile(path, 0o600, write("old")); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	err := WriteFile(path, 0o600, func(w io.Writer) error {
		if _, err := io.WriteString(w, "new"); err != nil {
			return err
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Fatalf("error %v", err)
	}
	if got := content(t, path); got != "old" {
		t.Fatalf("content %q", got)
	}
	only(t, dir, "f")
}

func TestWriteFileFullDevice(t *testing.T) {
	err := WriteFile(filepath.Join(t.TempDir(), "f"), 0o600, func(io.Writer) error {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Skip("no /dev/full: ", err)
		}
		defer full.Close()
		_, err = full.Write([]byte("x"))
		return err
	})
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("error %v, want ENOSPC kept", err)
	}
}

func TestCreate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	broken := errors.New("broken")
	if err := Create(path, 0o640, func(io.Writer) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	only(t, dir)
	if err := Create(path, 0o640, write("first")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	err = Create(path, 0o640, func(io.Writer) error { t.Error("written for nothing"); return nil })
	if !errors.Is(err, fs.ErrExist) || content(t, path) != "first" {
		t.Errorf("over a file: %v", err)
	}
	if err := Create(filepath.Join(path, "x"), 0o640, write("")); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("below a file: %v", err)
	}
	only(t, dir, "f")
}

// What came while the file was written is not replaced.
func TestCreateLosesARace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	err := Create(path, 0o600, func(io.Writer) error { return os.WriteFile(path, []byte("theirs"), 0o600) })
	if !errors.Is(err, fs.ErrExist) || content(t, path) != "theirs" {
		t.Errorf("error %v, content %q", err, content(t, path))
	}
	only(t, dir, "f")
}

// Both ways of naming a new file: nothing is replaced.
func TestNameNew(t *testing.T) {
	for name, way := range map[string]func(temp, path string) error{"rename": nameNew, "link": linkNew} {
		dir := t.TempDir()
		temp, path := filepath.Join(dir, "temp"), filepath.Join(dir, "path")
		for i, want := range []error{nil, fs.ErrExist} {
			if err := os.WriteFile(temp, []byte{'0' + byte(i)}, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := way(temp, path); !errors.Is(err, want) || content(t, path) != "0" {
				t.Errorf("%s: error %v, want %v", name, err, want)
			}
		}
		only(t, dir, "path", "temp")
	}
}

func TestReplaceTakesOverWhatACrashLeft(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path+tempSuffix, []byte("left over by a crash, long"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Replace(path, 0o640, func(f *os.File) error {
		_, err := f.WriteString("whole")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := content(t, path); got != "whole" {
		t.Fatalf("content %q", got)
	}
	if _, err := f.WriteAt([]byte("W"), 0); err != nil {
		t.Fatal(err)
	}
	if got := content(t, path); got != "Whole" {
		t.Fatalf("the file returned is not the file named: %q", got)
	}
	only(t, dir, "f")
}

func TestReplaceErrors(t *testing.T) {
	dir := t.TempDir()
	fill := func(*os.File) error { return nil }
	if _, err := Replace(filepath.Join(dir, "missing", "f"), 0o600, fill); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
	// The name is taken by a directory with something in it: the rename fails after the file was written.
	taken := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(taken, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Replace(taken, 0o600, fill); err == nil {
		t.Error("rename over a directory succeeded")
	}
	only(t, dir, "taken")
	// The temporary name is taken by a directory that cannot be removed.
	if err := os.MkdirAll(filepath.Join(dir, "g"+tempSuffix, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Replace(filepath.Join(dir, "g"), 0o600, fill); err == nil {
		t.Error("temporary name taken by a directory: no error")
	}
}

func TestRemove(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	only(t, dir)
	if err := os.MkdirAll(filepath.Join(dir, "d", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Remove(filepath.Join(dir, "d")); err == nil {
		t.Error("a full directory was removed")
	}
	if err := Remove(filepath.Join(dir, "missing", "f")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
}

func TestPreallocate(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Preallocate(f, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := Preallocate(f, 0); err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil || info.Size() != 0 {
		t.Fatalf("size %d, %v; want 0", info.Size(), err)
	}
	if err := Preallocate(f, 1<<62); err == nil {
		t.Error("more room than any disk has was reserved")
	}
	if err := SyncData(f); err != nil {
		t.Fatal(err)
	}
}

func TestSyncErrors(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if err := SyncData(w); !errors.Is(err, unix.EINVAL) {
		t.Errorf("fdatasync of a pipe: %v", err)
	}
	if err := Preallocate(w, 1); err == nil {
		t.Error("room in a pipe")
	}
	if err := SyncDir(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
}
