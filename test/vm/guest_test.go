package vm

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// limit ends a program that hangs: what must not hang here fails after it. The guest's processor is slow.
const limit = 2 * time.Minute

// look is how often something that cannot be waited for is looked at.
const look = 100 * time.Millisecond

// inGuest skips a test outside the guest.
func inGuest(t *testing.T) {
	t.Helper()
	if os.Getenv("CVOLD_VM") == "" {
		t.Skip("CVOLD_VM is not set: run make test-vm")
	}
}

// try runs a program to its end or the limit's.
func try(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("%s %s hangs: %s", name, strings.Join(args, " "), out)
	}
	return strings.TrimSpace(string(out)), err
}

// run is try for what must succeed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := try(t, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// await polls, for nothing tells when it is so.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(look)
	defer tick.Stop()
	for end := time.Now().Add(limit); !is(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// server is a running `cvol serve`.
type server struct {
	cmd    *exec.Cmd
	socket string
}

// serve starts `cvol serve` for a device; it is ended with the test, if not before.
func serve(t *testing.T, device string, args ...string) *server {
	t.Helper()
	s := &server{socket: filepath.Join(t.TempDir(), "nbd.sock")}
	s.cmd = exec.Command("cvol", append([]string{"serve", "--socket", s.socket, device}, args...)...)
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kill)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.HasPrefix(line, "nbd+unix:") {
		t.Fatalf("cvol serve says %q: %v", line, err)
	}
	return s
}

// kill is kill -9, and waits for the end.
func (s *server) kill() {
	if s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
}

// disk makes a sparse file of a size in MiB.
func disk(t *testing.T, mebibytes int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(mebibytes << 20); err != nil {
		t.Fatal(err)
	}
	return path
}

// connect makes /dev/nbd0 of a server with the kernel's own client, and waits until udev has seen it; it is taken away with
// the test.
func connect(t *testing.T, s *server, args ...string) string {
	t.Helper()
	const device = "/dev/nbd0"
	run(t, "nbd-client", append([]string{"-unix", s.socket, device}, args...)...)
	t.Cleanup(func() { disconnect(t, device) })
	run(t, "udevadm", "settle", "-t", "60")
	return device
}

// disconnect may be called twice.
func disconnect(t *testing.T, device string) {
	t.Helper()
	if _, err := try(t, "nbd-client", "-c", device); err != nil {
		return // it is not connected
	}
	run(t, "udevadm", "settle", "-t", "60")
	run(t, "nbd-client", "-d", device)
}

// mount mounts a device; it is unmounted with the test, if not before.
func mount(t *testing.T, device, directory string) (unmount func()) {
	t.Helper()
	run(t, "mount", device, directory)
	mounted := true
	unmount = func() {
		t.Helper()
		if mounted {
			mounted = false
			run(t, "umount", directory)
		}
	}
	t.Cleanup(unmount)
	return unmount
}
