package file

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
)

// TestSyncFailureStays: the kernel tells of a failed write once; the device goes on telling (SAFETY 4).
func TestSyncFailureStays(t *testing.T) {
	d := open(t, t.TempDir(), nil)
	v := volumeOf(t, d, "volume-1", 1<<20)
	dev := deviceOf(t, d, v, dataplane.Mode{}).(*device)
	if err := dev.flush(func(int) error { return unix.EIO }); !errors.Is(err, unix.EIO) {
		t.Fatal(err)
	}
	for range 2 {
		if err := dev.Sync(); !errors.Is(err, dataplane.ErrIO) {
			t.Errorf("sync: %v, want ErrIO", err)
		}
	}
	if err := dev.Extents(bg, 0, 1<<20, func(dataplane.Extent) error { return nil }); !errors.Is(err, dataplane.ErrIO) {
		t.Errorf("extents, which flush: %v, want ErrIO", err)
	}
	if err := deviceOf(t, d, v, dataplane.Mode{}).Sync(); err != nil {
		t.Errorf("a device opened anew: %v", err)
	}
}

func TestErrno(t *testing.T) {
	for errno, want := range map[unix.Errno]error{
		unix.ENOSPC: dataplane.ErrNoSpace, unix.EDQUOT: dataplane.ErrNoSpace, unix.EFBIG: dataplane.ErrNoSpace,
		unix.EIO: dataplane.ErrIO, unix.EUCLEAN: dataplane.ErrIO, unix.ENOENT: dataplane.ErrNotFound,
		unix.EEXIST: dataplane.ErrExists, unix.EBUSY: dataplane.ErrBusy, unix.EROFS: dataplane.ErrReadOnly,
		unix.EOPNOTSUPP: dataplane.ErrNotSupported, unix.EPERM: os.ErrPermission,
	} {
		err := border(border(fmt.Errorf("call: %w", errno)))
		if !errors.Is(err, want) || !errors.Is(err, errno) {
			t.Errorf("%v became %v", errno, err)
		}
	}
	if border(nil) != nil || border(os.ErrClosed) != os.ErrClosed {
		t.Error("what is no errno was changed")
	}
}

// TestFileCutBehindOurBack: a file that somebody made shorter is an error, not zeroes, not an endless loop.
func TestFileCutBehindOurBack(t *testing.T) {
	everywhere(t, func(t *testing.T, d *Driver) {
		v := volumeOf(t, d, "volume-1", 4<<20)
		for _, mode := range []dataplane.Mode{{}, {Medium: true}} {
			dev := deviceOf(t, d, v, mode)
			if err := os.Truncate(d.path(v.Name), 1<<20); err != nil {
				t.Fatal(err)
			}
			for _, off := range []int64{0, 512, 2 << 20, 2<<20 + 512} {
				if n, err := dev.ReadAt(make([]byte, 2<<20-512), off); !errors.Is(err, dataplane.ErrIO) {
					t.Errorf("%+v: read at %d: %d, %v, want ErrIO", mode, off, n, err)
				}
			}
			if err := os.Truncate(d.path(v.Name), 4<<20); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestMediumPassesTheCache: a verifying read is not answered by the page cache and leaves nothing in it.
func TestMediumPassesTheCache(t *testing.T) {
	d := open(t, t.TempDir(), nil)
	v := volumeOf(t, d, "volume-1", 4<<20)
	writer, medium := deviceOf(t, d, v, dataplane.Mode{}), deviceOf(t, d, v, dataplane.Mode{Medium: true})
	if !medium.Info().Medium {
		t.Skip("no O_DIRECT on the file system of t.TempDir")
	}
	if _, err := writer.WriteAt(bytes.Repeat([]byte{1}, 4<<20), 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(writer.Sync(), unix.Fadvise(writer.(*device).fd, 0, 4<<20, unix.FADV_DONTNEED)); err != nil {
		t.Fatal(err)
	}
	if n := cached(t, d.path(v.Name), 4<<20); n != 0 {
		t.Skipf("the kernel kept %d pages", n)
	}
	for _, off := range []int64{0, 512} { // into the caller's buffer, and through a slab
		if _, err := medium.ReadAt(make([]byte, 2<<20), off); err != nil {
			t.Fatal(err)
		}
	}
	if n := cached(t, d.path(v.Name), 4<<20); n != 0 {
		t.Errorf("%d pages are in the cache after medium reads", n)
	}
	if _, err := writer.ReadAt(make([]byte, 4096), 0); err != nil || cached(t, d.path(v.Name), 4<<20) == 0 {
		t.Errorf("the test cannot see the cache: %v", err)
	}
}

// cached counts the file's pages in the page cache.
func cached(t *testing.T, path string, size int) (pages int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(m) }()
	vec := make([]byte, size/os.Getpagesize())
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(size), uintptr(unsafe.Pointer(&vec[0])))
	if errno != 0 {
		t.Fatal(errno)
	}
	for _, b := range vec {
		pages += int(b & 1)
	}
	return pages
}

// TestZeroModes: a hole gives the space back, and without MayUnmap the space stays.
func TestZeroModes(t *testing.T) {
	everywhere(t, func(t *testing.T, d *Driver) {
		v := volumeOf(t, d, "volume-1", 4<<20)
		dev := deviceOf(t, d, v, dataplane.Mode{})
		if _, err := dev.WriteAt(bytes.Repeat([]byte{1}, 4<<20), 0); err != nil {
			t.Fatal(err)
		}
		used := func() int64 {
			var st unix.Stat_t
			if err := errors.Join(dev.Sync(), unix.Stat(d.path(v.Name), &st)); err != nil {
				t.Fatal(err)
			}
			return st.Blocks * 512
		}
		full := used()
		if err := dev.ZeroAt(0, 2<<20, dataplane.ZeroMode{}); err != nil || used() < full {
			t.Errorf("zero with space kept: %v, %d bytes of %d", err, used(), full)
		}
		if err := dev.ZeroAt(0, 2<<20, dataplane.ZeroMode{MayUnmap: true}); err != nil || used() > full-2<<20 {
			t.Errorf("zero by a hole: %v, %d bytes of %d", err, used(), full)
		}
		if err := dev.Discard(2<<20, 2<<20); err != nil || used() > full-4<<20 {
			t.Errorf("discard: %v, %d bytes of %d", err, used(), full)
		}
	})
}

// TestGateAbandons: Close waits a bounded time for a call that hangs; what the device holds goes when that ends.
func TestGateAbandons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		released := false
		if err := g.enter(); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := g.close(closeTimeout, func() { released = true }); !errors.Is(err, dataplane.ErrAbandoned) {
			t.Errorf("close: %v, want ErrAbandoned", err)
		}
		if time.Since(began) != closeTimeout || released {
			t.Errorf("after %v, released %v", time.Since(began), released)
		}
		if err := g.enter(); !errors.Is(err, dataplane.ErrClosed) {
			t.Errorf("enter: %v, want ErrClosed", err)
		}
		g.leave()
		if synctest.Wait(); !released {
			t.Error("not released when the last call had left")
		}
		if err := g.close(closeTimeout, nil); !errors.Is(err, dataplane.ErrClosed) {
			t.Errorf("second close: %v, want ErrClosed", err)
		}
	})
}

// TestGateAbandonsRelease: the kernel's own close may hang, for it writes what is in the page cache: neither Close nor who calls
// the device meanwhile waits for that.
func TestGateAbandonsRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		hangs := make(chan struct{})
		began := time.Now()
		if err := g.close(closeTimeout, func() { <-hangs }); !errors.Is(err, dataplane.ErrAbandoned) || time.Since(began) != closeTimeout {
			t.Errorf("close: %v after %v, want ErrAbandoned", err, time.Since(began))
		}
		if err := g.enter(); !errors.Is(err, dataplane.ErrClosed) {
			t.Errorf("enter: %v, want ErrClosed", err)
		}
		close(hangs)
	})
}

// TestGateWaits: Close returns as soon as the last call has left.
func TestGateWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		if err := g.enter(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		released := false
		go func() { done <- g.close(closeTimeout, func() { released = true }) }()
		synctest.Wait()
		if g.ended() == nil || released {
			t.Error("the gate is open, or was released under a call")
		}
		g.leave()
		if err := <-done; err != nil || !released {
			t.Errorf("%v, released %v", err, released)
		}
	})
}
