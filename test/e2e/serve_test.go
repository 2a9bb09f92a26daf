package e2e

import (
	"bufio"
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cvold/cvold/nbd"
)

// serveProcess starts a command that becomes `cvol serve`, and returns it with the URI that it prints. It is killed with the
// test, if it runs then.
func serveProcess(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = cmd.Wait()
		t.Fatalf("cvol serve tells no URI: %v: %s", err, said.String())
	}
	return strings.TrimSpace(line)
}

// rawDisk makes a file of 1 MiB of zeroes.
func rawDisk(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// dialUnix connects to the default export at a unix socket.
func dialUnix(t *testing.T, socket string) *nbd.Device {
	t.Helper()
	d, err := nbd.Dial(t.Context(), nbd.DialOptions{Network: "unix", Address: socket, Connections: 1, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// TestServePassedSocket: a socket that the service manager passes is served, and stays the manager's when the server ends.
func TestServePassedSocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "nbd.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	passed, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer passed.Close()

	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" serve "$1"`, cvol, rawDisk(t))
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1")
	cmd.ExtraFiles = []*os.File{passed}
	want := nbd.URI{Network: "unix", Address: socket}.String()
	if uri := serveProcess(t, cmd); uri != want {
		t.Errorf("its URI is %q, want %q", uri, want)
	}
	if size, err := dialUnix(t, socket).Size(); err != nil || size != 1<<20 {
		t.Errorf("the export has %d bytes: %v", size, err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ends with %v", err)
	}
	if _, err := os.Lstat(socket); err != nil {
		t.Errorf("the manager's socket after it: %v", err)
	}
}

// TestServeKilled: what was flushed outlives kill -9, and the next server takes over the socket that was left.
func TestServeKilled(t *testing.T) {
	disk, socket := rawDisk(t), filepath.Join(t.TempDir(), "nbd.sock")
	first := exec.Command(cvol, "serve", "--socket", socket, disk)
	serveProcess(t, first)
	want := bytes.Repeat([]byte("durable "), 512)
	d := dialUnix(t, socket)
	if _, err := d.WriteAt(want, 8192); err != nil {
		t.Fatal(err)
	}
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	_ = first.Process.Kill()
	_ = first.Wait()
	if _, err := os.Lstat(socket); err != nil {
		t.Fatalf("kill -9 leaves no socket: %v", err)
	}

	serveProcess(t, exec.Command(cvol, "serve", "--socket", socket, disk))
	got := make([]byte, len(want))
	if _, err := dialUnix(t, socket).ReadAt(got, 8192); err != nil || !bytes.Equal(got, want) {
		t.Errorf("what was flushed is lost: %v", err)
	}
}
