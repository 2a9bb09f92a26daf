package file_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/drivertest"
	"github.com/cvold/cvold/dataplane/file"
)

func rawFile(t *testing.T, size int64) string {
	path := filepath.Join(t.TempDir(), "raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestOpenPathKeepsTheContract: a file that is no volume is a device like any other.
func TestOpenPathKeepsTheContract(t *testing.T) {
	drivertest.Device(t, func(t *testing.T, size int64) dataplane.Device {
		d, err := file.OpenPath(t.Context(), rawFile(t, size), dataplane.Mode{})
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
}

// TestOpenPathDirect: the contract holds past the page cache, aligned or not.
func TestOpenPathDirect(t *testing.T) {
	drivertest.Device(t, func(t *testing.T, size int64) dataplane.Device {
		d, err := file.OpenPath(t.Context(), rawFile(t, size), dataplane.Mode{Direct: true})
		if errors.Is(err, dataplane.ErrNotSupported) {
			t.Skip("no direct I/O in the directory of tests:", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
}

// TestOpenPathOddSize: a file of any size is served to its last byte, past the page cache too.
func TestOpenPathOddSize(t *testing.T) {
	path := rawFile(t, 0)
	if err := os.WriteFile(path, []byte("nine byte"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []dataplane.Mode{{}, {ReadOnly: true}, {Medium: true}, {Direct: true}, {Direct: true, ReadOnly: true}} {
		d, err := file.OpenPath(t.Context(), path, mode)
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 9)
		if n, err := d.ReadAt(p, 0); n != 9 || err != nil || string(p) != "nine byte" {
			t.Errorf("%+v: %d bytes %q, %v", mode, n, p, err)
		}
		if _, err := d.ReadAt(p[:2], 8); !errors.Is(err, dataplane.ErrOutOfRange) {
			t.Errorf("%+v: past the end: %v", mode, err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestOpenPathLocks: one writer, or readers; what is given to read without copying ends with the device.
func TestOpenPathLocks(t *testing.T) {
	path := rawFile(t, 4096)
	open := func(mode dataplane.Mode) (dataplane.Device, error) { return file.OpenPath(t.Context(), path, mode) }
	writer, err := open(dataplane.Mode{})
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []dataplane.Mode{{}, {ReadOnly: true, Exclusive: true}} {
		if d, err := open(mode); !errors.Is(err, dataplane.ErrBusy) {
			t.Errorf("%+v beside a writer: %v, %v", mode, d, err)
		}
	}
	shared := writer.Info().File
	if shared == nil {
		t.Fatal("no file to read from")
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := shared.Stat(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the file is still open: %v", err)
	}
	reader, err := open(dataplane.Mode{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if _, err := reader.WriteAt([]byte("x"), 0); !errors.Is(err, dataplane.ErrReadOnly) {
		t.Errorf("a reader writes: %v", err)
	}
}

func TestOpenPathRefuses(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]error{dir: dataplane.ErrNotSupported, dir + "/none": dataplane.ErrNotFound, "/dev/null": dataplane.ErrNotSupported} {
		if _, err := file.OpenPath(t.Context(), path, dataplane.Mode{}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
}

// TestFromFile: a device on an open file keeps the contract, takes no lock and leaves the file to its owner.
func TestFromFile(t *testing.T) {
	drivertest.Device(t, func(t *testing.T, size int64) dataplane.Device {
		f, err := os.OpenFile(rawFile(t, size), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		d, err := file.FromFile(f, dataplane.Mode{})
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
	path := rawFile(t, 4096)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	d, err := file.FromFile(f, dataplane.Mode{})
	if err != nil {
		t.Fatal(err)
	}
	other, err := file.OpenPath(t.Context(), path, dataplane.Mode{})
	if err != nil {
		t.Fatalf("it holds a lock: %v", err)
	}
	if err := errors.Join(other.Close(), d.Close()); err != nil {
		t.Error(err)
	}
	if _, err := f.WriteAt([]byte("x"), 0); err != nil {
		t.Errorf("the file was closed: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := file.FromFile(f, dataplane.Mode{}); err == nil {
		t.Error("a closed file became a device")
	}
	pipe, end, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	defer end.Close()
	if _, err := file.FromFile(pipe, dataplane.Mode{}); !errors.Is(err, dataplane.ErrNotSupported) {
		t.Errorf("of a pipe: %v", err)
	}
}
