package nbd

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cvold/cvold/dataplane"
)

// startNBDServer runs nbd-server with these lines in its [generic], which name the address, and these exports, until the test
// ends. In the foreground (-d) it serves one connection only, and tells it a size of 0, so it runs as the daemon that it is,
// known by its PID file.
func startNBDServer(t *testing.T, network, address, generic, exports string) {
	t.Helper()
	dir := t.TempDir()
	config, pidFile := filepath.Join(dir, "config"), filepath.Join(dir, "pid")
	if err := os.WriteFile(config, []byte("[generic]\n"+generic+"\n"+exports), 0o600); err != nil {
		t.Fatal(err)
	}
	listens := func() bool {
		conn, err := net.Dial(network, address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}
	run(t, "nbd-server", "-C", config, "-p", pidFile)
	await(t, "nbd-server listens", listens)
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			t.Errorf("end nbd-server: %v", err)
		}
		await(t, "nbd-server has ended", func() bool { return !listens() })
	})
}

// freePort is one that nothing listened on a moment ago, for programs that cannot choose one.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestOurClientUsesNBDServer: the first of all NBD servers, over both kinds of sockets, and what it keeps in the file.
func TestOurClientUsesNBDServer(t *testing.T) {
	socket, port := filepath.Join(t.TempDir(), "nbd.sock"), freePort(t)
	for name, c := range map[string]struct {
		generic string
		o       DialOptions
	}{
		"unix": {"unixsock = " + socket, DialOptions{Network: "unix", Address: socket}},
		"tcp":  {"listenaddr = 127.0.0.1\nport = " + port, DialOptions{Network: "tcp", Address: "127.0.0.1:" + port}},
	} {
		t.Run(name, func(t *testing.T) {
			path := emptyFile(t, 8<<20)
			startNBDServer(t, c.o.Network, c.o.Address, c.generic, fmt.Sprintf("[disk]\nexportname = %s\nflush = true\nfua = true\ntrim = true\nrotational = true\n"+
				"[fixed]\nexportname = %s\nreadonly = true\n[plain]\nexportname = %s\n", path, path, path))
			o := c.o
			o.Export, o.Connections, o.Timeout = "disk", 2, patience
			d := dial(t, o)
			if size, err := d.Size(); err != nil || size != 8<<20 {
				t.Errorf("the size is %d, %v", size, err)
			}
			if s := d.Session(); !s.has(canFlush) || !s.has(canFUA) || !s.has(canTrim) || s.Structured {
				t.Errorf("negotiated %+v", s)
			}
			exercise(t, d)
			if err := d.do(cmdWrite, flagFUA, 3<<20, 4096, pattern(4096)); err != nil {
				t.Errorf("write with FUA: %v", err)
			}
			want := pattern(8 << 20)
			clear(want[1<<20 : 3<<20])
			copy(want[3<<20:], pattern(4096))
			got, err := os.ReadFile(path)
			if err != nil || len(got) != 8<<20 || !bytes.Equal(got[:7<<20], want[:7<<20]) {
				t.Errorf("the file holds other bytes, %v", err)
			}
			if !bytes.Equal(mustRead(t, d, 8<<20, 0), got) {
				t.Error("read other bytes than the file has")
			}
			others(t, o)
		})
	}
}

// others opens the exports of TestOurClientUsesNBDServer that can less.
func others(t *testing.T, o DialOptions) {
	t.Helper()
	o.Export = "fixed"
	_, err := dial(t, o).WriteAt(pattern(512), 0)
	wantError(t, err, dataplane.ErrReadOnly)
	o.Export = "plain"
	d := dial(t, o)
	wantError(t, d.Sync(), dataplane.ErrNotSupported)
	mustWrite(t, d, pattern(512), 8<<20-512)
	if !bytes.Equal(mustRead(t, d, 512, 8<<20-512), pattern(512)) {
		t.Error("read other bytes than were written")
	}
	o.Export = "missing"
	if _, err := Dial(timeLimit(t), o); !errors.Is(err, ErrNoExport) {
		t.Errorf("an export that is not there: %v", err)
	}
}
