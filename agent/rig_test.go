package agent

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cvold/cvold/agent/config"
	"github.com/cvold/cvold/client"
	"github.com/cvold/cvold/internal/freeport"
	"github.com/cvold/cvold/internal/pki"
	"github.com/cvold/cvold/nbd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of a test.
const patience = 30 * time.Second

// node is an agent of this process, with its configuration.
type node struct {
	t         *testing.T
	name, dir string
	options   string // more lines of [cvold]
	peers     string // sections
	port      string // of peer_listen
	agent     *Agent
	client    *client.Client
}

// pair makes two nodes that know each other, not started. Their paths are short: a socket's has at most 107 bytes.
func pair(t *testing.T) (a, b *node) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "cv")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	authority, err := pki.NewAuthority(filepath.Join(dir, "pki"))
	if err != nil {
		t.Fatal(err)
	}
	a, b = newNode(t, dir, "a", authority), newNode(t, dir, "b", authority)
	a.peers = "[peer:b]\naddress = 127.0.0.1:" + b.port + "\n"
	b.peers = "[peer:a]\naddress = 127.0.0.1:" + a.port + "\n"
	return a, b
}

func newNode(t *testing.T, dir, name string, authority *pki.Authority) *node {
	t.Helper()
	if err := authority.Issue(name, pki.Peer, nil); err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, name: name, dir: filepath.Join(dir, name), port: freeport.Loopback(t)}
	if err := os.MkdirAll(n.path("pool"), 0o755); err != nil {
		t.Fatal(err)
	}
	n.options = fmt.Sprintf("ca_file = %[1]s/pki/ca.pem\ncert_file = %[1]s/pki/%[2]s.pem\nkey_file = %[1]s/pki/%[2]s.key\n", dir, name) +
		"nbd_listen = 127.0.0.1:0\npeer_timeout = 5s\npeer_listen = 127.0.0.1:" + n.port + "\n"
	n.client = client.New(n.path("s"))
	t.Cleanup(func() {
		n.client.Close()
		if n.agent != nil {
			n.stop()
		}
	})
	return n
}

func (n *node) path(name string) string { return filepath.Join(n.dir, name) }

func (n *node) host() string { return n.name + "@pool#pool" }

// config loads the configuration from a file, as the daemon does.
func (n *node) config() *config.Config {
	n.t.Helper()
	text := fmt.Sprintf("[DEFAULT]\nhost = %[1]s\nenabled_backends = pool\nstate_path = %[2]s/state\n[pool]\nvolume_driver = file\nfile_directory = %[2]s/pool\n"+
		"[cvold]\nsocket = %[2]s/s\nnbd_socket = %[2]s/n\n%[3]s%[4]s", n.name, n.dir, n.options, n.peers)
	if err := os.WriteFile(n.path("conf"), []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
	c, err := config.Load([]config.Source{{Path: n.path("conf")}})
	if err != nil {
		n.t.Fatal(err)
	}
	return c
}

func (n *node) open() {
	n.t.Helper()
	a, err := Open(n.config(), Options{Logger: slog.New(slog.NewTextHandler(n.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		n.t.Fatal(err)
	}
	n.agent = a
}

func (n *node) start() {
	n.t.Helper()
	n.open()
	if err := n.agent.Start(n.context()); err != nil {
		n.t.Fatal(err)
	}
}

// stop ends the agent and wants nothing left of its sockets.
func (n *node) stop() {
	n.t.Helper()
	n.client.Close()
	if err := n.agent.Close(); err != nil {
		n.t.Errorf("close %s: %v", n.name, err)
	}
	n.agent = nil
	for _, name := range []string{"s", "n"} {
		if _, err := os.Lstat(n.path(name)); err == nil {
			n.t.Errorf("%s left its socket %s", n.name, name)
		}
	}
}

func (n *node) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	n.t.Cleanup(cancel)
	return ctx
}

// await looks until ok says so.
func (n *node) await(what string, ok func() bool) {
	n.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	ctx := n.context()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			n.t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// create makes a volume and waits for it.
func (n *node) create(name string, size int64) client.Volume {
	n.t.Helper()
	v, err := n.client.CreateVolume(n.context(), client.CreateVolume{Name: &name, SizeBytes: size, Host: n.host()})
	if err != nil {
		n.t.Fatal(err)
	}
	n.await("volume "+name, func() bool {
		v, err = n.client.Volume(n.context(), v.ID)
		return err == nil && v.Status == "available"
	})
	return v
}

// device connects to the export of an attachment on the unix socket.
func (n *node) device(at client.Attachment) *nbd.Device {
	n.t.Helper()
	d, err := nbd.Dial(n.context(), nbd.DialOptions{Network: "unix", Address: n.path("n"), Export: at.Export})
	if err != nil {
		n.t.Fatal(err)
	}
	return d
}

// fill writes data into a volume over NBD.
func (n *node) fill(id string, data []byte) {
	n.t.Helper()
	at := n.export(id)
	d := n.device(at)
	if _, err := d.WriteAt(data, 0); err != nil {
		n.t.Fatal(err)
	}
	if err := d.Sync(); err != nil {
		n.t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		n.t.Fatal(err)
	}
	if err := n.client.Unexport(n.context(), at.ID); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) export(id string) client.Attachment {
	n.t.Helper()
	at, err := n.client.Export(n.context(), id, false)
	if err != nil {
		n.t.Fatal(err)
	}
	return at
}

// migrate moves a volume and waits for the end.
func (n *node) migrate(id, host string) client.Migration {
	n.t.Helper()
	if _, err := n.client.MigrateVolume(n.context(), id, client.MigrateVolume{Host: host}); err != nil {
		n.t.Fatal(err)
	}
	all, err := n.client.Migrations(n.context(), client.MigrationFilter{VolumeID: id})
	if err != nil || len(all) == 0 {
		n.t.Fatalf("migrations: %v, %v", all, err)
	}
	m := all[0]
	for !m.Final {
		if m, err = n.client.WaitMigration(n.context(), m.ID, m.State, patience); err != nil {
			n.t.Fatal(err)
		}
	}
	return m
}

// content is what the files of volumes in the pool hold, one after another.
func (n *node) content() []byte {
	n.t.Helper()
	files, err := filepath.Glob(n.path("pool/volume-*"))
	if err != nil {
		n.t.Fatal(err)
	}
	var all []byte
	for _, file := range files {
		p, err := os.ReadFile(file)
		if err != nil {
			n.t.Fatal(err)
		}
		all = append(all, p...)
	}
	return all
}

func pattern(n int) []byte { return bytes.Repeat([]byte("every byte of it"), n/16) }
