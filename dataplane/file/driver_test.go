package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/drivertest"
)

var bg = context.Background()

func TestNames(t *testing.T) {
	d := open(t, t.TempDir(), nil)
	for _, name := range []string{"", ".", "..", ".hidden", lockName, "a/b", "/etc/passwd", "../up", "nul\x00", strings.Repeat("x", 256)} {
		v := dataplane.Volume{ID: "1", Name: name, Size: sector, Identity: "x"}
		_, createErr := d.Create(bg, v, markFor("1"))
		_, lookupErr := d.Lookup(bg, v)
		_, openErr := d.Open(bg, v, dataplane.Mode{})
		_, renameErr := d.UpdateMigratedVolume(bg, v, volumeOf(t, d, "good", sector), "available")
		errs := []error{createErr, lookupErr, openErr, renameErr, d.Delete(bg, v), d.Extend(bg, v, sector)}
		for i, err := range errs {
			if !errors.Is(err, ErrName) {
				t.Errorf("%q: call %d: %v, want ErrName", name, i, err)
			}
		}
	}
	for _, name := range []string{"a", "volume-1", "späß ☃", "with space", strings.Repeat("x", 255), "a.b"} {
		if err := d.Delete(bg, volumeOf(t, d, name, sector)); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestSizes(t *testing.T) {
	d := open(t, t.TempDir(), nil)
	for size, want := range map[int64]error{
		0: dataplane.ErrOutOfRange, -512: dataplane.ErrOutOfRange, 511: dataplane.ErrUnaligned, 1<<20 + 1: dataplane.ErrUnaligned,
		1<<63 - 512: dataplane.ErrNoSpace,
	} {
		_, err := d.Create(bg, dataplane.Volume{ID: "1", Name: "bad", Size: size}, markFor("1"))
		if !errors.Is(err, want) {
			t.Errorf("%d bytes: %v, want %v", size, err, want)
		}
	}
	if names := left(t, d); len(names) != 0 {
		t.Errorf("left are %v", names)
	}
	v := volumeOf(t, d, "good", 1<<40) // takes no space
	if err := d.Extend(bg, v, 1<<40+1); !errors.Is(err, dataplane.ErrUnaligned) {
		t.Errorf("extend by a byte: %v", err)
	}
}

// TestOddSizes: a file that ends in the middle of a page, read from the medium up to its end.
func TestOddSizes(t *testing.T) {
	everywhere(t, func(t *testing.T, d *Driver) {
		for _, size := range []int64{512, 1024, 4096 + 512, 2<<20 - 512, 3<<20 + 1536} {
			v := volumeOf(t, d, "volume-1", size)
			writer, medium := deviceOf(t, d, v, dataplane.Mode{}), deviceOf(t, d, v, dataplane.Mode{Medium: true})
			want := bytes.Repeat([]byte("0123456789abcde"), int(size/15+1))[:size]
			if _, err := writer.WriteAt(want, 0); err != nil {
				t.Fatal(err)
			}
			if err := writer.Sync(); err != nil {
				t.Fatal(err)
			}
			for _, off := range []int64{0, size - 512, size / 1024 * 512} {
				got := make([]byte, size-off)
				if n, err := medium.ReadAt(got, off); err != nil || n != len(got) || !bytes.Equal(got, want[off:]) {
					t.Errorf("%d bytes, from %d: %d, %v", size, off, n, err)
				}
			}
			if err := errors.Join(writer.Close(), medium.Close(), d.Delete(bg, v)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestAbilities: the two file systems of every machine can do all that the driver makes use of.
func TestAbilities(t *testing.T) {
	for _, place := range places[:2] {
		d := open(t, place.dir(t), place.marks)
		if !d.Features().DirectRead || !d.Features().Holes || !d.can.xattr || !d.can.birth || !d.can.punch {
			t.Errorf("%s: %+v", place.name, d.can)
		}
	}
}

// TestNotRegular: what is no file is not ours, and looking at it neither blocks nor follows it.
func TestNotRegular(t *testing.T) {
	d := open(t, t.TempDir(), nil)
	v := volumeOf(t, d, "volume-1", sector)
	err := errors.Join(
		syscall.Mkfifo(d.path("fifo"), 0o600), os.Mkdir(d.path("directory"), 0o700),
		os.Symlink("volume-1", d.path("link")), os.Symlink("nowhere", d.path("dangling")),
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, v.Name = range []string{"fifo", "directory", "link", "dangling"} {
		_, lookupErr := d.Lookup(bg, v)
		_, openErr := d.Open(bg, v, dataplane.Mode{})
		for i, err := range []error{lookupErr, openErr, d.Delete(bg, v), d.Extend(bg, v, 2*sector)} {
			if !errors.Is(err, dataplane.ErrNotOurs) {
				t.Errorf("%s: call %d: %v, want ErrNotOurs", v.Name, i, err)
			}
		}
	}
	if got := listed(t, d); got != "volume-1" {
		t.Errorf("listed %s", got)
	}
}

// TestSweepLeavesForeignNames: only names that are exactly ours are removed.
func TestSweepLeavesForeignNames(t *testing.T) {
	everywhere(t, func(t *testing.T, d *Driver) {
		id := strings.Repeat("0a", objectIDSize)
		theirs := []string{
			".cvold-new-", ".cvold-new-" + id + "0", ".cvold-new-" + strings.ToUpper(id), ".cvold-new-x" + id[1:],
			".cvold-mark-", ".cvold-mark-x", ".cvold-mark-007", ".cvold-mark--1", ".cvold-mark-1.mark", ".other",
			"cvold-new-" + id, "volume-1" + sidecarSuffix, ".cvold-mark-99999999999999999999999",
		}
		ours := []string{newPrefix + id, newPrefix + id + sidecarSuffix, sidecarName(1 << 60)}
		for _, name := range append(theirs, ours...) {
			if err := os.WriteFile(d.path(name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := listed(t, d); got != "" {
			t.Errorf("listed %s", got)
		}
		if names := left(t, d); len(names) != len(theirs) {
			t.Errorf("left are %q, want %q", names, theirs)
		}
	})
}

func TestNewErrors(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Name: "b", Directory: filepath.Join(dir, "none")}); !errors.Is(err, dataplane.ErrNotFound) {
		t.Errorf("no directory: %v", err)
	}
	if _, err := New(Config{Name: "b", Directory: filepath.Join(dir, "file")}); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("a file: %v", err)
	}
	d, err := New(Config{Name: "b", Directory: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Close(), d.Close()); err != nil {
		t.Errorf("close twice: %v", err)
	}
	if _, err := d.Stats(bg); !errors.Is(err, dataplane.ErrClosed) {
		t.Errorf("stats of a closed driver: %v", err)
	}
}

// mount mounts a file system of memory for the test.
func mount(t *testing.T, kind, options string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("cvold-test", dir, kind, 0, options); err != nil {
		t.Skipf("mount %s: %v", kind, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

func TestNoSpace(t *testing.T) {
	d := open(t, mount(t, "tmpfs", "size=1m"), nil)
	v := volumeOf(t, d, "volume-1", 4<<20)
	dev := deviceOf(t, d, v, dataplane.Mode{})
	if n, err := dev.WriteAt(make([]byte, 2<<20), 0); !errors.Is(err, dataplane.ErrNoSpace) || n >= 2<<20 {
		t.Errorf("write: %d, %v, want ErrNoSpace", n, err)
	}
	if err := dev.ZeroAt(2<<20, 2<<20, dataplane.ZeroMode{}); !errors.Is(err, dataplane.ErrNoSpace) {
		t.Errorf("zero with space kept: %v, want ErrNoSpace", err)
	}
	if err := dev.ZeroAt(0, 4<<20, dataplane.ZeroMode{MayUnmap: true}); err != nil {
		t.Errorf("zero by a hole: %v", err)
	}
	if stats, err := d.Stats(bg); err != nil || stats.Total != 1<<20 || stats.Free < 512<<10 {
		t.Errorf("stats: %+v, %v", stats, err)
	}
}

// TestPoorFileSystem: ramfs has no marks, no holes to tell, no fallocate, no O_DIRECT. New refuses it; with marks kept
// elsewhere the contract holds all the same.
func TestPoorFileSystem(t *testing.T) {
	dir := mount(t, "ramfs", "")
	if _, err := New(Config{Name: "poor", Directory: dir}); !errors.Is(err, dataplane.ErrNotSupported) {
		t.Fatalf("new: %v, want ErrNotSupported", err)
	}
	d := open(t, dir, memoryMarks{})
	n := 0
	drivertest.Device(t, func(t *testing.T, size int64) dataplane.Device {
		n++
		return deviceOf(t, d, volumeOf(t, d, fmt.Sprint("volume-", n), size), dataplane.Mode{})
	})
	v := volumeOf(t, d, "volume-medium", 1<<20)
	writer, medium := deviceOf(t, d, v, dataplane.Mode{}), deviceOf(t, d, v, dataplane.Mode{Medium: true})
	want, got := bytes.Repeat([]byte{7}, 1<<20), make([]byte, 1<<20)
	if _, err := writer.WriteAt(want, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := medium.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) || medium.Info().Medium {
		t.Errorf("medium reader: %v, %+v", err, medium.Info())
	}
	if f := d.Features(); f.Holes || f.DirectRead || d.can.punch || d.can.zeroRange {
		t.Errorf("features %+v, %+v", f, d.can)
	}
}

// memoryMarks keeps marks in the test.
type memoryMarks map[uint64]record

func (m memoryMarks) write(_, _ int, r record) error { m[r.Inode] = r; return nil }

func (m memoryMarks) remove(_ int, inode uint64) error { delete(m, inode); return nil }

func (m memoryMarks) erase(_, _ int, inode uint64) error { return m.remove(0, inode) }

func (m memoryMarks) read(_, fd int) (record, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return record{}, err
	}
	if r, ok := m[st.Ino]; ok {
		return r, nil
	}
	return record{}, errNoMark
}

// TestRenameWhileOpen: devices say their path, so the file keeps its name and the record its name id.
func TestRenameWhileOpen(t *testing.T) {
	d := open(t, t.TempDir(), nil)
	v := volumeOf(t, d, "volume-N", sector)
	dev := deviceOf(t, d, v, dataplane.Mode{})
	update, err := d.UpdateMigratedVolume(bg, dataplane.Volume{ID: "S", Name: "volume-S"}, v, "in-use")
	if err != nil || update != nil {
		t.Errorf("%+v, %v", update, err)
	}
	if _, err := os.Stat(dev.Info().Path); err != nil {
		t.Error(err)
	}
}

// TestRenameByLinks: killed between link and unlink the file has both names; the next call takes the old one away.
func TestRenameByLinks(t *testing.T) {
	d := open(t, t.TempDir(), nil)
	v := volumeOf(t, d, "volume-N", sector)
	if err := os.Link(d.path("volume-N"), d.path("volume-S")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.UpdateMigratedVolume(bg, dataplane.Volume{ID: "S", Name: "volume-S"}, v, "available"); err != nil {
		t.Fatal(err)
	}
	if got := listed(t, d); got != "volume-S" {
		t.Errorf("listed %s", got)
	}
}
