package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/client"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/nbd"
	"github.com/cvold/cvold/transfer"
)

func TestMain(m *testing.M) {
	if asked := childRequests(); asked != nil {
		childMain(asked)
		return
	}
	goleak.VerifyTestMain(m)
}

// The callers of tests.
var (
	root      = Caller{Admin: true}
	nobody    = Caller{UID: 65534, GID: 65534}
	peerRoot  = Caller{Admin: true, Forwarded: true, Node: "node2"}
	peerOther = Caller{UID: 65534, GID: 65534, Forwarded: true, Node: "node2"}
)

const oneGiB = 1 << 30

// rig is an API over a real store, with volumes and migrations that do what a test says.
type rig struct {
	*Server
	t          testing.TB
	store      *catalog.Bolt
	volumes    *fakeVolumes
	migrations *fakeMigrations
	peers      *fakePeers
	log        *safeBuffer
	exports    []nbd.ExportStats
}

func newRig(t testing.TB) *rig { return newNode(t, "node1") }

func newNode(t testing.TB, node string) *rig {
	t.Helper()
	store, err := catalog.OpenBolt(filepath.Join(t.TempDir(), "db"), catalog.BoltOptions{Reserve: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{
		t: t, store: store, volumes: &fakeVolumes{node: node, store: store}, log: &safeBuffer{},
		migrations: &fakeMigrations{views: map[string]migration.View{}},
		peers:      &fakePeers{from: node, nodes: map[string]http.Handler{}, errs: map[string]error{}},
	}
	types, err := volume.New(volume.Options{Node: node, Store: store})
	if err != nil {
		t.Fatal(err)
	}
	r.Server, err = New(Options{
		Node: node, Store: store, Volumes: r.volumes, Types: types, Pools: types, Manager: types, Migrations: r.migrations, Peers: r.peers,
		Version: client.Version{Version: "1.2.3", Commit: "abc"},
		Status:  func(context.Context) client.Status { return client.Status{Node: node} },
		Config: func() []client.Setting {
			return []client.Setting{{Section: "DEFAULT", Key: "host", Value: node, Origin: "c:1"}, {Section: "peer:B", Key: "address", Value: "b:1", Origin: "default"}}
		},
		URIs:    func(e string) (string, string) { return "nbd+unix:///" + e + "?socket=/s", "nbds://h/" + e },
		Exports: func() []nbd.ExportStats { return r.exports },
		Rebuild: func(_ context.Context, dryRun bool) (client.RebuildAnswer, error) {
			verdict := map[bool]string{true: client.RebuildPossible, false: client.Rebuilt}[dryRun]
			return client.RebuildAnswer{Objects: []client.RebuildObject{{VolumeID: "v", Verdict: verdict}}}, nil
		},
		Backup: func() (*os.File, error) {
			path := store.Path() + ".backup"
			if err := store.Backup(path); err != nil {
				return nil, err
			}
			defer os.Remove(path)
			return os.Open(path)
		},
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "up 1\n") }),
		Logger:  slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// join makes two nodes peers of one another.
func join(a, b *rig) {
	a.peers.nodes[b.o.Node], b.peers.nodes[a.o.Node] = b.Handler(), a.Handler()
}

// put writes records into the store.
func (r *rig) put(records ...any) {
	r.t.Helper()
	err := r.store.Update(func(tx catalog.Tx) error {
		for _, record := range records {
			var err error
			switch v := record.(type) {
			case catalog.Volume:
				err = catalog.Volumes.Put(tx, v.ID, v)
			case catalog.Type:
				err = catalog.Types.Put(tx, v.ID, v)
			case catalog.Service:
				err = catalog.Services.Put(tx, v.Host, v)
			case catalog.Attachment:
				err = catalog.Attachments.Put(tx, v.ID, v)
			case catalog.Stub:
				err = catalog.Stubs.Put(tx, v.VolumeID, v)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// dump is every record of the store, byte for byte.
func (r *rig) dump() string {
	r.t.Helper()
	var b strings.Builder
	err := r.store.View(func(tx catalog.Tx) error {
		for _, table := range []string{
			catalog.Volumes.Name(), catalog.Types.Name(), catalog.Services.Name(), catalog.Attachments.Name(),
			catalog.Stubs.Name(), catalog.Migrations.Name(), catalog.Guests.Name(),
		} {
			err := tx.Each(table, func(k string, v []byte) error {
				fmt.Fprintf(&b, "%s %s %s\n", table, k, v)
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return b.String()
}

// ask makes a request as caller. body is JSON, or empty.
func (r *rig) ask(caller Caller, line, body string, headers ...string) *httptest.ResponseRecorder {
	method, target, _ := strings.Cut(line, " ")
	req := httptest.NewRequest(method, target, strings.NewReader(body))
	if body == "" {
		req = httptest.NewRequest(method, target, nil)
	} else {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	ctx := WithCaller(req.Context(), caller)
	if strings.Contains(target, "events") { // a stream shows what there is, and ends as if its client had left
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		cancel()
	}
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, req.WithContext(ctx))
	if !caller.Forwarded { // agents among themselves say more
		r.holdDescribed(line, w)
	}
	return w
}

// want asks as root, checks the status and decodes the answer into out unless nil.
func (r *rig) want(code int, line, body string, out any) *httptest.ResponseRecorder {
	r.t.Helper()
	w := r.ask(root, line, body)
	if w.Code != code {
		r.t.Fatalf("%s %s: %d %s, want %d", line, body, w.Code, w.Body, code)
	}
	if out != nil {
		if err := json.Unmarshal(w.Body.Bytes(), out); err != nil {
			r.t.Fatalf("%s: %v in %s", line, err, w.Body)
		}
	}
	return w
}

// refusal decodes an answer that is an error.
func refusal(t *testing.T, w *httptest.ResponseRecorder) *client.Error {
	t.Helper()
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("error with Content-Type %q: %s", got, w.Body)
	}
	return client.ParseError(w.Code, w.Body.Bytes())
}

func newVolume(change func(*catalog.Volume)) catalog.Volume {
	v := catalog.Volume{
		Volume: dataplane.Volume{ID: uuid.NewString(), Size: oneGiB}, DisplayName: "v", ProjectID: "admin", UserID: "admin",
		Host: "node1@fast#fast", Status: catalog.StatusAvailable, OwnerEpoch: 1, UseQuota: true,
		CreatedAt: time.Date(2026, 11, 23, 4, 23, 40, 189320000, time.UTC),
	}
	if change != nil {
		change(&v)
	}
	return v
}

// fakeVolumes is a volume manager over records alone. It has the guards that the API's answers depend on.
type fakeVolumes struct {
	node  string
	store catalog.Store
	mu    sync.Mutex
	// fail is what the next changing call answers.
	fail  error
	calls []string
	// trouble is that of all attachments; forced are those that were detached so.
	trouble error
	forced  []string
	// created is the last request.
	created volume.CreateRequest
	// hold, if set, is called by Create and Delete.
	hold func(ctx context.Context) error
}

func (f *fakeVolumes) call(format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
	return f.fail
}

func (f *fakeVolumes) Create(ctx context.Context, r volume.CreateRequest) (catalog.Volume, error) {
	if f.hold != nil {
		if err := f.hold(ctx); err != nil {
			return catalog.Volume{}, err
		}
	}
	if err := f.call("create"); err != nil {
		return catalog.Volume{}, err
	}
	f.created = r
	v := newVolume(func(v *catalog.Volume) {
		v.DisplayName, v.Description, v.ProjectID, v.UserID, v.Size = r.DisplayName, r.Description, r.ProjectID, r.UserID, r.Size
		v.Metadata, v.Status, v.Host = r.Metadata, catalog.StatusCreating, r.Host
		v.CreatedAt = time.Now()
	})
	return v, f.store.Update(func(tx catalog.Tx) error {
		types, err := catalog.Types.All(tx)
		for _, t := range types {
			if t.Name == r.Type {
				v.TypeID = t.ID
			}
		}
		return errors.Join(err, catalog.Volumes.Put(tx, v.ID, v))
	})
}

func (f *fakeVolumes) Delete(ctx context.Context, id string) error {
	if f.hold != nil {
		if err := f.hold(ctx); err != nil {
			return err
		}
	}
	if err := f.call("delete %s", id); err != nil {
		return err
	}
	v, err := f.Get(id)
	switch {
	case err != nil:
		return err
	case v.MigrationID != "":
		return fmt.Errorf("volume %s: %w", id, volume.ErrMigrating)
	case v.Status != catalog.StatusAvailable && v.Status != catalog.StatusError:
		return fmt.Errorf("volume %s: %w", id, volume.ErrStatus)
	}
	return f.store.Update(func(tx catalog.Tx) error { return catalog.Volumes.Delete(tx, id) })
}

func (f *fakeVolumes) Extend(_ context.Context, id string, size int64) (catalog.Volume, error) {
	if err := f.call("extend %s %d", id, size); err != nil {
		return catalog.Volume{}, err
	}
	return f.Get(id)
}

func (f *fakeVolumes) Edit(_ context.Context, id string, _ volume.Edit) (catalog.Volume, error) {
	if err := f.call("edit %s", id); err != nil {
		return catalog.Volume{}, err
	}
	return f.Get(id)
}

func (f *fakeVolumes) Get(id string) (v catalog.Volume, err error) {
	err = f.store.View(func(tx catalog.Tx) error {
		if v, err = catalog.Volumes.Get(tx, id); !errors.Is(err, catalog.ErrNotFound) {
			return err
		}
		s, err := catalog.Stubs.Get(tx, id)
		if errors.Is(err, catalog.ErrNotFound) {
			return fmt.Errorf("volume %s: %w", id, volume.ErrNotFound)
		}
		return errors.Join(err, &volume.MovedError{VolumeID: id, Node: s.Node, Epoch: s.Epoch})
	})
	return v, err
}

func (f *fakeVolumes) List(filter volume.Filter) (all []catalog.Volume, err error) {
	err = f.store.View(func(tx catalog.Tx) error {
		all, err = catalog.Volumes.All(tx)
		return err
	})
	return slices.DeleteFunc(all, func(v catalog.Volume) bool { return !filter.Temporary && !v.UseQuota }), err
}

func (f *fakeVolumes) Export(_ context.Context, id string, readOnly bool) (catalog.Attachment, error) {
	if err := f.call("export %s", id); err != nil {
		return catalog.Attachment{}, err
	}
	v, err := f.Get(id)
	if err != nil {
		return catalog.Attachment{}, err
	}
	if v.MigrationID != "" {
		return catalog.Attachment{}, fmt.Errorf("volume %s: %w", id, volume.ErrMigrating)
	}
	a := catalog.Attachment{ID: uuid.NewString(), VolumeID: id, Export: "x-" + id, ReadOnly: readOnly, CreatedAt: time.Now()}
	return a, f.store.Update(func(tx catalog.Tx) error { return catalog.Attachments.Put(tx, a.ID, a) })
}

func (f *fakeVolumes) Attach(ctx context.Context, id string, readOnly bool) (catalog.Attachment, error) {
	a, err := f.Export(ctx, id, readOnly)
	if err != nil {
		return a, err
	}
	a.Connections, a.Device = 1, "/dev/nbd0"
	return a, f.store.Update(func(tx catalog.Tx) error { return catalog.Attachments.Put(tx, a.ID, a) })
}

func (f *fakeVolumes) Trouble(a catalog.Attachment) error { return f.trouble }

func (f *fakeVolumes) Detach(_ context.Context, id string, force bool) error {
	if err := f.call("unexport %s", id); err != nil {
		return err
	}
	if force {
		f.mu.Lock()
		f.forced = append(f.forced, id)
		f.mu.Unlock()
	}
	return f.store.Update(func(tx catalog.Tx) error { return catalog.Attachments.Delete(tx, id) })
}

func (f *fakeVolumes) Attachments(id string) (all []catalog.Attachment) {
	_ = f.store.View(func(tx catalog.Tx) error {
		records, err := catalog.Attachments.All(tx)
		for _, a := range records {
			if id == "" || a.VolumeID == id {
				all = append(all, a)
			}
		}
		return err
	})
	return all
}

// fakeMigrations answers what a test put into it.
type fakeMigrations struct {
	mu    sync.Mutex
	views map[string]migration.View
	// accept, preempt and end are what Accept, Preempt, and Abort and Resolve do.
	accept  func(id string, r migration.Request) error
	preempt func(ctx context.Context, id string) error
	end     error
	calls   []string
	path    string
}

// set is how a migration is from now on.
func (f *fakeMigrations) set(v migration.View) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.views[v.ID] = v
}

func (f *fakeMigrations) call(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
}

func (f *fakeMigrations) Accept(_ context.Context, id string, r migration.Request) (catalog.Migration, error) {
	f.call("accept %s %s %t %t limits%s", id, r.Host, r.ForceHostCopy, r.LockVolume, inWords(r.Limit))
	if f.accept != nil {
		return catalog.Migration{}, f.accept(id, r)
	}
	return catalog.Migration{ID: "migration of " + id}, nil
}

func (f *fakeMigrations) Get(id string) (migration.View, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v, ok := f.views[id]
	if !ok {
		return v, fmt.Errorf("no migration %s: %w", id, migration.ErrNotFound)
	}
	return v, nil
}

func (f *fakeMigrations) List() (all []migration.View, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, v := range f.views {
		all = append(all, v)
	}
	return all, nil
}

func (f *fakeMigrations) Wait(ctx context.Context, id, since string) (migration.View, error) {
	v, err := f.Get(id)
	if err == nil && string(v.State) == since && !v.State.Final() {
		<-ctx.Done()
	}
	return v, err
}

func (f *fakeMigrations) Abort(_ context.Context, id, reason string) error {
	if _, err := f.Get(id); err != nil {
		return err
	}
	f.call("abort %s %s", id, reason)
	return f.end
}

func (f *fakeMigrations) Preempt(ctx context.Context, id, reason string) error {
	f.call("preempt %s %s", id, reason)
	if f.preempt != nil {
		return f.preempt(ctx, id)
	}
	return nil
}

func (f *fakeMigrations) Resolve(_ context.Context, id, owner string) error {
	if _, err := f.Get(id); err != nil {
		return err
	}
	f.call("resolve %s %s", id, owner)
	return f.end
}

// inWords is a change in words.
func inWords(c migration.LimitChange) (s string) {
	if c.BytesPerSecond != nil {
		s += fmt.Sprintf(" %d bytes", *c.BytesPerSecond)
	}
	if c.OperationsPerSecond != nil {
		s += fmt.Sprintf(" %d operations", *c.OperationsPerSecond)
	}
	if c.Class != "" {
		s += " " + string(c.Class)
	}
	return s
}

// limit is what a change of a limit is answered with.
func (f *fakeMigrations) limit(kind migration.LimitKind, name string, c migration.LimitChange) (migration.Limit, error) {
	l := migration.Limit{Kind: kind, Name: name, Class: c.Class, Migration: catalog.Migration{VolumeID: "v"}}
	f.call("limit %s %s%s", kind, name, inWords(c))
	return l, f.end
}

func (f *fakeMigrations) AllLimits() ([]migration.Limit, error) {
	stats := transfer.LimitStats{Bytes: 5, Operations: 6, Waited: 1500 * time.Millisecond}
	return []migration.Limit{
		{Kind: migration.LimitOfNode, Name: "x", Rate: transfer.Rate{Bytes: 3, Operations: 4}, Stats: stats},
		{Kind: migration.LimitOfMigration, Name: "m", Class: catalog.TransferBackground, Migration: catalog.Migration{VolumeID: "v"}},
	}, f.end
}

func (f *fakeMigrations) LimitNode(c migration.LimitChange) (migration.Limit, error) {
	return f.limit(migration.LimitOfNode, "node1", c)
}

func (f *fakeMigrations) LimitBackend(name string, c migration.LimitChange) (migration.Limit, error) {
	return f.limit(migration.LimitOfBackend, name, c)
}

func (f *fakeMigrations) LimitMigration(id string, c migration.LimitChange) (migration.Limit, error) {
	return f.limit(migration.LimitOfMigration, id, c)
}

func (f *fakeMigrations) Manifest(id string) (string, error) {
	if f.path == "" {
		return "", fmt.Errorf("volume %s has no manifest: %w", id, migration.ErrNotFound)
	}
	return f.path, nil
}

// fakePeers takes requests to other handlers of this process, as package peer does over the network.
type fakePeers struct {
	from  string
	mu    sync.Mutex
	nodes map[string]http.Handler
	// errs of nodes that do not answer; a nil one hangs until the time is over.
	errs  map[string]error
	calls []string
}

func (f *fakePeers) Nodes() []string {
	var all []string
	for n := range f.nodes {
		all = append(all, n)
	}
	for n := range f.errs {
		all = append(all, n)
	}
	return all
}

func (f *fakePeers) Forward(ctx context.Context, node string, r *http.Request, caller Caller) (*http.Response, error) {
	f.mu.Lock()
	f.calls = append(f.calls, node+" "+r.Method+" "+r.URL.RequestURI())
	f.mu.Unlock()
	if err, down := f.errs[node]; down {
		if err == nil {
			<-ctx.Done()
			err = ctx.Err()
		}
		return nil, err
	}
	if f.nodes[node] == nil {
		return nil, fmt.Errorf("no node %s", node)
	}
	caller.Forwarded, caller.Node = true, f.from
	w := httptest.NewRecorder()
	in := r.Clone(WithCaller(ctx, caller))
	if in.Body == nil {
		in.Body = http.NoBody
	}
	f.nodes[node].ServeHTTP(w, in)
	return w.Result(), nil
}

// safeBuffer is a log that several goroutines write.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
