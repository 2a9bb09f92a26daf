package nbd

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/internal/program"
)

// startProgram runs a server until the test ends, and waits for its socket: a path, or host:port.
func startProgram(t testing.TB, socket, name string, args ...string) {
	t.Helper()
	startStoppable(t, socket, name, args...)
}

// startStoppable is startProgram with a way to kill the server before.
func startStoppable(t testing.TB, socket, name string, args ...string) (kill func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var log bytes.Buffer
	cmd := exec.CommandContext(ctx, program.Need(t, name), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() {
		cancel()
		cmd.Wait()
		os.Remove(socket)
	})
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("%s said %s", name, log.String())
		}
	})
	network := "unix"
	if !filepath.IsAbs(socket) {
		network = "tcp"
	}
	await(t, name+" listens", func() bool {
		conn, err := net.Dial(network, socket)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return func() {
		cmd.Process.Kill()
		stop()
	}
}

func startNBDKit(t testing.TB, args ...string) DialOptions {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "kit.sock")
	startProgram(t, socket, "nbdkit", append([]string{"--foreground", "--unix", socket}, args...)...)
	return DialOptions{Network: "unix", Address: socket, Timeout: patience}
}

// exercise writes, zeroes, flushes and reads an empty export of 8 MiB.
func exercise(t *testing.T, d *Device) {
	t.Helper()
	content := pattern(8 << 20)
	mustWrite(t, d, content, 0)
	if err := d.ZeroAt(1<<20, 1<<20, dataplane.ZeroMode{MayUnmap: true}); err != nil {
		t.Error(err)
	}
	if err := d.ZeroAt(2<<20, 1<<20, dataplane.ZeroMode{}); err != nil {
		t.Error(err)
	}
	clear(content[1<<20 : 3<<20])
	if err := d.Discard(7<<20, 1<<20); err != nil {
		t.Error(err)
	}
	if err := d.Sync(); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(mustRead(t, d, 7<<20, 0), content[:7<<20]) {
		t.Error("read other bytes than were written")
	}
}

func TestOurClientUsesNBDKit(t *testing.T) {
	for name, args := range map[string][]string{
		"memory":     {"memory", "8M"},
		"file":       {"file", emptyFile(t, 8<<20)},
		"blocks":     {"--filter=blocksize-policy", "memory", "8M", "blocksize-minimum=4096", "blocksize-maximum=1M", "blocksize-error-policy=error"},
		"no zero":    {"--filter=nozero", "memory", "8M"},
		"delays":     {"--filter=delay", "memory", "8M", "delay-read=5ms", "delay-write=5ms"},
		"one by one": {"--filter=noparallel", "memory", "8M", "serialize=connections"},
	} {
		t.Run(name, func(t *testing.T) {
			o := startNBDKit(t, args...)
			o.Connections = 2
			exercise(t, dial(t, o))
		})
	}
}

func emptyFile(t testing.TB, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOurClientSeesNBDKitsErrors(t *testing.T) {
	for code, want := range map[string]error{
		"EIO": dataplane.ErrIO, "ENOSPC": dataplane.ErrNoSpace, "EPERM": dataplane.ErrReadOnly, "EINVAL": dataplane.ErrOutOfRange,
		"ESHUTDOWN": dataplane.ErrDisconnected,
	} {
		t.Run(code, func(t *testing.T) {
			d := dial(t, startNBDKit(t, "--filter=error", "memory", "8M", "error-pwrite="+code, "error-pwrite-rate=100%"))
			_, err := d.WriteAt(pattern(4096), 0)
			wantError(t, err, want)
			if _, err := d.ReadAt(make([]byte, 512), 0); (err != nil) != (code == "ESHUTDOWN") {
				t.Errorf("the next read: %v", err)
			}
		})
	}
}

func TestOurClientUsesQemuNBD(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "qemu.sock")
	file := emptyFile(t, 8<<20)
	startProgram(t, socket, "qemu-nbd", "--socket", socket, "--format", "raw", "--export-name", "disk", "--persistent", "--shared", "8",
		"--discard=unmap", file)
	d := dial(t, DialOptions{Network: "unix", Address: socket, Export: "disk", Connections: 4, Timeout: patience})
	exercise(t, d)
	if _, err := Dial(timeLimit(t), DialOptions{Network: "unix", Address: socket, Export: "missing"}); err == nil {
		t.Error("opened an export that is not there")
	} else {
		wantError(t, err, ErrNoExport, dataplane.ErrNotFound)
	}
}

func TestOurClientDemandsTLS(t *testing.T) {
	a := newAuthority(t)
	socket := filepath.Join(t.TempDir(), "tls.sock")
	startProgram(t, socket, "nbdkit", "--foreground", "--unix", socket, "--tls=require", "--tls-certificates="+a.dir,
		"--tls-verify-peer", "memory", "8M")
	o := DialOptions{Network: "unix", Address: socket, Timeout: patience, TLS: a.clientConfig()}
	o.TLS.ServerName = "localhost"
	exercise(t, dial(t, o))
	o.TLS = nil
	_, err := Dial(timeLimit(t), o)
	wantError(t, err, ErrTLSRequired)
	o.TLS = &tls.Config{ServerName: "someone else", RootCAs: a.pool}
	if _, err := Dial(timeLimit(t), o); err == nil {
		t.Error("a server proved the wrong name")
	}
	plain := startNBDKit(t, "memory", "8M")
	plain.TLS = a.clientConfig()
	_, err = Dial(timeLimit(t), plain)
	wantError(t, err, ErrNoTLS)
}
