package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cvold/cvold/client"
	"github.com/cvold/cvold/internal/freeport"
)

const (
	// patience bounds every wait of a test.
	patience = 45 * time.Second
	// look is how often something that cannot be waited for is looked at.
	look = 20 * time.Millisecond
)

// node is one agent in a process of its own.
type node struct {
	t         testing.TB
	name, dir string
	socket    string
	pool      string
	peerPort  string
	nbdPort   string
	log       string
	options   string // more lines of [cvold]
	peer      string // the other's address as this one knows it
	other     string
	client    *client.Client
	command   *exec.Cmd
	ended     chan struct{}
	nbdSocket *os.File // passed as systemd would
}

// pair makes two nodes that know each other, not started. Their paths are short: a socket's has at most 107 bytes.
func pair(t testing.TB, options string) (a, b *node) {
	t.Helper()
	dir, err := os.MkdirTemp("", "cv")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	a, b = newNode(t, dir, "node1", options), newNode(t, dir, "node2", options)
	a.other, a.peer, b.other, b.peer = "node2", "127.0.0.1:"+b.peerPort, "node1", "127.0.0.1:"+a.peerPort
	return a, b
}

// started is a pair that runs.
func started(t testing.TB, options string) (a, b *node) {
	t.Helper()
	a, b = pair(t, options)
	a.start()
	b.start()
	return a, b
}

func newNode(t testing.TB, dir, name, options string) *node {
	t.Helper()
	n := &node{t: t, name: name, dir: filepath.Join(dir, name), options: options, peerPort: freeport.Loopback(t), nbdPort: freeport.Loopback(t)}
	n.pool, n.socket, n.log = filepath.Join(n.dir, "pool"), filepath.Join(n.dir, "s"), filepath.Join(n.dir, "log")
	n.client = client.New(n.socket)
	if err := os.MkdirAll(n.pool, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.end)
	return n
}

func (n *node) host() string { return n.name + "@pool#pool" }

func (n *node) configure() string {
	n.t.Helper()
	text := fmt.Sprintf(`[DEFAULT]
host = %[1]s
enabled_backends = pool
state_path = %[2]s/state
[pool]
volume_driver = file
file_directory = %[3]s
[cvold]
socket = %[4]s
nbd_socket = %[2]s/n
nbd_listen = 127.0.0.1:%[5]s
peer_listen = 127.0.0.1:%[6]s
peer_timeout = 5s
ca_file = %[7]s/ca.pem
cert_file = %[7]s/%[1]s.pem
key_file = %[7]s/%[1]s.key
%[8]s
[peer:%[9]s]
address = %[10]s
`, n.name, n.dir, n.pool, n.socket, n.nbdPort, n.peerPort, certificates, n.options, n.other, n.peer)
	path := filepath.Join(n.dir, "cvold.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
	return path
}

// start runs the agent and waits until it answers.
func (n *node) start() {
	n.t.Helper()
	n.launch()
	n.await("the agent answers", func() bool {
		select {
		case <-n.ended:
			n.t.Fatalf("%s ended: %s", n.name, n.tail())
		default:
		}
		_, err := n.client.Version(n.context())
		return err == nil
	})
}

// launch runs the agent. Its log is kept over restarts.
func (n *node) launch() {
	n.t.Helper()
	log, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		n.t.Fatal(err)
	}
	defer log.Close()
	command := exec.Command(cvold, "--config-file", n.configure())
	if n.nbdSocket != nil {
		command = exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, cvold, "--config-file", n.configure())
		command.Env = append(os.Environ(), "LISTEN_FDS=1", "LISTEN_FDNAMES=nbd")
		command.ExtraFiles = []*os.File{n.nbdSocket}
	}
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		n.t.Fatal(err)
	}
	ended := make(chan struct{})
	n.command, n.ended = command, ended
	go func() {
		_ = command.Wait()
		close(ended)
	}()
}

// kill ends the agent as a crash does.
func (n *node) kill() {
	n.t.Helper()
	n.signal(syscall.SIGKILL)
}

// terminate ends the agent as a service manager does, and wants it to end well.
func (n *node) terminate() {
	n.t.Helper()
	n.signal(syscall.SIGTERM)
	if code := n.command.ProcessState.ExitCode(); code != 0 {
		n.t.Fatalf("%s ended with %d: %s", n.name, code, n.tail())
	}
}

func (n *node) signal(s syscall.Signal) {
	n.t.Helper()
	if err := n.command.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		n.t.Fatal(err)
	}
	select {
	case <-n.ended:
	case <-time.After(patience):
		n.t.Fatalf("%s does not end: %s", n.name, n.tail())
	}
	n.client.Close()
}

// stop ends the agent, whatever it does.
func (n *node) stop() {
	if n.command == nil {
		return
	}
	_ = n.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-n.ended:
	case <-time.After(patience):
		_ = n.command.Process.Kill()
		<-n.ended
		n.t.Errorf("%s did not end in time", n.name)
	}
}

// end is the cleanup: it shows the log of a test that failed.
func (n *node) end() {
	n.stop()
	n.client.Close()
	if n.t.Failed() {
		n.t.Logf("%s said:\n%s", n.name, n.tail())
	}
}

func (n *node) tail() string {
	text, _ := os.ReadFile(n.log)
	lines := strings.Split(string(text), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

// context ends with the test's patience.
func (n *node) context() context.Context {
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	n.t.Cleanup(cancel)
	return ctx
}

// await looks until ok says so.
func (n *node) await(what string, ok func() bool) {
	n.t.Helper()
	tick := time.NewTicker(look)
	defer tick.Stop()
	over := time.NewTimer(patience)
	defer over.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-over.C:
			n.t.Fatalf("%s: not within %s: %s", what, patience, n.tail())
		}
	}
}

// answer is what a run of cvol said.
type answer struct {
	code        int
	out, errors string
}

// cvol runs the command line.
func (n *node) cvol(args ...string) answer { return n.cvolAs(nil, args...) }

func (n *node) cvolAs(user *syscall.Credential, args ...string) answer {
	n.t.Helper()
	var out, errs bytes.Buffer
	command := exec.CommandContext(n.context(), cvol, append([]string{"--socket", n.socket, "--no-progress"}, args...)...)
	command.Stdout, command.Stderr = &out, &errs
	command.SysProcAttr = &syscall.SysProcAttr{Credential: user}
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		n.t.Fatal(err)
	}
	return answer{command.ProcessState.ExitCode(), out.String(), errs.String()}
}

// must runs cvol, wants success, and gives its result.
func (n *node) must(args ...string) string {
	n.t.Helper()
	a := n.cvol(args...)
	if a.code != 0 {
		n.t.Fatalf("cvol %s: exit code %d: %s", strings.Join(args, " "), a.code, a.errors)
	}
	return strings.TrimSpace(a.out)
}

// parse runs cvol --json into out.
func (n *node) parse(out any, args ...string) {
	n.t.Helper()
	if err := json.Unmarshal([]byte(n.must(append(args, "--json")...)), out); err != nil {
		n.t.Fatalf("cvol %s: %v", strings.Join(args, " "), err)
	}
}
