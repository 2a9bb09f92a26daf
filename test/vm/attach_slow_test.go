package vm

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
	"time"
)

// TestAttachSlow: a back end that does not answer for longer than the kernel waits for a reply. The kernel gives its connections
// up and sends again; nobody sees an error, and what was written last is what is there.
func TestAttachSlow(t *testing.T) {
	inGuest(t)
	a := prepareAgent(t, "attach_connections = 4\nattach_request_timeout = 2\nattach_dead_timeout = 60")
	image := disk(t, 128)
	run(t, "mkfs.ext4", "-q", image)
	run(t, "mount", "-o", "loop", image, a.pool)
	t.Cleanup(func() { run(t, "umount", a.pool) })
	a.launch()
	device := a.volume("db", "64")

	run(t, "fsfreeze", "-f", a.pool)
	thawed := false
	thaw := func() {
		if !thawed {
			thawed = true
			run(t, "fsfreeze", "-u", a.pool)
		}
	}
	t.Cleanup(thaw)
	write := exec.Command("dd", "if=/dev/urandom", "of="+device, "bs=64k", "count=16", "oflag=direct", "conv=notrunc")
	var out bytes.Buffer
	write.Stderr = &out
	if err := write.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- write.Wait() }()
	select {
	case err := <-done:
		t.Fatalf("a write into a frozen file system ends with %v: %s", err, out.String())
	case <-time.After(7 * time.Second):
	}
	thaw()
	a.await("the write is over", func() bool { return len(done) > 0 })
	if err := <-done; err != nil {
		t.Fatalf("dd: %v: %s", err, out.String())
	}
	if !bytes.Contains(a.log(), []byte("a connection of the kernel was lost")) {
		t.Error("the kernel has waited longer than it should")
	}
	a.await("the kernel has its connections again", func() bool { return a.connections() == 4 })
	verify(t, device)
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0o200); err != nil {
		t.Error(err)
	}
	verify(t, device)
}
