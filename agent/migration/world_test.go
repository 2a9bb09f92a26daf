package migration_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/agent/peer"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/file"
	"github.com/cvold/cvold/internal/pki"
	"github.com/cvold/cvold/nbd"
	"github.com/cvold/cvold/transfer"
)

// patience bounds every wait of these tests. It is long because machines are shared, and never passes in a good run.
const patience = 60 * time.Second

// errCrashed is what a node's touches return once it has "crashed".
var errCrashed = errors.New("the node has crashed")

// world is two or more nodes with real stores, files, sockets and certificates, in one process.
type world struct {
	t     *testing.T
	dir   string
	nodes map[string]*testNode
	// hook sees every touch; an error of it is a crash of the node. May be nil.
	hook func(n *testNode, id string, t migration.Touch, after bool) error
	mu   sync.Mutex
	gate gate
	// minimum is minimum_verify_for_delete of the nodes.
	minimum transfer.Class
	// retries is the nodes' RetryLimit.
	retries int
	// each is every migration's own limit, class its transfer class.
	each  transfer.Rate
	class catalog.TransferClass
}

// testNode is one agent without its API. It can crash, and be started again on what it left.
type testNode struct {
	w         *world
	name, dir string
	peerAddr  string
	nbdAddr   string
	dead      atomic.Bool
	crashed   chan struct{} // closed by crash
	wrap      func(dataplane.Driver) dataplane.Driver
	wrapPeer  func(migration.Peer) migration.Peer // around the other nodes as this one calls them

	store   *catalog.Bolt
	driver  dataplane.Driver
	spare   dataplane.Driver // the second back end
	volumes *volume.Manager
	nbd     *nbd.Server
	target  *migration.Target
	engine  *migration.Engine
	server  *peer.Server
	peers   *peer.Peers
	served  sync.WaitGroup
}

// addresses counts the loopback addresses that were given out.
var addresses atomic.Uint32

// loopback is an address of this process and node alone, so that its ports stay free while the node is down: outgoing
// connections come from 127.0.0.1.
func loopback() string {
	n := addresses.Add(1)
	return fmt.Sprintf("127.%d.%d.%d", 1+os.Getpid()%250, n/250%250, 1+n%250)
}

func newWorld(t *testing.T, names ...string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), nodes: map[string]*testNode{}, minimum: transfer.Cached, retries: 1000}
	authority, err := pki.NewAuthority(filepath.Join(w.dir, "pki"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := authority.Issue(name, pki.Peer, []string{"127.0.0.1"}); err != nil {
			t.Fatal(err)
		}
		ip := loopback()
		n := &testNode{w: w, name: name, dir: filepath.Join(w.dir, name), peerAddr: ip + ":0", nbdAddr: ip + ":0"}
		for _, dir := range []string{"volumes", "spare"} {
			if err := os.MkdirAll(filepath.Join(n.dir, dir), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		w.nodes[name] = n
	}
	for _, n := range w.nodes {
		n.reserve()
	}
	for _, n := range w.nodes {
		n.start()
	}
	t.Cleanup(func() {
		for _, n := range w.nodes {
			n.stop()
		}
	})
	return w
}

// reserve finds the node's ports, which stay its own over restarts. The first one is held while the second one is looked for,
// which might be the same one otherwise.
func (n *testNode) reserve() {
	for _, address := range []*string{&n.peerAddr, &n.nbdAddr} {
		l := n.listen(*address)
		defer l.Close()
		*address = l.Addr().String()
	}
}

func (n *testNode) listen(address string) net.Listener {
	n.w.t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		n.w.t.Fatal(err)
	}
	return l
}

func (n *testNode) check(err error) {
	n.w.t.Helper()
	if err != nil {
		n.w.t.Fatalf("node %s: %v", n.name, err)
	}
}

// start builds the node from its directory, as the agent does.
func (n *testNode) start() {
	n.w.t.Helper()
	n.dead.Store(false)
	n.crashed = make(chan struct{})
	var err error
	n.store, err = catalog.OpenBolt(filepath.Join(n.dir, "cvold.db"), catalog.BoltOptions{})
	n.check(err)
	n.driver, err = file.New(file.Config{Name: "pool", Directory: filepath.Join(n.dir, "volumes")})
	n.check(err)
	n.spare, err = file.New(file.Config{Name: "spare", Directory: filepath.Join(n.dir, "spare")})
	n.check(err)
	driver, spare := n.driver, n.spare
	if n.wrap != nil {
		driver, spare = n.wrap(driver), n.wrap(spare)
	}
	p := filepath.Join(n.w.dir, "pki")
	credentials, err := pki.LoadPeer(pki.Files{CA: filepath.Join(p, "ca.pem"), Cert: filepath.Join(p, n.name+".pem"), Key: filepath.Join(p, n.name+".key")})
	n.check(err)
	n.nbd = nbd.NewServer(nbd.ServerOptions{TLS: credentials.Server(pki.Peer, pki.Client)})
	store := &fenced{Bolt: n.store, node: n}
	n.volumes, err = volume.New(volume.Options{Node: n.name, Store: store, NBD: n.nbd, Backends: []volume.Backend{
		{Name: "pool", BackendName: "pool", Driver: driver},
		{Name: "spare", BackendName: "spare", Driver: spare},
	}})
	n.check(err)
	n.check(n.volumes.Start(context.Background()))
	n.parts(store, credentials)
	n.serve(credentials)
	n.check(n.target.Start(context.Background()))
	n.check(n.engine.Start(context.Background()))
}

func (n *testNode) parts(store catalog.Store, credentials *pki.Credentials) {
	addresses := map[string]string{}
	for _, other := range n.w.nodes {
		if other != n {
			addresses[other.name] = other.peerAddr
		}
	}
	n.peers = peer.NewPeers(addresses, 0, credentials.Client)
	o := migration.Options{
		Node: n.name, Store: store, Leaser: n.store, Volumes: n.volumes, Directory: n.dir,
		MinimumClass: n.w.minimum, RetryLimit: n.w.retries, Backoff: 5 * time.Millisecond,
		Limits: migration.Limits{Each: n.w.each, Class: n.w.class},
		Peer:   n.peerOf,
		Dial: func(ctx context.Context, node string, a migration.NBDAddress) (dataplane.Device, error) {
			return nbd.Dial(ctx, nbd.DialOptions{Network: a.Network, Address: a.Address, Export: a.Export, TLS: credentials.Client(node), Connections: 2})
		},
		Logger: slog.New(slog.NewTextHandler(testWriter{n}, nil)),
		Touch:  n.touch,
	}
	n.target = migration.NewTarget(migration.TargetOptions{
		Options: o, NBD: n.nbd, Address: migration.NBDAddress{Network: "tcp", Address: n.nbdAddr},
		Unix:    migration.NBDAddress{Network: "tcp", Address: n.nbdAddr}, // with this node's own certificate
		Version: "test", AskEvery: 20 * time.Millisecond,
	})
	var err error
	n.engine, err = migration.NewEngine(o, n.target)
	n.check(err)
}

func (n *testNode) peerOf(name string) (migration.Peer, error) {
	p, err := n.peers.Peer(name)
	if err != nil || n.wrapPeer == nil {
		return p, err
	}
	return n.wrapPeer(p), nil
}

func (n *testNode) serve(credentials *pki.Credentials) {
	l := n.listen(n.nbdAddr)
	server := n.nbd
	n.served.Go(func() { _ = server.Serve(l, nbd.ListenOptions{RequireTLS: true}) })
	n.server = peer.NewServer(peer.ServerOptions{
		Local: migration.Served(n.engine, n.target), TLS: credentials.Server(pki.Peer),
		Known: func(node string) bool { return n.w.nodes[node] != nil },
	})
	control := n.listen(n.peerAddr)
	peers := n.server
	n.served.Go(func() { _ = peers.Serve(control) })
}

// stop ends the node's goroutines. What it leaves on disk after a crash is what the crash left.
func (n *testNode) stop() {
	if n.store == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	n.engine.Close(ctx)
	_ = n.server.Close(ctx)
	n.target.Close(ctx)
	n.volumes.Close(ctx)
	n.nbd.Close(ctx)
	n.served.Wait()
	n.peers.Close()
	n.driver.Close()
	n.spare.Close()
	n.store.Close()
	n.store = nil
}

// crash ends the node's effects on the world: no touch and no write to its catalog happens from now on.
func (n *testNode) crash() {
	if n.dead.CompareAndSwap(false, true) {
		close(n.crashed)
	}
}

// restart is a crash, if there was none, and a start on what was left.
func (n *testNode) restart() {
	n.w.t.Helper()
	n.crash()
	n.stop()
	n.start()
}

func (n *testNode) touch(_ context.Context, id string, t migration.Touch, after bool) error {
	if n.dead.Load() {
		return errCrashed
	}
	n.w.mu.Lock()
	hook, g := n.w.hook, n.w.gate
	n.w.mu.Unlock()
	if g.node == n.name && g.at == t && !after {
		g.pass(id, n.crashed)
		if n.dead.Load() {
			return errCrashed
		}
	}
	if hook == nil {
		return nil
	}
	if err := hook(n, id, t, after); err != nil {
		n.crash()
		return err
	}
	return nil
}

// gate stops whoever comes to a touch of a node until it is opened.
type gate struct {
	node   string
	at     migration.Touch
	arrive chan string
	open   chan struct{}
}

func (g gate) pass(id string, crashed <-chan struct{}) {
	select {
	case g.arrive <- id:
	default:
	}
	select {
	case <-g.open:
	case <-crashed:
	}
}

// hold closes a gate. reached tells of the first who comes to it; release opens it for good.
func (w *world) hold(node string, at migration.Touch) (reached <-chan string, release func()) {
	g := gate{node: node, at: at, arrive: make(chan string, 1), open: make(chan struct{})}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gate = g
	return g.arrive, func() { close(g.open) }
}

func (w *world) setHook(hook func(n *testNode, id string, t migration.Touch, after bool) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hook = hook
}

// fenced is a store that takes no writes after its node has crashed.
type fenced struct {
	*catalog.Bolt
	node *testNode
}

func (f *fenced) Update(fn func(catalog.Tx) error) error {
	if f.node.dead.Load() {
		return errCrashed
	}
	return f.Bolt.Update(fn)
}

// testWriter sends a node's log to the test's.
type testWriter struct{ n *testNode }

func (w testWriter) Write(p []byte) (int, error) {
	if !w.n.dead.Load() {
		w.n.w.t.Logf("%s: %s", w.n.name, p)
	}
	return len(p), nil
}

const testSize = 9<<20 + 512*3

// content is what the tests' volumes hold: data, zeroes that were written, and holes, by a seed.
func content(seed uint64, size int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	p := make([]byte, size)
	for off := 0; off < size; off += 128 << 10 {
		piece := p[off:min(off+128<<10, size)]
		if r.IntN(3) == 0 {
			continue
		}
		for i := range piece {
			piece[i] = byte(r.Uint32())
		}
	}
	clear(p[min(2<<20, size):min(4<<20, size)]) // two whole chunks of zeroes
	return p
}

// create makes a volume with content on the node.
func (n *testNode) create(data []byte) catalog.Volume {
	n.w.t.Helper()
	ctx := context.Background()
	v, err := n.volumes.Create(ctx, volume.CreateRequest{DisplayName: "v", Host: n.name + "@pool#pool", Size: int64(len(data))})
	n.check(err)
	h, err := n.driver.Open(ctx, v.Volume, dataplane.Mode{})
	n.check(err)
	for off := 0; off < len(data); off += 1 << 20 {
		_, err = h.WriteAt(data[off:min(off+1<<20, len(data))], int64(off))
		n.check(err)
	}
	n.check(h.Sync())
	n.check(h.Close())
	v, err = n.volumes.Get(v.ID)
	n.check(err)
	return v
}

// read is what the volume holds at the node.
func (n *testNode) read(id string) []byte {
	n.w.t.Helper()
	ctx := context.Background()
	h, err := n.volumes.Open(ctx, id, volume.User{Kind: volume.UserView, Name: "read"}, dataplane.Mode{ReadOnly: true})
	n.check(err)
	defer h.Close()
	size, err := h.Size()
	n.check(err)
	p := make([]byte, size)
	_, err = h.ReadAt(p, 0)
	n.check(err)
	return p
}

// eventually waits until ok, looking whenever a catalog changes and from time to time.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			w.t.Fatalf("not within %s: %s\n%s", patience, what, w.dump())
		}
	}
}

// records reads a node's tables.
func (n *testNode) records() (volumes []catalog.Volume, migrations []catalog.Migration, guests []catalog.Guest) {
	n.w.t.Helper()
	n.check(n.store.View(func(tx catalog.Tx) (err error) {
		if volumes, err = catalog.Volumes.All(tx); err != nil {
			return err
		}
		if migrations, err = catalog.Migrations.All(tx); err != nil {
			return err
		}
		guests, err = catalog.Guests.All(tx)
		return err
	}))
	return volumes, migrations, guests
}

func (w *world) dump() (s string) {
	for _, n := range w.nodes {
		volumes, migrations, guests := n.records()
		s += fmt.Sprintf("%s:\n", n.name)
		for _, v := range volumes {
			s += fmt.Sprintf("  volume %s %s %q %s epoch %d held %q\n", v.ID, v.Status, v.MigrationStatus, v.Name, v.OwnerEpoch, v.MigrationID)
		}
		for _, m := range migrations {
			s += fmt.Sprintf("  migration %s %s attempt %d failures %d: %s\n", m.ID, m.State, m.Attempt, m.Failures, m.Reason)
		}
		for _, g := range guests {
			s += fmt.Sprintf("  guest %s %s attempt %d: %s\n", g.MigrationID, g.State, g.Attempt, g.Reason)
		}
	}
	return s
}
