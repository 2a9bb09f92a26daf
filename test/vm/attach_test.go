package vm

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// methods are the ways to command the kernel.
var methods = map[string]string{
	"netlink":               "attach_connections = 1",
	"netlink 4 connections": "attach_connections = 4",
	"ioctl":                 "attach_method = ioctl",
}

// TestAttachFileSystem: a file system on an attached volume keeps what is written to it, fstrim frees it, and after detach
// the volume's object holds it.
func TestAttachFileSystem(t *testing.T) {
	inGuest(t)
	for name, options := range methods {
		t.Run(name, func(t *testing.T) {
			a := startAgent(t, options)
			device := a.volume("db", "128")
			if list := run(t, "cvol", "attachments", "db"); !strings.Contains(list, device) {
				t.Errorf("cvol attachments: %s", list)
			}
			keepFiles(t, device, a.object())
			run(t, "cvol", "detach", "db")
			run(t, "e2fsck", "-f", "-n", a.object())
			if out := run(t, "blockdev", "--getsize64", device); out != "0" {
				t.Errorf("after detach %s has %s bytes", device, out)
			}
		})
	}
}

// TestAttachFio: fio finds what it wrote, in any order and of any size.
func TestAttachFio(t *testing.T) {
	inGuest(t)
	for name, options := range methods {
		t.Run(name, func(t *testing.T) {
			a := startAgent(t, options)
			verify(t, a.volume("db", "64"))
		})
	}
}

// verify has fio write and read back.
func verify(t *testing.T, device string, args ...string) {
	t.Helper()
	out := run(t, "fio", append([]string{"--name=v", "--filename=" + device, "--ioengine=libaio", "--direct=1", "--rw=randrw",
		"--bsrange=512-64k", "--iodepth=16", "--size=16M", "--verify=crc32c", "--verify_state_save=0", "--verify_fatal=1",
		"--randseed=7"}, args...)...)
	if !strings.Contains(out, "err= 0") {
		t.Errorf("fio says %s", out)
	}
}

// TestAttachReadOnly: the kernel knows, and nothing is written.
func TestAttachReadOnly(t *testing.T) {
	inGuest(t)
	for name, options := range methods {
		t.Run(name, func(t *testing.T) {
			a := startAgent(t, options)
			device := a.volume("db", "8", "--read-only")
			if out := run(t, "blockdev", "--getro", device); out != "1" {
				t.Errorf("blockdev --getro is %q", out)
			}
			if out, err := try(t, "dd", "if=/dev/zero", "of="+device, "bs=4k", "count=1", "oflag=direct"); err == nil {
				t.Errorf("a write to a read-only device: %s", out)
			}
		})
	}
}

// TestAttachName: udev has a name for the device and for its partitions that stays, until it is detached.
func TestAttachName(t *testing.T) {
	inGuest(t)
	a := startAgent(t, "")
	device := a.volume("db", "16")
	link := "/dev/disk/by-id/cvold-" + strings.TrimPrefix(filepath.Base(a.object()), "volume-")
	if got, err := filepath.EvalSymlinks(link); err != nil || got != device {
		t.Fatalf("%s is %q, %v; want %s", link, got, err, device)
	}
	script := exec.Command("sfdisk", "-q", device)
	script.Stdin = strings.NewReader("start=2048\n")
	if out, err := script.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v: %s", err, out)
	}
	run(t, "udevadm", "settle", "-t", "60")
	if got, err := filepath.EvalSymlinks(link + "-part1"); err != nil || got != device+"p1" {
		t.Errorf("%s-part1 is %q, %v", link, got, err)
	}
	run(t, "cvol", "detach", link)
	run(t, "udevadm", "settle", "-t", "60")
	if _, err := os.Lstat(link); err == nil {
		t.Errorf("%s is still there", link)
	}
}

// TestAttachGrows: the kernel sees the new size of a volume that is extended while it is mounted.
func TestAttachGrows(t *testing.T) {
	inGuest(t)
	for name, options := range methods {
		t.Run(name, func(t *testing.T) {
			a := startAgent(t, options)
			device := a.volume("db", "64")
			run(t, "mkfs.ext4", "-q", device)
			unmount := mount(t, device, t.TempDir())
			run(t, "cvol", "extend", "db", "1")
			if out := run(t, "blockdev", "--getsize64", device); out != "1073741824" {
				t.Errorf("the device has %s bytes", out)
			}
			run(t, "resize2fs", device)
			unmount()
			run(t, "e2fsck", "-f", "-n", device)
		})
	}
}

// TestAttachBusy: a device that is mounted is not detached, unless by force; then who uses it gets errors, and the volume is
// as it was flushed.
func TestAttachBusy(t *testing.T) {
	inGuest(t)
	a := startAgent(t, "")
	device := a.volume("db", "64")
	run(t, "mkfs.ext4", "-q", device)
	directory := t.TempDir()
	unmount := mount(t, device, directory)
	for _, command := range []string{"detach", "unexport"} {
		if out, err := try(t, "cvol", command, "db"); err == nil || !strings.Contains(out, "mounted") {
			t.Errorf("cvol %s of a mounted device: %v: %s", command, err, out)
		}
	}
	if err := os.WriteFile(filepath.Join(directory, "file"), []byte("content"), 0o600); err != nil {
		t.Error(err)
	}
	run(t, "sync", "-f", directory)
	run(t, "cvol", "detach", "--force", "db")
	if out, err := try(t, "dd", "if="+device, "of=/dev/null", "bs=4k", "count=1", "iflag=direct"); err == nil && !strings.Contains(out, "0+0 records in") {
		t.Errorf("a read of a device that was taken away: %s", out)
	}
	unmount()
	if out, err := try(t, "e2fsck", "-f", "-y", a.object()); err != nil && !strings.Contains(out, "recovering journal") {
		t.Errorf("e2fsck: %v: %s", err, out)
	}
	run(t, "e2fsck", "-f", "-n", a.object())
	if out := run(t, "debugfs", "-R", "cat /file", a.object()); !strings.Contains(out, "content") {
		t.Errorf("what was flushed is lost: %s", out)
	}
}

// TestAttachKilled: the agent is killed under I/O, in the midst of a mounted file system, and comes back: nobody sees an error, all
// that was written is there. Devices made by ioctl are lost and are made anew.
func TestAttachKilled(t *testing.T) {
	inGuest(t)
	for name, options := range map[string]string{
		"netlink":               "attach_connections = 1\nattach_request_timeout = 5",
		"netlink 4 connections": "attach_connections = 4\nattach_request_timeout = 5",
	} {
		t.Run(name, func(t *testing.T) {
			a := startAgent(t, options)
			device := a.volume("db", "64")
			for _, end := range []func(){a.kill, a.stop} {
				fio := exec.Command("fio", "--name=v", "--filename="+device, "--ioengine=libaio", "--direct=1", "--rw=randrw", "--bsrange=512-64k",
					"--iodepth=16", "--size=16M", "--verify=crc32c", "--verify_state_save=0", "--verify_fatal=1", "--randseed=7")
				done := make(chan error, 1)
				var out strings.Builder
				fio.Stdout, fio.Stderr = &out, &out
				if err := fio.Start(); err != nil {
					t.Fatal(err)
				}
				go func() { done <- fio.Wait() }()
				a.await("fio writes", func() bool { return written(t, device) > 1<<20 })
				end()
				a.start()
				a.await("fio is done", func() bool { return len(done) > 0 })
				if err := <-done; err != nil || !strings.Contains(out.String(), "err= 0") {
					t.Errorf("fio ends with %v: %s", err, out.String())
				}
			}
			if got := run(t, "cvol", "attachments", "db"); !strings.Contains(got, device+" ") {
				t.Errorf("the device is another one now: %s", got)
			}
		})
	}
}

// TestAttachIoctlKilled: a device that was made by ioctl is lost with the agent, and made again by the next one.
func TestAttachIoctlKilled(t *testing.T) {
	inGuest(t)
	a := startAgent(t, "attach_method = ioctl")
	device := a.volume("db", "8")
	a.kill()
	if out, err := try(t, "dd", "if="+device, "of=/dev/null", "bs=4k", "count=1", "iflag=direct"); err == nil && !strings.Contains(out, "0+0 records in") {
		t.Errorf("a read without an agent: %s", out)
	}
	a.start()
	verify(t, device, "--size=4M")
}

// TestAttachUnplugged: when the agent does not come back, who reads and writes gets an error after the time that was set, and does
// not hang. When it comes back after all, the device works again.
func TestAttachUnplugged(t *testing.T) {
	inGuest(t)
	for name, options := range map[string]string{
		"netlink":               "attach_connections = 1",
		"netlink 4 connections": "attach_connections = 4",
	} {
		t.Run(name, func(t *testing.T) {
			a := startAgent(t, options+"\nattach_request_timeout = 2\nattach_dead_timeout = 3")
			device := a.volume("db", "64")
			a.kill()
			for _, args := range [][]string{{"if=" + device, "of=/dev/null", "iflag=direct"}, {"if=/dev/zero", "of=" + device, "oflag=direct"}} {
				if out, err := try(t, "dd", append(args, "bs=4k", "count=1")...); err == nil {
					t.Errorf("dd %v without an agent: %s", args, out)
				}
			}
			a.start()
			verify(t, device)
		})
	}
}

// TestAttachAfterReboot: what the kernel has forgotten is made anew when the agent starts.
func TestAttachAfterReboot(t *testing.T) {
	inGuest(t)
	a := startAgent(t, "")
	device := a.volume("db", "8")
	a.kill()
	run(t, "nbd-client", "-d", device)
	run(t, "udevadm", "settle", "-t", "60")
	a.start()
	verify(t, device, "--size=4M")
}

// written is how many bytes the kernel has written to a device.
func written(t *testing.T, device string) int {
	t.Helper()
	fields := strings.Fields(run(t, "cat", "/sys/block/"+filepath.Base(device)+"/stat"))
	if len(fields) < 7 {
		t.Fatalf("the device's statistics are %v", fields)
	}
	sectors := 0
	for _, digit := range fields[6] {
		sectors = 10*sectors + int(digit-'0')
	}
	return sectors * 512
}
