package vm

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestKernelFileSystem: the kernel's client, set up by netlink and by ioctl, with one connection and with several: a file system
// keeps what is written to it, what it frees with fstrim is freed in our file, and the file holds the file system when
// all have gone.
func TestKernelFileSystem(t *testing.T) {
	inGuest(t)
	for name, args := range map[string][]string{
		"netlink":               nil,
		"netlink 4 connections": {"-C", "4"},
		"ioctl":                 {"-nonetlink"},
		"ioctl 4 connections":   {"-nonetlink", "-C", "4"},
	} {
		t.Run(name, func(t *testing.T) {
			image := disk(t, 128)
			device := connect(t, serve(t, image), args...)
			keepFiles(t, device, image)
			disconnect(t, device)
			run(t, "e2fsck", "-f", "-n", image)
		})
	}
}

// keepFiles makes a file system, and holds what was said of it.
func keepFiles(t *testing.T, device, image string) {
	t.Helper()
	run(t, "mkfs.ext4", "-q", device)
	directory := t.TempDir()
	unmount := mount(t, device, directory)
	content := make([]byte, 32<<20)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(content)
	path := filepath.Join(directory, "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	unmount()

	unmount = mount(t, device, directory)
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
		t.Fatalf("the file is another one after mounting again: %d bytes, %v", len(got), err)
	}
	full := allocated(t, image)
	if full < int64(len(content)) {
		t.Errorf("%d bytes are allocated for %d", full, len(content))
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	run(t, "sync", "-f", directory)
	run(t, "fstrim", directory)
	if after := allocated(t, image); after > full-int64(len(content))*9/10 {
		t.Errorf("fstrim leaves %d of %d bytes allocated", after, full)
	}
	unmount()
}

// allocated is how many bytes of disk a file takes.
func allocated(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}

// TestKernelFio: fio finds what it wrote through the kernel, in any order and of any size.
func TestKernelFio(t *testing.T) {
	inGuest(t)
	device := connect(t, serve(t, disk(t, 64)), "-C", "2")
	out := run(t, "fio", "--name=v", "--filename="+device, "--ioengine=libaio", "--direct=1", "--rw=randrw", "--bsrange=512-64k",
		"--iodepth=16", "--size=16M", "--verify=crc32c", "--verify_state_save=0", "--verify_fatal=1", "--randseed=7")
	if !strings.Contains(out, "err= 0") {
		t.Errorf("fio says %s", out)
	}
}

// TestKernelReadOnly: the kernel is told that an export is read-only, and writes nothing.
func TestKernelReadOnly(t *testing.T) {
	inGuest(t)
	device := connect(t, serve(t, disk(t, 8), "--read-only"))
	if out := run(t, "blockdev", "--getro", device); out != "1" {
		t.Errorf("blockdev --getro is %q", out)
	}
	if out, err := try(t, "dd", "if=/dev/zero", "of="+device, "bs=4k", "count=1", "oflag=direct"); err == nil {
		t.Errorf("a write to a read-only device: %s", out)
	}
}

// TestKernelSeesSize: the device has the size of the export, and blocks that the kernel takes.
func TestKernelSeesSize(t *testing.T) {
	inGuest(t)
	device := connect(t, serve(t, disk(t, 24)))
	if out := run(t, "blockdev", "--getsize64", device); out != "25165824" {
		t.Errorf("the device has %s bytes", out)
	}
	if out := run(t, "blockdev", "--getss", device); out != "512" && out != "4096" {
		t.Errorf("its blocks have %s bytes", out)
	}
}

// TestKernelServerKilled: when the server is killed, who reads gets an error and does not hang. nbd-client -nonetlink sees the
// end too and empties the device, so a read finds its end instead.
func TestKernelServerKilled(t *testing.T) {
	inGuest(t)
	for name, args := range map[string][]string{"netlink": nil, "ioctl": {"-nonetlink"}} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, disk(t, 8))
			device := connect(t, s, append([]string{"-timeout", "5"}, args...)...)
			run(t, "dd", "if="+device, "of=/dev/null", "bs=4k", "count=1", "iflag=direct")
			s.kill()
			if out, err := try(t, "dd", "if="+device, "of=/dev/null", "bs=4k", "count=1", "iflag=direct"); err == nil && !strings.Contains(out, "0+0 records in") {
				t.Errorf("a read without a server: %s", out)
			}
		})
	}
}

// TestKernelServerStopped: a server that is stopped in good order has made durable what the kernel wrote.
func TestKernelServerStopped(t *testing.T) {
	inGuest(t)
	image := disk(t, 8)
	s := serve(t, image)
	device := connect(t, s)
	run(t, "dd", "if=/dev/urandom", "of="+device, "bs=1M", "count=4", "oflag=direct", "conv=fsync")
	want := run(t, "sha256sum", device)
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("cvol serve ends with %v", err)
	}
	got := run(t, "sha256sum", image)
	if strings.Fields(got)[0] != strings.Fields(want)[0] {
		t.Errorf("the file is %s, the device was %s", got, want)
	}
}
