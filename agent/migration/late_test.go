package migration_test

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/dataplane"
)

// errLost is a reply that did not arrive.
var errLost = errors.New("the reply was lost")

// wire is a peer whose replies can be lost, and that remembers what it was asked.
type wire struct {
	migration.Peer
	mu      sync.Mutex
	lose    string
	prepare migration.PrepareRequest
	ready   migration.ReadyRequest
}

// sent loses the reply of the call, if it is the one to be lost, once.
func (p *wire) sent(name string, err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil && p.lose == name {
		p.lose = ""
		return errLost
	}
	return err
}

func (p *wire) Prepare(ctx context.Context, r migration.PrepareRequest) (migration.PrepareReply, error) {
	reply, err := p.Peer.Prepare(ctx, r)
	p.mu.Lock()
	p.prepare = r
	p.mu.Unlock()
	return reply, p.sent("Prepare", err)
}

func (p *wire) Digests(ctx context.Context, r migration.DigestsRequest) (migration.DigestsReply, error) {
	reply, err := p.Peer.Digests(ctx, r)
	return reply, p.sent("Digests", err)
}

func (p *wire) Ready(ctx context.Context, r migration.ReadyRequest) (migration.ReadyReply, error) {
	reply, err := p.Peer.Ready(ctx, r)
	p.mu.Lock()
	p.ready = r
	p.mu.Unlock()
	return reply, p.sent("Ready", err)
}

func (p *wire) Commit(ctx context.Context, t migration.Token) error {
	return p.sent("Commit", p.Peer.Commit(ctx, t))
}

func (p *wire) UpdateMigrated(ctx context.Context, t migration.Token) error {
	return p.sent("UpdateMigrated", p.Peer.UpdateMigrated(ctx, t))
}

func (p *wire) Abort(ctx context.Context, t migration.Token) error {
	return p.sent("Abort", p.Peer.Abort(ctx, t))
}

func (p *wire) Forget(ctx context.Context, t migration.Token) error {
	return p.sent("Forget", p.Peer.Forget(ctx, t))
}

// tap makes the node's calls to others go through a wire.
func (n *testNode) tap(lose string) *wire {
	w := &wire{lose: lose}
	n.wrapPeer = func(p migration.Peer) migration.Peer { w.Peer = p; return w }
	n.restart()
	_, err := n.peerOf("b")
	n.check(err)
	return w
}

func TestLostReplies(t *testing.T) {
	for _, call := range []string{"Prepare", "Digests", "Ready", "Commit", "UpdateMigrated", "Forget"} {
		t.Run(call, func(t *testing.T) {
			w := newWorld(t, "a", "b")
			a := w.nodes["a"]
			p := a.tap(call)
			data := content(30, 3<<20)
			v := a.create(data)
			if m := a.final(a.accept(v.ID, migration.Request{Host: toB}).ID); m.State != catalog.StateSucceeded || p.lose != "" {
				t.Errorf("%s, %q not lost: %s", m.State, p.lose, m.Reason)
			}
			w.clean(v.ID, data)
		})
	}
}

// TestLateCalls: calls that come once more after the end change nothing, also when the volume is not there any more.
func TestLateCalls(t *testing.T) {
	w := newWorld(t, "a", "b")
	a, b := w.nodes["a"], w.nodes["b"]
	p := a.tap("")
	data := content(31, 2<<20)
	v := a.create(data)
	a.final(a.accept(v.ID, migration.Request{Host: toB}).ID)
	late := func() {
		t.Helper()
		ctx := context.Background()
		if _, err := p.Peer.Prepare(ctx, p.prepare); !errors.Is(err, migration.ErrAborted) {
			t.Errorf("late Prepare: %v", err)
		}
		if _, err := p.Peer.Ready(ctx, p.ready); !errors.Is(err, migration.ErrUnknown) {
			t.Errorf("late Ready: %v", err)
		}
		if err := p.Peer.Commit(ctx, p.ready.Token); !errors.Is(err, migration.ErrUnknown) {
			t.Errorf("late Commit: %v", err)
		}
		a.check(p.Peer.Forget(ctx, p.ready.Token))
	}
	late()
	w.clean(v.ID, data)
	b.check(b.volumes.Delete(context.Background(), v.ID))
	late()
	if n := b.files("volumes"); n != 0 {
		t.Errorf("%d objects are left over", n)
	}
	ctx := context.Background()
	b.check(p.Peer.Abort(ctx, p.prepare.Token)) // an id not known any more: a tombstone, until Forget
	if _, err := p.Peer.Prepare(ctx, p.prepare); !errors.Is(err, migration.ErrAborted) {
		t.Errorf("Prepare of a tombstone: %v", err)
	}
	b.check(p.Peer.Forget(ctx, p.prepare.Token))
}

// TestLatePrepareDoesNotEndReady: the Prepare of the attempt that is ready, delivered again, would take the target out
// of ready behind the source's back.
func TestLatePrepareDoesNotEndReady(t *testing.T) {
	w := newWorld(t, "a", "b")
	a, b := w.nodes["a"], w.nodes["b"]
	p := a.tap("")
	data := content(32, 2<<20)
	v := a.create(data)
	reached, release := w.hold("a", "catalog: point of no return")
	m := a.accept(v.ID, migration.Request{Host: toB})
	<-reached
	if _, err := p.Peer.Prepare(context.Background(), p.prepare); !errors.Is(err, migration.ErrStale) {
		t.Errorf("late Prepare: %v", err)
	}
	if g := b.guest(m.ID); g.State != catalog.GuestReady {
		t.Errorf("guest is %s", g.State)
	}
	release()
	if m = a.final(m.ID); m.State != catalog.StateSucceeded {
		t.Errorf("%s: %s", m.State, m.Reason)
	}
	w.clean(v.ID, data)
}

// guest is the node's record of a migration that comes to it; the zero value if there is none.
func (n *testNode) guest(id string) catalog.Guest {
	n.w.t.Helper()
	_, _, guests := n.records()
	for _, g := range guests {
		if g.MigrationID == id {
			return g
		}
	}
	return catalog.Guest{}
}

// handedOver brings a migration past the point of no return, with the target in ready and both nodes down.
func handedOver(t *testing.T, data []byte) (w *world, v catalog.Volume, m catalog.Migration) {
	w = newWorld(t, "a", "b")
	a, b := w.nodes["a"], w.nodes["b"]
	v = a.create(data)
	reached, release := w.hold("a", "catalog: point of no return")
	m = a.accept(v.ID, migration.Request{Host: toB})
	<-reached
	b.crash() // first, or it would ask and hear of it
	b.stop()
	release()
	w.eventually("the point of no return is passed", func() bool {
		_, migrations, _ := a.records()
		return migrations[0].State == catalog.StateCommitting
	})
	a.crash()
	a.stop()
	return w, v, m
}

// TestResolveAtTheSource: the target's node is gone for good, the operator takes the volume back, and what the target's
// node has when it comes back after all is not the volume any more.
func TestResolveAtTheSource(t *testing.T) {
	data := content(33, 2<<20)
	w, v, m := handedOver(t, data)
	a, b := w.nodes["a"], w.nodes["b"]
	a.start()
	if err := a.engine.Resolve(context.Background(), m.ID, "c"); !errors.Is(err, migration.ErrInvalid) {
		t.Errorf("a third node: %v", err)
	}
	if _, err := a.volumes.Get(v.ID); !errors.Is(err, volume.ErrMoved) {
		t.Errorf("before: %v", err)
	}
	a.check(a.engine.Resolve(context.Background(), m.ID, "a"))
	now, err := a.volumes.Get(v.ID)
	a.check(err)
	if now.OwnerEpoch != v.OwnerEpoch+2 || now.Status != catalog.StatusAvailable {
		t.Errorf("taken back as %+v", now)
	}
	b.start()
	w.eventually("the target gives up", func() bool { return b.guest(m.ID).State == catalog.GuestAborted })
	if _, err := b.volumes.Get(v.ID); !errors.Is(err, volume.ErrNotFound) {
		t.Errorf("the target owns it: %v", err)
	}
	if a.files("migrations")+b.files("volumes") != 0 {
		t.Error("something is left over")
	}
	if string(a.read(v.ID)) != string(data) {
		t.Error("the bytes differ")
	}
}

// TestOlderCatalogIsInDoubt: the target's catalog was put back to before ready, and the source has passed the point of
// no return: the target's object may be the only copy and is kept.
func TestOlderCatalogIsInDoubt(t *testing.T) {
	data := content(34, 2<<20)
	w, v, m := handedOver(t, data)
	a, b := w.nodes["a"], w.nodes["b"]
	b.edit(func(tx catalog.Tx) error {
		g, err := catalog.Guests.Get(tx, m.ID)
		g.State, g.Record = catalog.GuestPrepared, nil
		return errors.Join(err, catalog.Guests.Put(tx, m.ID, g))
	})
	b.start()
	a.start()
	w.eventually("the target is in doubt", func() bool { return b.guest(m.ID).State == catalog.GuestInDoubt })
	if b.files("volumes") != 1 {
		t.Error("the target's object is gone")
	}
	a.check(a.engine.Resolve(context.Background(), m.ID, "a"))
	a.final(m.ID)
	if string(a.read(v.ID)) != string(data) {
		t.Error("the bytes differ")
	}
}

// edit changes the catalog of a node that is down.
func (n *testNode) edit(fn func(catalog.Tx) error) {
	n.w.t.Helper()
	store, err := catalog.OpenBolt(n.dir+"/cvold.db", catalog.BoltOptions{})
	n.check(err)
	n.check(store.Update(fn))
	n.check(store.Close())
}

// TestInDoubt: the source comes back with another catalog. The target serves nothing until the operator says who owns.
func TestInDoubt(t *testing.T) {
	for _, owner := range []string{"a", "b"} {
		t.Run("owner "+owner, func(t *testing.T) {
			data := content(35, 2<<20)
			w, v, m := handedOver(t, data)
			a, b := w.nodes["a"], w.nodes["b"]
			a.check(os.Remove(a.dir + "/cvold.db"))
			b.start()
			a.start()
			w.eventually("the target is in doubt", func() bool { return b.guest(m.ID).State == catalog.GuestInDoubt })
			if _, err := b.volumes.Open(context.Background(), v.ID, volume.User{Kind: volume.UserView, Name: "v"}, dataplane.Mode{ReadOnly: true}); !errors.Is(err, volume.ErrNotFound) {
				t.Errorf("served in doubt: %v", err)
			}
			if err := b.engine.Resolve(context.Background(), m.ID, "c"); !errors.Is(err, migration.ErrInvalid) {
				t.Errorf("a third node: %v", err)
			}
			b.check(b.engine.Resolve(context.Background(), m.ID, owner))
			if owner == "b" {
				if string(b.read(v.ID)) != string(data) {
					t.Error("the bytes differ")
				}
			} else if n := b.files("volumes"); n != 0 || b.guest(m.ID).State != catalog.GuestAborted {
				t.Errorf("%d objects, guest %s", n, b.guest(m.ID).State)
			}
		})
	}
}
