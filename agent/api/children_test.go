package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A test that needs a caller with another uid runs this test's binary again as that uid: childEnv has the socket and
// the requests, one a line, and the child prints the status of each.
const childEnv = "CVOLD_TEST_CHILD"

func childRequests() []string {
	v := os.Getenv(childEnv)
	if v == "" {
		return nil
	}
	return strings.Split(v, "\n")
}

func childMain(asked []string) {
	c := socketClient(asked[0])
	if !filepath.IsAbs(asked[0]) {
		c = loopbackClient(asked[0])
	}
	var codes []int
	for _, line := range asked[1:] {
		if line == dialOnly {
			codes = append(codes, dialCode(asked[0]))
			continue
		}
		method, path, _ := strings.Cut(line, " ")
		code, _, err := do(c, method, path, "")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		codes = append(codes, code)
	}
	_ = json.NewEncoder(os.Stdout).Encode(codes)
}

// dialOnly is a line of the child that connects and asks nothing: its code is the errno.
const dialOnly = "DIAL"

func dialCode(socket string) int {
	c, err := net.Dial("unix", socket)
	if err == nil {
		c.Close()
		return 0
	}
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return -1
	}
	return int(errno)
}

// askAs makes requests in a process with these credentials and returns their statuses.
func askAs(t *testing.T, cred syscall.Credential, socket string, lines ...string) (codes []int) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{childEnv + "=" + strings.Join(append([]string{socket}, lines...), "\n")}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &cred}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &codes)
	}
	if err != nil {
		t.Fatalf("child as %+v: %v %s %s", cred, err, out, &stderr)
	}
	return codes
}

func socketClient(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
}

// loopbackClient connects to a TCP address, and says so in Host, whatever the URL of a request is.
func loopbackClient(address string) *http.Client {
	return &http.Client{Transport: hostOf{address, &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		},
	}}}
}

type hostOf struct {
	host string
	http.RoundTripper
}

// RoundTrip sends r with the header Host.
func (h hostOf) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Host = h.host
	return h.RoundTripper.RoundTrip(r)
}

func do(c *http.Client, method, path, body string) (int, string, error) {
	req, err := http.NewRequest(method, "http://cvold"+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(resp.Body)
	return resp.StatusCode, b.String(), err
}

// openDirectory is a directory that every user may reach into: t.TempDir is not.
func openDirectory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cvold-api")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// serve answers at a socket until the test ends.
func (r *rig) serve(t *testing.T) (socket string) {
	t.Helper()
	socket = filepath.Join(openDirectory(t), "run", "cvold.sock")
	l, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	r.run(t, func() error { return r.Serve(l) })
	return socket
}

// run serves until the test ends.
func (r *rig) run(t *testing.T, serve func() error) {
	t.Helper()
	served := make(chan error, 1)
	go func() { served <- serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}
