package api

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/client"
)

// sickPools has back ends that do not answer.
type sickPools struct {
	Pools
	sick map[string]bool
}

func (p sickPools) Capabilities(ctx context.Context, b volume.Backend) (volume.Capabilities, error) {
	c, err := p.Pools.Capabilities(ctx, b)
	if p.sick[b.Name] {
		err = errors.New("input/output error")
	}
	return c, err
}

func TestHealth(t *testing.T) {
	for _, c := range []struct {
		sick   []string
		code   int
		status string
	}{
		{nil, 200, client.HealthOK},
		{[]string{"fast"}, 200, client.HealthDegraded},
		{[]string{"fast", "slow"}, 503, client.HealthFailed},
	} {
		r := withManager(t)
		sick := map[string]bool{}
		for _, name := range c.sick {
			sick[name] = true
		}
		r.o.Pools = sickPools{r.o.Pools, sick}
		var h client.Health
		r.want(c.code, "GET /v1/health", "", &h)
		if h.Status != c.status || len(h.Checks) != 3 || h.Checks[0].Name != "catalog" || !h.Checks[0].OK {
			t.Errorf("%v: %+v", c.sick, h)
		}
		w := r.ask(nobody, "GET /v1/health", "")
		if w.Code != c.code || strings.Contains(w.Body.String(), "checks") || !strings.Contains(w.Body.String(), c.status) {
			t.Errorf("%v: %d %s", c.sick, w.Code, w.Body)
		}
	}
}

// failedStore answers nothing any more.
type failedStore struct{ catalog.Store }

func (failedStore) View(func(catalog.Tx) error) error { return catalog.ErrFailed }

// TestHealthOfAFailedCatalog: without its catalog the agent has failed.
func TestHealthOfAFailedCatalog(t *testing.T) {
	r := withManager(t)
	r.o.Store = failedStore{r.store}
	var h client.Health
	r.want(503, "GET /v1/health", "", &h)
	if h.Status != client.HealthFailed || h.Checks[0].OK || h.Checks[0].Message == "" {
		t.Errorf("%+v", h)
	}
}

func TestBackendsAndPeers(t *testing.T) {
	r := newRig(t)
	r.o.Status = func(context.Context) client.Status {
		return client.Status{
			Backends: []client.BackendStatus{{Name: "fast", Host: "node1@fast#fast"}},
			Peers:    []client.PeerStatus{{Node: "node2", Reachable: true}},
		}
	}
	var b client.BackendsAnswer
	r.want(200, "GET /v1/backends", "", &b)
	var one client.BackendAnswer
	r.want(200, "GET /v1/backends/fast", "", &one)
	r.want(200, "GET /v1/backends/node1@fast%23fast", "", &one)
	var p client.PeersAnswer
	r.want(200, "GET /v1/peers", "", &p)
	var peer client.PeerAnswer
	r.want(200, "GET /v1/peers/node2", "", &peer)
	if len(b.Backends) != 1 || one.Backend.Name != "fast" || len(p.Peers) != 1 || peer.Peer.Node != "node2" {
		t.Errorf("%+v %+v %+v %+v", b, one, p, peer)
	}
	r.want(404, "GET /v1/backends/none", "", nil)
	r.want(404, "GET /v1/peers/none", "", nil)
}
