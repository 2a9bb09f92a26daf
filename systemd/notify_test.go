package systemd

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// manager is a service manager that only listens.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

// newManager puts its socket into the environment of the test.
func newManager(t *testing.T) *manager {
	t.Helper()
	// Not t.TempDir: with a long test name the path outgrows a socket's 107 bytes.
	directory, err := os.MkdirTemp("", "notify")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(directory) })
	address := &net.UnixAddr{Name: filepath.Join(directory, "socket"), Net: "unixgram"}
	conn, err := net.ListenUnixgram("unixgram", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", address.Name)
	return &manager{t, conn}
}

// next waits for one datagram.
func (m *manager) next() string {
	m.t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		m.t.Fatal(err)
	}
	buffer := make([]byte, 4096)
	n, err := m.conn.Read(buffer)
	if err != nil {
		m.t.Fatal(err)
	}
	return string(buffer[:n])
}

func TestNotifier(t *testing.T) {
	m := newManager(t)
	var n Notifier
	tests := []struct {
		name string
		call func() error
		want string
	}{
		{"ready", n.Ready, "READY=1"},
		{"stopping", n.Stopping, "STOPPING=1"},
		{"main pid", func() error { return n.MainPID(42) }, "MAINPID=42"},
		{"status", func() error { return n.Status("2 volumes, 1 migration") }, "STATUS=2 volumes, 1 migration"},
		{"status cannot smuggle", func() error { return n.Status("a\nREADY=1\r\nb\x00c") }, "STATUS=a READY=1 b c"},
	}
	for _, test := range tests {
		if err := test.call(); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if got := m.next(); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

func TestNotifierReloading(t *testing.T) {
	m := newManager(t)
	if err := (Notifier{}).Reloading(); err != nil {
		t.Fatal(err)
	}
	if got := m.next(); !regexp.MustCompile(`^RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]*$`).MatchString(got) {
		t.Errorf("got %q", got)
	}
}

func TestNotifierCutsStatus(t *testing.T) {
	m := newManager(t)
	if err := (Notifier{}).Status("x" + strings.Repeat("é", maxStatus)); err != nil {
		t.Fatal(err)
	}
	if got := m.next(); len(got) > maxStatus+len("STATUS=") || len(got) < maxStatus || !utf8.ValidString(got) {
		t.Errorf("got %d bytes: %q", len(got), got)
	}
}

func TestNotifierAlone(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	var n Notifier
	for _, err := range []error{n.Ready(), n.Stopping(), n.Reloading(), n.Status("x"), n.MainPID(1)} {
		if err != nil {
			t.Error(err)
		}
	}
}

func TestNotifierWithoutListener(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	if err := (Notifier{}).Ready(); err == nil || !strings.HasPrefix(err.Error(), "notify service manager: ") {
		t.Errorf("got %v", err)
	}
}
