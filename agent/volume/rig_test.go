package volume

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/file"
	"github.com/cvold/cvold/nbd"
)

const mib = 1 << 20

// rig is an agent's lower half: a real store, two file back ends, a real NBD server on a unix socket, and the manager.
// It can be stopped and started again over the same directories.
type rig struct {
	*Manager
	t       *testing.T
	dir     string
	options Options // what start completes
	wrap    func(dataplane.Driver) dataplane.Driver
	wrapDB  func(catalog.Store) catalog.Store

	store   catalog.Store
	drivers []dataplane.Driver
	server  *nbd.Server
	served  chan error
}

func newRig(t *testing.T) *rig {
	r := prepareRig(t)
	r.start()
	return r
}

// prepareRig makes a rig that is not started.
func prepareRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir()}
	r.options = Options{Node: "node", CloseTimeout: 10 * time.Second}
	for _, name := range []string{"fast", "slow"} {
		check(t, os.Mkdir(filepath.Join(r.dir, name), 0o700))
	}
	t.Cleanup(func() {
		if r.Manager != nil {
			r.stop()
		}
	})
	return r
}

func (r *rig) socket() string { return filepath.Join(r.dir, "nbd.sock") }

// start boots and runs Manager.Start.
func (r *rig) start() {
	r.t.Helper()
	r.boot()
	check(r.t, r.Start(r.t.Context()))
}

// boot opens everything.
func (r *rig) boot() {
	r.t.Helper()
	store, err := catalog.OpenBolt(filepath.Join(r.dir, "db"), catalog.BoltOptions{Reserve: mib})
	check(r.t, err)
	r.store = store
	o := r.options
	o.Store = store
	if r.wrapDB != nil {
		o.Store = r.wrapDB(store)
	}
	for i, name := range []string{"fast", "slow"} {
		d, err := file.New(file.Config{Name: name, Directory: filepath.Join(r.dir, name)})
		check(r.t, err)
		r.drivers = append(r.drivers, d)
		b := Backend{Name: name, BackendName: []string{"FAST", "SLOW"}[i], Driver: d}
		if r.wrap != nil {
			b.Driver = r.wrap(d)
		}
		o.Backends = append(o.Backends, b)
	}
	r.serve()
	o.NBD = r.server
	r.Manager, err = New(o)
	check(r.t, err)
}

func (r *rig) serve() {
	r.server = nbd.NewServer(nbd.ServerOptions{})
	l, err := net.Listen("unix", r.socket())
	check(r.t, err)
	r.served = make(chan error, 1)
	go func() { r.served <- r.server.Serve(l, nbd.ListenOptions{}) }()
}

// stop closes everything in order; what is closed already may say so.
func (r *rig) stop() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := r.Manager.Close(ctx); err != nil && !errors.Is(err, ErrClosed) {
		r.t.Errorf("close the manager: %v", err)
	}
	r.closeRest(ctx)
}

// closeRest closes what is not the manager's.
func (r *rig) closeRest(ctx context.Context) {
	r.t.Helper()
	check(r.t, r.server.Close(ctx))
	check(r.t, <-r.served)
	for _, d := range r.drivers {
		check(r.t, d.Close())
	}
	check(r.t, r.store.Close())
	r.Manager, r.drivers = nil, nil
}

func (r *rig) restart() {
	r.t.Helper()
	r.stop()
	r.start()
}

// create makes a volume of 1 MiB on the back end fast.
func (r *rig) create(name string) catalog.Volume {
	r.t.Helper()
	v, err := r.Create(r.t.Context(), CreateRequest{DisplayName: name, Host: "fast", Size: mib})
	check(r.t, err)
	return v
}

// edit rewrites a record behind the manager's back, as a migration does.
func (r *rig) edit(id string, fn func(v *catalog.Volume)) {
	r.t.Helper()
	check(r.t, r.store.Update(func(tx catalog.Tx) error {
		v, err := catalog.Volumes.Get(tx, id)
		if err != nil {
			return err
		}
		fn(&v)
		return catalog.Volumes.Put(tx, id, v)
	}))
}

// put writes records.
func put[T any](r *rig, table catalog.Table[T], key string, record T) {
	r.t.Helper()
	check(r.t, r.store.Update(func(tx catalog.Tx) error { return table.Put(tx, key, record) }))
}

// get is a volume's record as the manager tells it.
func (r *rig) get(id string) catalog.Volume {
	r.t.Helper()
	v, err := r.Get(id)
	check(r.t, err)
	return v
}

// status fails the test if a volume has another one.
func (r *rig) status(id string, want catalog.Status) {
	r.t.Helper()
	if v := r.get(id); v.Status != want {
		r.t.Errorf("volume is %s (%s), want %s", v.Status, v.StatusReason, want)
	}
}

// objects are the ids of the volumes whose objects there are, sorted, read from the real drivers.
func (r *rig) objects() []string {
	r.t.Helper()
	ids := []string{}
	for _, d := range r.drivers {
		check(r.t, d.List(context.Background(), func(o dataplane.Object) error {
			ids = append(ids, o.Volume.ID)
			return nil
		}))
	}
	slices.Sort(ids)
	return ids
}

// dial opens an export as a client.
func (r *rig) dial(export string) dataplane.Device {
	r.t.Helper()
	d, err := nbd.Dial(r.t.Context(), nbd.DialOptions{Network: "unix", Address: r.socket(), Export: export})
	check(r.t, err)
	r.t.Cleanup(func() { _ = d.Close() })
	return d
}

// refuses says whether an export cannot be opened.
func (r *rig) refuses(export string) bool {
	d, err := nbd.Dial(r.t.Context(), nbd.DialOptions{Network: "unix", Address: r.socket(), Export: export})
	if err == nil {
		_ = d.Close()
	}
	return err != nil
}

// open for a view.
func (r *rig) view(id, name string, readOnly bool) *Handle {
	r.t.Helper()
	h, err := r.Open(r.t.Context(), id, User{UserView, name}, dataplane.Mode{ReadOnly: readOnly})
	check(r.t, err)
	return h
}

// check fails the test on an error.
func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wants fails the test unless err is want.
func wants(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}
