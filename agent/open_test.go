package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/cvold/cvold/agent/api"
	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/client"
	"github.com/cvold/cvold/internal/pki"
)

// TestOpenFails: each thing that can be wrong on the machine is one clear sentence, and nothing is left behind: when it is put
// right, the next Open works.
func TestOpenFails(t *testing.T) {
	for _, test := range []struct {
		name  string
		wrong func(t *testing.T, n *node) (right func())
		want  string
	}{
		{"port in use", portInUse, "peer_listen: listen tcp 127.0.0.1:"},
		{"socket of another agent", liveSocket, "another process listens on the socket"},
		{"socket is a file", fileAt("s"), "the file there is no socket"},
		{"NBD socket is a file", fileAt("n"), "nbd_socket: "},
		{"state_path is a file", fileAt("state"), "state_path: "},
		{"catalog is a directory", directoryAt("state/cvold.db"), "open catalog: "},
		{"catalog is damaged", fileAt("state/cvold.db"), "keep this file for inquiry"},
		{"catalog is locked", lockedCatalog, "one agent at a time may have it"},
		{"no certificate", moved("../pki/a.pem"), "no such file"},
		{"no key", moved("../pki/a.key"), "no such file"},
		{"no authority", moved("../pki/ca.pem"), "no such file"},
		{"certificate of another node", exchanged("pki/a.", "pki/b."), "is of node b, and host says a"},
		{"certificate is no certificate", garbled("../pki/a.pem"), "a.pem"},
		{"unknown admin group", exchanged("nbd_listen", "admin_group = no-such-group\nnbd_listen"), "no-such-group"},
		{"no backend directory", moved("pool"), "pool"},
		{"backend directory is a file", swapped("pool"), "pool"},
	} {
		t.Run(test.name, func(t *testing.T) {
			n, _ := pair(t)
			if err := os.Mkdir(n.path("state"), 0o700); err != nil {
				t.Fatal(err)
			}
			right := test.wrong(t, n)
			a, err := Open(n.config(), Options{})
			if err == nil {
				_ = a.Close()
				t.Fatal("it opens")
			}
			if !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q, want a sentence with %q", err, test.want)
			}
			right()
			n.start()
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func portInUse(t *testing.T, n *node) func() {
	l, err := net.Listen("tcp", "127.0.0.1:"+n.port)
	must(t, err)
	return func() { must(t, l.Close()) }
}

func liveSocket(t *testing.T, n *node) func() {
	l, err := api.Listen(n.path("s"))
	must(t, err)
	return func() { must(t, l.Close()) }
}

func lockedCatalog(t *testing.T, n *node) func() {
	store, err := catalog.OpenBolt(n.path("state/cvold.db"), catalog.BoltOptions{})
	must(t, err)
	return func() { must(t, store.Close()) }
}

// fileAt puts a file where none should be, aside what is there.
func fileAt(name string) func(t *testing.T, n *node) func() {
	return func(t *testing.T, n *node) func() {
		_ = os.Remove(n.path(name))
		must(t, os.WriteFile(n.path(name), []byte("not this"), 0o600))
		return func() { must(t, os.Remove(n.path(name))) }
	}
}

func directoryAt(name string) func(t *testing.T, n *node) func() {
	return func(t *testing.T, n *node) func() {
		must(t, os.Mkdir(n.path(name), 0o700))
		return func() { must(t, os.Remove(n.path(name))) }
	}
}

// moved takes a file away.
func moved(name string) func(t *testing.T, n *node) func() {
	return func(t *testing.T, n *node) func() {
		must(t, os.Rename(n.path(name), n.path("away")))
		return func() { must(t, os.Rename(n.path("away"), n.path(name))) }
	}
}

// swapped puts a file in the place of a directory.
func swapped(name string) func(t *testing.T, n *node) func() {
	return func(t *testing.T, n *node) func() {
		back := moved(name)(t, n)
		gone := fileAt(name)(t, n)
		return func() { gone(); back() }
	}
}

// garbled writes nonsense into a file.
func garbled(name string) func(t *testing.T, n *node) func() {
	return func(t *testing.T, n *node) func() {
		text, err := os.ReadFile(n.path(name))
		must(t, err)
		must(t, os.WriteFile(n.path(name), []byte("nonsense"), 0o600))
		return func() { must(t, os.WriteFile(n.path(name), text, 0o600)) }
	}
}

// exchanged changes the options, for cert_file the key with it.
func exchanged(old, changed string) func(t *testing.T, n *node) func() {
	return func(_ *testing.T, n *node) func() {
		before := n.options
		n.options = strings.ReplaceAll(before, old, changed)
		return func() { n.options = before }
	}
}

// TestStartFails: the view's directory is looked at when it is mounted. Close follows, and leaves nothing.
func TestStartFails(t *testing.T) {
	n, _ := pair(t)
	before := n.options
	n.options += "view_path = " + n.path("conf") + "\n"
	n.open()
	err := n.agent.Start(n.context())
	if err == nil || !strings.Contains(err.Error(), "view_path: ") {
		t.Errorf("view_path is a file: %v", err)
	}
	n.stop()
	n.options = before
	n.start()
}

// TestUnwritableState: a state_path on a file system that nobody writes to.
func TestUnwritableState(t *testing.T) {
	n, _ := pair(t)
	must(t, os.Mkdir(n.path("state"), 0o700))
	if err := syscall.Mount("tmpfs", n.path("state"), "tmpfs", syscall.MS_RDONLY, ""); err != nil {
		t.Skip("cannot mount a read-only file system: ", err)
	}
	_, err := Open(n.config(), Options{})
	if !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), n.path("state")) {
		t.Errorf("got %v, want the path and read-only", err)
	}
	must(t, syscall.Unmount(n.path("state"), 0))
	n.start()
}

// TestPassedSockets: sockets that were opened for the agent are used, and closed with it, whatever fails.
func TestPassedSockets(t *testing.T) {
	n, _ := pair(t)
	pass := func() map[string]net.Listener {
		nbd, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		return map[string]net.Listener{"nbd": nbd}
	}
	passed := pass()
	a, err := Open(n.config(), Options{Listeners: passed})
	must(t, err)
	n.agent = a
	must(t, a.Start(n.context()))
	status, err := n.client.Status(n.context())
	if want := passed["nbd"].Addr().String(); err != nil || len(status.NBD.Addresses) != 2 || status.NBD.Addresses[1] != want {
		t.Errorf("addresses %v, %v, want %s", status.NBD.Addresses, err, want)
	}
	n.stop()
	closed(t, passed)
	defer fileAt("s")(t, n)()
	passed = pass()
	if _, err := Open(n.config(), Options{Listeners: passed}); err == nil {
		t.Error("it opens with a file in the place of its socket")
	}
	closed(t, passed)
	defer fileAt("state/cvold.db")(t, n)()
	passed = pass()
	if _, err := Open(n.config(), Options{Listeners: passed}); err == nil {
		t.Error("it opens with a damaged catalog")
	}
	closed(t, passed)
}

// TestPassedRefused: a passed socket does not get around what the configuration asks for.
func TestPassedRefused(t *testing.T) {
	for name, want := range map[string]string{
		"nbd": "cert_file", "peer": "cert_file", "http": "want the name api", "loopback": "want a loopback address",
	} {
		n, _ := pair(t)
		n.options, n.peers = "", ""
		address := "127.0.0.1:0"
		if name == "loopback" {
			address = ":0"
		}
		l, err := net.Listen("tcp", address)
		must(t, err)
		passed := map[string]net.Listener{name: l}
		if a, err := Open(n.config(), Options{Listeners: passed}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v, want %q", name, a, err, want)
		}
		closed(t, passed)
	}
}

// TestPassedMetrics: a passed socket that other machines reach is refused without certificates, and asks the client for one
// with them; on a loopback address it needs none.
func TestPassedMetrics(t *testing.T) {
	listen := func(address string) map[string]net.Listener {
		l, err := net.Listen("tcp", address)
		must(t, err)
		return map[string]net.Listener{"metrics": l}
	}
	plain, _ := pair(t)
	plain.options, plain.peers = "", ""
	passed := listen(":0")
	if a, err := Open(plain.config(), Options{Listeners: passed}); err == nil || !strings.Contains(err.Error(), "passed socket metrics: want ca_file") {
		t.Errorf("without certificates: %v, %v", a, err)
	}
	closed(t, passed)
	a, err := Open(plain.config(), Options{Listeners: listen("127.0.0.1:0")})
	must(t, err)
	must(t, a.Close())

	n, _ := pair(t)
	passed = listen(":0")
	n.agent, err = Open(n.config(), Options{Listeners: passed})
	must(t, err)
	must(t, n.agent.Start(n.context()))
	port := passed["metrics"].Addr().(*net.TCPAddr).Port
	answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", port))
	must(t, err)
	must(t, answer.Body.Close())
	if answer.StatusCode != http.StatusBadRequest {
		t.Errorf("metrics that other machines reach are plain: %s", answer.Status)
	}
	directory := n.path("../pki")
	credentials, err := pki.LoadPeer(pki.Files{CA: directory + "/ca.pem", Cert: directory + "/b.pem", Key: directory + "/b.key"})
	must(t, err)
	transport := &http.Transport{TLSClientConfig: credentials.Client("a")}
	defer transport.CloseIdleConnections()
	answer, err = (&http.Client{Transport: transport}).Get(fmt.Sprintf("https://127.0.0.1:%d/metrics", port))
	must(t, err)
	text, err := io.ReadAll(answer.Body)
	must(t, errors.Join(err, answer.Body.Close()))
	if answer.StatusCode != http.StatusOK || !strings.Contains(string(text), "cvold_") {
		t.Errorf("with a certificate: %s: %.200s", answer.Status, text)
	}
	transport.CloseIdleConnections()
	n.stop()
}

func closed(t *testing.T, passed map[string]net.Listener) {
	t.Helper()
	for name, l := range passed {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the passed socket %s is left open: %v", name, err)
		}
	}
}

// TestLoopback: the API over TCP, on an address or a passed socket, for the user who connects; a warning where it asks
// nobody who he is.
func TestLoopback(t *testing.T) {
	n, _ := pair(t)
	n.options += "api_listen = [::1]:0\n"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	for _, c := range []struct {
		options string
		passed  map[string]net.Listener
		warned  bool
	}{{"", nil, false}, {"insecure_loopback_admin = true\n", map[string]net.Listener{"loopback": l}, true}} {
		n.options += c.options
		a, err := Open(n.config(), Options{Listeners: c.passed})
		must(t, err)
		n.agent = a
		must(t, a.Start(n.context()))
		at := a.listeners.loopback.Addr().String()
		if c.passed != nil && at != l.Addr().String() {
			t.Errorf("listens on %s, and %s was passed", at, l.Addr())
		}
		resp, err := http.Get("http://" + at + "/v1/status")
		must(t, err)
		var status client.Status
		must(t, json.NewDecoder(resp.Body).Decode(&status))
		must(t, resp.Body.Close())
		if warned := strings.Contains(strings.Join(status.Warnings, "\n"), "insecure_loopback_admin"); warned != c.warned {
			t.Errorf("warnings %v", status.Warnings)
		}
		http.DefaultClient.CloseIdleConnections()
		n.stop()
		n.agent = nil
	}
}
