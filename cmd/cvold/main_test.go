package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cvold/cvold/agent/config"
	"github.com/cvold/cvold/internal/version"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of a test.
const patience = 30 * time.Second

// write makes a configuration in a short directory: a socket's path has at most 107 bytes.
func write(t *testing.T, more string) (dir, path string) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "cv")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Mkdir(filepath.Join(dir, "pool"), 0o700); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("[DEFAULT]\nhost = a\nenabled_backends = pool\nstate_path = %[1]s/state\n[pool]\nvolume_driver = file\n"+
		"file_directory = %[1]s/pool\n[cvold]\nsocket = %[1]s/s\n%[2]s", dir, more)
	path = filepath.Join(dir, "cvold.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, path
}

// TestEnds: what ends at once, with its exit code and what it says.
func TestEnds(t *testing.T) {
	_, unknown := write(t, "sokcet = /x\n")
	dir, busy := write(t, "")
	if err := os.WriteFile(filepath.Join(dir, "s"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name        string
		args        []string
		code        int
		out, errors string
	}{
		{"version", []string{"--version"}, exitOK, "cvold " + version.Version() + " (" + version.Commit() + ")\n", ""},
		{"help", []string{"--help"}, exitOK, "", "Usage: cvold [--check-config] [--config-file FILE]... [--config-dir DIR]..."},
		{"wrong flag", []string{"--verbose"}, exitUsage, "", "flag provided but not defined: -verbose"},
		{"flag without value", []string{"--config-file"}, exitUsage, "", "flag needs an argument"},
		{"argument", []string{"start"}, exitUsage, "", `cannot use "start": there are flags only`},
		{"no file", []string{"--config-file", "/proc/nonexistent"}, exitConfig, "", "cvold: cannot use the configuration:\n  /proc/nonexistent: no such file or directory: make it, or name another one with --config-file\n"},
		{"no directory", []string{"--config-dir", "/proc/nonexistent", "--config-file", busy}, exitConfig, "", "  /proc/nonexistent: no such file or directory: make it, or name another one with --config-dir\n"},
		{"directory as file", []string{"--config-file", dir}, exitConfig, "", dir + ": is a directory: name it with --config-dir"},
		{"file as directory", []string{"--config-file", busy, "--config-dir", busy}, exitConfig, "", busy + ": not a directory: name a file with --config-file"},
		{"a program", []string{"--config-file", "/proc/self/exe"}, exitConfig, "", "/proc/self/exe: "},
		{"unknown option", []string{"--config-file", unknown}, exitConfig, "", unknown + ":10: [cvold] sokcet: no such option"},
		{"two files, one bad", []string{"--config-file", busy, "--config-file", unknown}, exitConfig, "", `sokcet`},
		{"a directory after a file", []string{"--config-file", busy, "--config-dir=" + filepath.Dir(unknown)}, exitConfig, "", unknown + ":10: [cvold] sokcet: no such option"},
		{"cannot start", []string{"--config-file", busy}, exitConfig, "", busy + ":9: [cvold] socket = " + dir + "/s: the file there is no socket"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			code := run(t.Context(), test.args, &out, &errs)
			if code != test.code || out.String() != test.out || !strings.Contains(errs.String(), test.errors) {
				t.Errorf("exit code %d, want %d\nstdout %q, want %q\nstderr %q, want %q", code, test.code, out.String(), test.out, errs.String(), test.errors)
			}
		})
	}
}

// TestCheckConfig: it prints what would be served, or all that is wrong, and changes nothing, beside an agent too.
func TestCheckConfig(t *testing.T) {
	dir, path := write(t, "metrics_listen = 127.0.0.1:0\nown_backends = pool\napi_listen = [::1]:0\ninsecure_loopback_admin = on\n")
	args := []string{"--check-config", "--config-file", path}
	want := strings.ReplaceAll(`node            a
back end        a@pool#pool  file  DIR/pool
socket          DIR/s
nbd_socket      DIR/nbd.sock
api_listen      [::1]:0      plain
metrics_listen  127.0.0.1:0  plain
WARNING: DIR/cvold.conf:11: [cvold] own_backends = pool: has no effect: no cinder-volume serves a back end of the driver file, and this build has no other driver
WARNING: DIR/cvold.conf:13: [cvold] insecure_loopback_admin = on: every user and program of this machine that connects to api_listen commands the agent as root does
`, "DIR", dir)
	good := func() {
		t.Helper()
		var out, errs bytes.Buffer
		if code := run(t.Context(), args, &out, &errs); code != exitOK || out.String() != want || errs.Len() > 0 {
			t.Errorf("exit code %d\n%s\n%s\nwant\n%s", code, &errs, &out, want)
		}
	}
	good()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("left %v, %v", entries, err)
	}
	m := newManager(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	code, errs := start(ctx, "--config-file", path)
	m.hears("READY=1")
	good()
	cancel()
	ends(t, code, exitOK, errs)
	if err := os.Rename(filepath.Join(dir, "pool"), filepath.Join(dir, "away")); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{args, args[1:]} {
		var out, errs bytes.Buffer
		code := run(t.Context(), args, &out, &errs)
		if line := path + ":7: [pool] file_directory = " + dir + "/pool: no such file"; code != exitConfig || !strings.Contains(errs.String(), line) {
			t.Errorf("%v: exit code %d: %s", args, code, &errs)
		}
	}
}

// TestHangup: SIGHUP ends it like SIGTERM, for there is no reload.
func TestHangup(t *testing.T) {
	ctx, stop := signals()
	defer stop()
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(patience):
		t.Error("SIGHUP is not heard")
	}
}

// manager is a service manager's end of NOTIFY_SOCKET.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

func newManager(t *testing.T, dir string) *manager {
	t.Helper()
	address := &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"}
	conn, err := net.ListenUnixgram("unixgram", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", address.Name)
	return &manager{t, conn}
}

// hears waits for a message that begins with want.
func (m *manager) hears(want string) {
	m.t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		m.t.Fatal(err)
	}
	for p := make([]byte, 4096); ; {
		n, err := m.conn.Read(p)
		if err != nil {
			m.t.Fatalf("waits for %s: %v", want, err)
		}
		if strings.HasPrefix(string(p[:n]), want) {
			return
		}
	}
}

// TestNotifies: the service manager hears how the daemon is, from its start to its end.
func TestNotifies(t *testing.T) {
	dir, path := write(t, "")
	m := newManager(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	code, errs := start(ctx, "--config-file", path)
	m.hears("READY=1")
	m.hears("STATUS=0 volumes, 0 migrations")
	if _, err := os.Stat(filepath.Join(dir, "s")); err != nil {
		t.Errorf("ready without a socket: %v", err)
	}
	cancel()
	m.hears("STOPPING=1")
	ends(t, code, exitOK, errs)
	if _, err := os.Stat(filepath.Join(dir, "s")); err == nil {
		t.Error("the socket is left")
	}
}

// start runs the daemon. The text may be read once the code has come.
func start(ctx context.Context, args ...string) (<-chan int, *bytes.Buffer) {
	var out, errs bytes.Buffer
	code := make(chan int, 1)
	go func() { code <- run(ctx, args, &out, &errs) }()
	return code, &errs
}

func ends(t *testing.T, code <-chan int, want int, errs *bytes.Buffer) {
	t.Helper()
	select {
	case got := <-code:
		if got != want {
			t.Errorf("exit code %d, want %d: %s", got, want, errs)
		}
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
}

// TestTwice: a second daemon of the same configuration says why it does not start, and the first one goes on.
func TestTwice(t *testing.T) {
	dir, path := write(t, "")
	m := newManager(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	code, errs := start(ctx, "--config-file", path)
	m.hears("READY=1")
	var second bytes.Buffer
	if got := run(t.Context(), []string{"--config-file", path}, &second, &second); got != exitFailed || !strings.Contains(second.String(), "stop the other one") ||
		strings.Count(second.String(), "another process has the catalog: waiting for it to end") != 1 {
		t.Errorf("the second one: exit code %d: %s", got, second.String())
	}
	cancel()
	ends(t, code, exitOK, errs)
}

// TestSignal: SIGTERM ends the context that main gives to run.
func TestSignal(t *testing.T) {
	ctx, stop := signals()
	defer stop()
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(patience):
		t.Error("SIGTERM is not heard")
	}
}

// TestSources: the order of the command line is kept, and the default file comes first unless a file is named.
func TestSources(t *testing.T) {
	file := func(path string) config.Source { return config.Source{Path: path} }
	directory := func(path string) config.Source { return config.Source{Path: path, Directory: true} }
	for _, test := range []struct {
		args string
		want []config.Source
	}{
		{"", []config.Source{file(defaultConfig)}},
		{"--config-dir d", []config.Source{file(defaultConfig), directory("d")}},
		{"--config-dir d --config-file=f", []config.Source{directory("d"), file("f")}},
		{"-config-file f --config-dir d --config-file g", []config.Source{file("f"), directory("d"), file("g")}},
	} {
		f, done, code := parse(strings.Fields(test.args), io.Discard, io.Discard)
		if done || code != exitOK || !slices.Equal(f.sources, test.want) {
			t.Errorf("%s: got %v, %v, %d", test.args, f.sources, done, code)
		}
	}
}
