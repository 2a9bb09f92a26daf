package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cvold/cvold/internal/program"
	"github.com/cvold/cvold/nbd"
)

// served is a running cvol serve.
type served struct {
	uri  string
	stop func() (code int, stderr string)
}

// serve runs cvol serve and returns when it has said where.
func serve(t *testing.T, args ...string) served {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	var stderr bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, append([]string{"serve"}, args...), strings.NewReader(""), in, &stderr)
		in.Close()
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		cancel()
		t.Fatalf("cvol serve %q: exit code %d: %s", args, <-code, stderr.String())
	}
	ended := false
	s := served{uri: strings.TrimSpace(line), stop: func() (int, string) {
		cancel()
		if ended {
			return 0, ""
		}
		ended = true
		return <-code, stderr.String()
	}}
	t.Cleanup(func() { s.stop() })
	return s
}

func image(t *testing.T, size int64) string {
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, bytes.Repeat([]byte{0x5a}, int(size)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	program.Need(t, name)
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}

// TestServe: a file is served, written, served on by another one, and is durable and free when the server has ended.
func TestServe(t *testing.T) {
	path, socket := image(t, 4<<20), filepath.Join(t.TempDir(), "near.sock")
	far := serve(t, "--listen", "127.0.0.1:0", "--name", "a b/c", path)
	near := serve(t, "--socket", socket, "--description", "a disk", far.uri)
	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket is %v, %v", info.Mode(), err)
	}
	tool(t, "qemu-io", "-f", "raw", "-c", "write -P 0x17 1M 64k", "-c", "flush", near.uri)
	if out := tool(t, "nbdinfo", near.uri); !strings.Contains(out, "description: a disk") {
		t.Errorf("nbdinfo says %s", out)
	}
	if code, stderr := near.stop(); code != 0 || stderr != "" {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
	var refused bytes.Buffer
	if code := run(t.Context(), []string{"serve", "--socket", socket, path}, strings.NewReader(""), io.Discard, &refused); code != exitRefused {
		t.Errorf("a second writer: exit code %d: %s", code, refused.String())
	}
	if code, stderr := far.stop(); code != 0 || stderr != "" {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	tool(t, "qemu-io", "-f", "raw", "-c", "read -P 0x17 1M 64k", "-c", "read -P 0x5a 0 1M", path)
}

// TestServeReadOnly: nobody writes, and a file that cannot be written can be served.
func TestServeReadOnly(t *testing.T) {
	path := image(t, 1<<20)
	s := serve(t, "--socket", filepath.Join(t.TempDir(), "s"), "--read-only", "--json", path)
	s.stop() // JSON begins with a line that is no URI
	s = serve(t, "--socket", filepath.Join(t.TempDir(), "s"), "--read-only", path)
	u, err := nbd.ParseURI(s.uri)
	if err != nil {
		t.Fatal(err)
	}
	d, err := nbd.Dial(t.Context(), u.DialOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if !d.Info().ReadOnly {
		t.Error("it can be written")
	}
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"serve", "--socket", "x", s.uri}, strings.NewReader(""), io.Discard, &stderr); code != exitRefused {
		t.Errorf("served on for writing: exit code %d: %s", code, stderr.String())
	}
}

// TestServeOnce ends with the last client.
func TestServeOnce(t *testing.T) {
	s := serve(t, "--socket", filepath.Join(t.TempDir(), "s"), "--once", image(t, 1<<20))
	tool(t, "nbdcopy", s.uri, "null:")
	u, err := nbd.ParseURI(s.uri)
	if err != nil {
		t.Fatal(err)
	}
	for {
		conn, err := net.Dial("unix", u.Address)
		if err != nil {
			break // it has ended by itself
		}
		conn.Close()
	}
	if code, stderr := s.stop(); code != 0 {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// TestServeTakesOverTheSocket: a socket that nobody listens on is replaced, one that answers is not.
func TestServeTakesOverTheSocket(t *testing.T) {
	path, socket := image(t, 1<<20), filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"serve", "--socket", socket, path}, strings.NewReader(""), io.Discard, &stderr); code != exitOther || !strings.Contains(stderr.String(), "listens") {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
	l.Close()
	serve(t, "--socket", socket, path)
}

// TestServeTLS: without a certificate of the authority nobody comes in, with one all works.
func TestServeTLS(t *testing.T) {
	dir, path := t.TempDir(), image(t, 1<<20)
	certificates(t, dir)
	s := serve(t, "--listen", "127.0.0.1:0", "--tls-certificates", dir, path)
	if !strings.HasPrefix(s.uri, "nbds://") {
		t.Errorf("it is at %s", s.uri)
	}
	secured := s.uri + "?tls-certificates=" + dir
	if out := tool(t, "nbdinfo", "--size", strings.Replace(secured, "127.0.0.1", "localhost", 1)); strings.TrimSpace(out) != "1048576" {
		t.Errorf("nbdinfo says %s", out)
	}
	on := serve(t, "--socket", filepath.Join(dir, "s"), secured+"&tls-hostname=localhost")
	tool(t, "qemu-io", "-f", "raw", "-c", "read -P 0x5a 0 1M", on.uri)
	on.stop()
	u, err := nbd.ParseURI(strings.Replace(s.uri, "nbds", "nbd", 1))
	if err != nil {
		t.Fatal(err)
	}
	if d, err := nbd.Dial(t.Context(), u.DialOptions()); err == nil {
		d.Close()
		t.Error("plain text is served")
	}
	for _, missing := range []string{"server-key.pem", "ca-cert.pem"} {
		if err := os.Remove(filepath.Join(dir, missing)); err != nil {
			t.Fatal(err)
		}
		var stderr bytes.Buffer
		if code := run(t.Context(), []string{"serve", "--listen", "127.0.0.1:0", "--tls-certificates", dir, path}, strings.NewReader(""), io.Discard, &stderr); code == 0 || !strings.Contains(stderr.String(), missing) {
			t.Errorf("without %s: exit code %d: %s", missing, code, stderr.String())
		}
	}
}

// certificates makes an authority, and a server's and a client's certificate of it.
func certificates(t *testing.T, dir string) {
	at := func(name string) string { return filepath.Join(dir, name) }
	curve := []string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"}
	tool(t, "openssl", append([]string{"req", "-x509", "-days", "2", "-subj", "/CN=tests", "-keyout", at("ca-key.pem"), "-out", at("ca-cert.pem")}, curve...)...)
	for name, subject := range map[string]string{"server": "/CN=localhost", "client": "/CN=client"} {
		tool(t, "openssl", append([]string{"req", "-subj", subject, "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
			"-keyout", at(name + "-key.pem"), "-out", at(name + ".csr")}, curve...)...)
		tool(t, "openssl", "x509", "-req", "-days", "2", "-copy_extensions", "copy", "-in", at(name+".csr"), "-CA", at("ca-cert.pem"),
			"-CAkey", at("ca-key.pem"), "-CAcreateserial", "-out", at(name+"-cert.pem"))
	}
}

// TestServeRefuses: what is wrong is said in a line, with the exit code of its kind.
func TestServeRefuses(t *testing.T) {
	path, dir := image(t, 1<<20), t.TempDir()
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{}, exitUsage, "too few"},
		{[]string{path}, exitUsage, "nowhere to listen"},
		{[]string{"--socket", "s", "--listen", ":1", path}, exitUsage, "exclude"},
		{[]string{"--listen", "0.0.0.0:0", path}, exitUsage, "--insecure"},
		{[]string{"--listen", ":0", path}, exitUsage, "--insecure"},
		{[]string{"--listen", "nonsense", path}, exitOther, "nonsense"},
		{[]string{"--socket", dir + "/s", "--max-connections", "-1", path}, exitUsage, "-1"},
		{[]string{"--socket", dir + "/s", "--socket-mode", "rw", path}, exitUsage, "rw"},
		{[]string{"--socket", dir + "/s", "--socket-mode", "0688", path}, exitUsage, "0688"},
		{[]string{"--socket", dir + "/s", "--socket-mode", "0600x", path}, exitUsage, "0600x"},
		{[]string{"--socket", dir + "/s", "--socket-mode", "4755", path}, exitUsage, "4755"},
		{[]string{"--socket", dir + "/none/s", path}, exitOther, "none"},
		{[]string{"--socket", dir + "/s", dir + "/missing"}, exitNotFound, "missing"},
		{[]string{"--socket", dir + "/s", dir}, exitRefused, "neither"},
		{[]string{"--socket", dir + "/s", "/dev/null"}, exitRefused, "neither"},
		{[]string{"--socket", dir + "/s", "nbd+unix:///"}, exitRefused, "socket"},
		{[]string{"--socket", dir + "/s", "http://example.org/"}, exitRefused, "scheme"},
		{[]string{"--socket", dir + "/s", "nbd+unix:///?socket=" + dir + "/missing"}, exitOther, "missing"},
		{[]string{"--socket", dir + "/s", "--name", strings.Repeat("x", 5000), path}, exitOther, "name"},
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), append([]string{"serve"}, c.args...), strings.NewReader(""), &stdout, &stderr)
		if code != c.code || !strings.Contains(stderr.String(), c.says) || strings.Count(stderr.String(), "\n") != 1 || stdout.Len() > 0 {
			t.Errorf("cvol serve %q: exit code %d, want %d; %q, %q", c.args, code, c.code, stdout.String(), stderr.String())
		}
	}
	if left, _ := filepath.Glob(dir + "/s"); len(left) > 0 {
		t.Errorf("%v is left over", left)
	}
}
