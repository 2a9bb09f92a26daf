package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/cvold/cvold/agent/api"
	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/agent/peer"
)

// forwarder takes requests of the API to other agents.
type forwarder struct{ peers *peer.Peers }

// Forward is api.Forwarder's.
func (f forwarder) Forward(ctx context.Context, node string, r *http.Request, caller api.Caller) (*http.Response, error) {
	client, err := f.peers.Peer(node)
	if err != nil {
		return nil, err
	}
	who, err := json.Marshal(caller)
	if err != nil {
		return nil, fmt.Errorf("forward to node %s: %w", node, err)
	}
	return client.Forward(ctx, r, who)
}

// Nodes is api.Forwarder's.
func (f forwarder) Nodes() []string { return f.peers.Nodes() }

// forwarded answers a request that a peer forwards for caller, whom the peer judged.
func (a *Agent) forwarded(w http.ResponseWriter, r *http.Request, node string, caller []byte) {
	var c api.Caller
	if err := json.Unmarshal(caller, &c); err != nil {
		http.Error(w, "forwarded request without a caller", http.StatusBadRequest)
		return
	}
	c.Forwarded, c.Node = true, node
	a.api.Handler().ServeHTTP(w, r.WithContext(api.WithCaller(r.Context(), c)))
}

// gate keeps the calls of peers out until the agent has settled what it owns: before that it says only who it is and
// what became of a migration.
type gate struct {
	migration.Peer
	opened atomic.Bool
}

func newGate(p migration.Peer) *gate { return &gate{Peer: p} }

func (g *gate) open() { g.opened.Store(true) }

// pass is nil once the gate is open.
func (g *gate) pass() error {
	if g.opened.Load() {
		return nil
	}
	return fmt.Errorf("the agent is starting: %w", migration.ErrBusy)
}

// Prepare and the methods after it wait for the gate.
func (g *gate) Prepare(ctx context.Context, r migration.PrepareRequest) (reply migration.PrepareReply, err error) {
	if err := g.pass(); err != nil {
		return reply, err
	}
	return g.Peer.Prepare(ctx, r)
}

// Digests waits for the gate.
func (g *gate) Digests(ctx context.Context, r migration.DigestsRequest) (reply migration.DigestsReply, err error) {
	if err := g.pass(); err != nil {
		return reply, err
	}
	return g.Peer.Digests(ctx, r)
}

// Ready waits for the gate.
func (g *gate) Ready(ctx context.Context, r migration.ReadyRequest) (reply migration.ReadyReply, err error) {
	if err := g.pass(); err != nil {
		return reply, err
	}
	return g.Peer.Ready(ctx, r)
}

// Commit waits for the gate.
func (g *gate) Commit(ctx context.Context, t migration.Token) error {
	return g.tell(ctx, t, g.Peer.Commit)
}

// UpdateMigrated waits for the gate.
func (g *gate) UpdateMigrated(ctx context.Context, t migration.Token) error {
	return g.tell(ctx, t, g.Peer.UpdateMigrated)
}

// Abort waits for the gate.
func (g *gate) Abort(ctx context.Context, t migration.Token) error {
	return g.tell(ctx, t, g.Peer.Abort)
}

// Forget waits for the gate.
func (g *gate) Forget(ctx context.Context, t migration.Token) error {
	return g.tell(ctx, t, g.Peer.Forget)
}

func (g *gate) tell(ctx context.Context, t migration.Token, call func(context.Context, migration.Token) error) error {
	if err := g.pass(); err != nil {
		return err
	}
	return call(ctx, t)
}
