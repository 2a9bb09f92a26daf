package view

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/cvold/cvold/dataplane"
)

func TestParseMountinfo(t *testing.T) {
	for line, want := range map[string][2]string{
		"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue": {"/mnt2", "ext3"},
		"40 35 0:40 / /run/cvold/view ro,nosuid - fuse.cvold cvold ro,user_id=0":         {"/run/cvold/view", "fuse.cvold"},
		`41 35 0:41 / /a\040b\011c\012d\134e rw shared:1 master:2 - tmpfs - rw`:          {"/a b\tc\nd\\e", "tmpfs"},
		`41 35 0:41 / /odd\04 rw - tmpfs - rw`:                                           {`/odd\04`, "tmpfs"},
		`41 35 0:41 / /odd\999 rw - tmpfs - rw`:                                          {`/odd\999`, "tmpfs"},
		"":                                                                               {},
		"- - - - - -":                                                                    {},
		"36 35 98:0 /mnt1 /mnt2 rw - ":                                                   {"/mnt2", ""},
	} {
		point, kind, _ := parseMountinfo(line)
		if point != want[0] || kind != want[1] {
			t.Errorf("%q: %q, %q, want %q", line, point, kind, want)
		}
	}
}

func FuzzParseMountinfo(f *testing.F) {
	f.Add("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue")
	f.Add(`41 35 0:41 / /a\040b\011c\012d\134e rw shared:1 master:2 - tmpfs - rw`)
	f.Add(`1 2 3 4 \ 6 - \777 -`)
	f.Fuzz(func(t *testing.T, line string) {
		point, kind, ok := parseMountinfo(line)
		if !ok && point+kind != "" {
			t.Errorf("not a line, and yet %q, %q", point, kind)
		}
		if len(point)+len(kind) > len(line) || strings.Contains(kind, " ") {
			t.Errorf("%q became %q, %q", line, point, kind)
		}
	})
}

func TestMountedAt(t *testing.T) {
	if kind, err := mountedAt("/proc"); kind != "proc" || err != nil {
		t.Errorf("/proc: %q, %v", kind, err)
	}
	if kind, err := mountedAt(t.TempDir()); kind != "" || err != nil {
		t.Errorf("a directory: %q, %v", kind, err)
	}
}

func TestErrnoOf(t *testing.T) {
	for _, e := range errnos {
		if got := errnoOf(errors.Join(errors.New("call"), e.err)); got != e.errno {
			t.Errorf("%v: %v, want %v", e.err, got, e.errno)
		}
	}
	for _, err := range []error{dataplane.ErrIO, dataplane.ErrDisconnected, dataplane.ErrAbandoned, errors.New("other")} {
		if got := errnoOf(err); got != syscall.EIO {
			t.Errorf("%v: %v, want EIO", err, got)
		}
	}
}

// TestSeek holds SEEK_DATA and SEEK_HOLE to what lseek(2) says, without a mount.
func TestSeek(t *testing.T) {
	const size = 1 << 20
	s := newSource()
	s.add(t, "volume-1", size, dataplane.Info{MinBlock: 512}) // data in pages 0, 8 and 15 of 64 KiB
	dev, err := s.Open(t.Context(), "volume-1")
	if err != nil {
		t.Fatal(err)
	}
	v := newView("", s, Options{})
	h := &handle{view: v, device: dev, info: dev.Info()}
	const page = 64 << 10
	for _, tt := range []struct {
		off        uint64
		data, hole uint64
		dataErr    syscall.Errno
	}{
		{0, 0, page, 0},
		{1, 1, page, 0},
		{page, 8 * page, page, 0},
		{page + 7, 8 * page, page + 7, 0},
		{9 * page, 15 * page, 9 * page, 0},
		{15 * page, 15 * page, size, 0},
		{size - 1, size - 1, size, 0},
	} {
		if at, errno := h.Lseek(t.Context(), tt.off, 3); at != tt.data || errno != tt.dataErr {
			t.Errorf("SEEK_DATA from %d: %d, %v, want %d", tt.off, at, errno, tt.data)
		}
		if at, errno := h.Lseek(t.Context(), tt.off, 4); at != tt.hole || errno != 0 {
			t.Errorf("SEEK_HOLE from %d: %d, %v, want %d", tt.off, at, errno, tt.hole)
		}
	}
	if err := dev.ZeroAt(15*page, page, dataplane.ZeroMode{MayUnmap: true}); err != nil {
		t.Fatal(err)
	}
	for off, whence := range map[uint64]uint32{14 * page: 3, size: 4, size + 1: 3} {
		if _, errno := h.Lseek(t.Context(), off, whence); errno != syscall.ENXIO {
			t.Errorf("from %d by %d: %v, want ENXIO", off, whence, errno)
		}
	}
	if _, errno := h.Lseek(t.Context(), 0, 0); errno != syscall.EINVAL {
		t.Errorf("SEEK_SET: %v, want EINVAL", errno)
	}
	v.cancel()
	if _, errno := h.Lseek(t.Context(), 0, 3); errno != syscall.ESHUTDOWN {
		t.Errorf("after close: %v, want ESHUTDOWN", errno)
	}
}

// TestLimits: so many opens at once, and none after Close.
func TestLimits(t *testing.T) {
	v := newView("", newSource(), Options{})
	for range maxOpen {
		if errno := v.mayOpen(); errno != 0 {
			t.Fatal(errno)
		}
		_ = v.hold(&handle{view: v})
	}
	if errno := v.mayOpen(); errno != syscall.ENFILE {
		t.Errorf("one more: %v, want ENFILE", errno)
	}
	v.closed = true
	s := newSource()
	s.add(t, "volume-1", 512, dataplane.Info{})
	dev, err := s.Open(context.Background(), "volume-1")
	if err != nil {
		t.Fatal(err)
	}
	if errno := v.hold(&handle{view: v, device: dev}); errno != syscall.ESHUTDOWN || s.opens() != 0 {
		t.Errorf("after close: %v, %d devices open", errno, s.opens())
	}
}
