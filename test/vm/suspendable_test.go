package vm

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
)

// suspendable is a disk whose requests wait in the kernel while it is suspended: a linear map of the device mapper, over a loop
// device over a file, which holds what the disk's medium holds.
type suspendable struct {
	t            *testing.T
	name, device string
}

// mapped makes a suspendable disk of a file; it goes on, and is taken away, with the test.
func mapped(t *testing.T, name, file string) *suspendable {
	t.Helper()
	loop := run(t, "losetup", "--find", "--show", file)
	t.Cleanup(func() { run(t, "losetup", "--detach", loop) })
	s := &suspendable{t: t, name: name, device: "/dev/mapper/" + name}
	run(t, "dmsetup", "create", name, "--table", fmt.Sprintf("0 %s linear %s 0", run(t, "blockdev", "--getsz", loop), loop))
	t.Cleanup(func() {
		s.resume()
		run(t, "udevadm", "settle", "-t", "60")
		run(t, "dmsetup", "remove", "--retry", name)
	})
	run(t, "udevadm", "settle", "-t", "60")
	return s
}

// mappedPool mounts a file system on a suspendable disk. It writes no access times: who only looks has not to wait for the disk.
func mappedPool(t *testing.T, directory string) *suspendable {
	t.Helper()
	s := mapped(t, "pool-"+strings.ToLower(rand.Text()), disk(t, 128))
	run(t, "mkfs.ext4", "-q", s.device)
	run(t, "mount", "-o", "noatime", s.device, directory)
	t.Cleanup(func() {
		s.resume()
		run(t, "umount", directory)
	})
	return s
}

// suspend lets what is under way end; what comes then waits.
func (s *suspendable) suspend() {
	s.t.Helper()
	run(s.t, "dmsetup", "suspend", "--nolockfs", s.name)
}

// resume may be called twice.
func (s *suspendable) resume() {
	s.t.Helper()
	run(s.t, "dmsetup", "resume", s.name)
}
