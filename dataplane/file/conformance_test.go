package file

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/drivertest"
)

// places are the file systems that tests run on, and the two ways to keep marks.
var places = []struct {
	name  string
	dir   func(t *testing.T) string
	marks marks
}{
	{"disk", func(t *testing.T) string { return t.TempDir() }, nil},
	{"tmpfs", shm, nil},
	{"disk with sidecars", func(t *testing.T) string { return t.TempDir() }, sidecarMarks{}},
	{"tmpfs with sidecars", shm, sidecarMarks{}},
}

// shm is a directory on a tmpfs.
func shm(t *testing.T) string {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &st); err != nil || int64(st.Type) != unix.TMPFS_MAGIC {
		t.Skipf("no tmpfs at /dev/shm: %v", err)
	}
	dir, err := os.MkdirTemp("/dev/shm", "cvold-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// everywhere runs a test on each place, with a fresh driver.
func everywhere(t *testing.T, run func(t *testing.T, d *Driver)) {
	for _, place := range places {
		t.Run(place.name, func(t *testing.T) { run(t, open(t, place.dir(t), place.marks)) })
	}
}

func open(t *testing.T, dir string, m marks) *Driver {
	t.Helper()
	d, err := newDriver(Config{Name: "test", Directory: dir}, m, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestConformance(t *testing.T) {
	for _, place := range places {
		t.Run(place.name, func(t *testing.T) {
			drivertest.Run(t, drivertest.Harness{
				New: func(t *testing.T) dataplane.Driver { return open(t, place.dir(t), place.marks) },
				Reopen: func(t *testing.T, d dataplane.Driver) dataplane.Driver {
					return open(t, d.(*Driver).config.Directory, place.marks)
				},
				Foreign: foreign,
				Found: func(t *testing.T, d dataplane.Driver, name string, p []byte) {
					if err := os.WriteFile(d.(*Driver).path(name), p, 0o600); err != nil {
						t.Fatal(err)
					}
				},
				Replace:  replace,
				Outsider: outsider,
			})
		})
	}
}

// foreign puts somebody's file there.
func foreign(t *testing.T, d dataplane.Driver, name string) func(*testing.T) {
	path, want := d.(*Driver).path(name), bytes.Repeat([]byte("theirs\n"), 1000)
	if err := os.WriteFile(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return func(t *testing.T) {
		t.Helper()
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("the foreign file was touched: %d bytes, %v", len(got), err)
		}
		if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) || !after.ModTime().Equal(before.ModTime()) {
			t.Errorf("the foreign file was replaced or changed: %v", err)
		}
	}
}

// replace is what cp --archive and mv do.
func replace(t *testing.T, driver dataplane.Driver, v dataplane.Volume) {
	path := driver.(*Driver).path(v.Name)
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	mark := make([]byte, maxMark)
	n, err := unix.Getxattr(path, markName, mark)
	marked := err == nil
	if err := os.WriteFile(path+".copy", p, 0o600); err != nil {
		t.Fatal(err)
	}
	if marked {
		if err := unix.Setxattr(path+".copy", markName, mark[:n], 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(path+".copy", path); err != nil {
		t.Fatal(err)
	}
}

// outsider is another agent on the same directory.
func outsider(t *testing.T, d dataplane.Driver, v dataplane.Volume, writes bool) (func(), error) {
	other := open(t, d.(*Driver).config.Directory, d.(*Driver).marks)
	dev, err := other.Open(t.Context(), v, dataplane.Mode{ReadOnly: !writes})
	if err != nil {
		return nil, err
	}
	return func() { _ = dev.Close() }, nil
}

// volumeOf makes a volume for tests that are about one.
func volumeOf(t *testing.T, d *Driver, name string, size int64) dataplane.Volume {
	t.Helper()
	v, err := d.Create(t.Context(), dataplane.Volume{ID: name, Name: name, Size: size}, markFor(name))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func markFor(id string) dataplane.Mark { return dataplane.Mark{StoreID: "store", VolumeID: id} }

func deviceOf(t *testing.T, d *Driver, v dataplane.Volume, mode dataplane.Mode) dataplane.Device {
	t.Helper()
	dev, err := d.Open(t.Context(), v, mode)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dev.Close() })
	return dev
}

// left are the names in the directory, without the lock.
func left(t *testing.T, d *Driver) []string {
	t.Helper()
	entries, err := os.ReadDir(d.config.Directory)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != lockName {
			names = append(names, filepath.Base(e.Name()))
		}
	}
	return names
}
