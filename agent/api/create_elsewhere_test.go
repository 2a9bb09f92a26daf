package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/client"
)

const anywhere = `{"volume": {"size": 1, "name": "n"}}`

// withRoom says what GET /v1/status tells of the node's back end.
func (r *rig) withRoom(free int64) *rig {
	node := r.o.Node
	r.o.Status = func(context.Context) client.Status {
		return client.Status{Node: node, Backends: []client.BackendStatus{{Name: "b", FreeBytes: free}}}
	}
	return r
}

// TestCreateElsewhere: what no back end here can take is made by the peer with the most room that can.
func TestCreateElsewhere(t *testing.T) {
	a, b, c := newNode(t, "node1"), newNode(t, "node2").withRoom(5), newNode(t, "node3").withRoom(9)
	join(a, b)
	join(a, c)
	a.volumes.fail = fmt.Errorf("%w for this volume: node1@fast#fast: no", volume.ErrNoBackend)
	var v client.VolumeAnswer
	a.want(202, "POST /v3/volumes", anywhere, &v)
	if len(c.volumes.calls) != 1 || len(b.volumes.calls) != 0 || c.volumes.created.DisplayName != "n" {
		t.Errorf("node2 %v, node3 %v", b.volumes.calls, c.volumes.calls)
	}

	c.volumes.fail = fmt.Errorf("%w for 9 bytes: node3 is full", volume.ErrNoSpace)
	a.want(202, "POST /v3/volumes", anywhere, &v)
	if len(b.volumes.calls) != 1 {
		t.Errorf("node2 %v", b.volumes.calls)
	}

	b.volumes.fail = fmt.Errorf("volume type x: %w", volume.ErrInvalid)
	e := refusal(t, a.want(400, "POST /v3/volumes", anywhere, nil))
	for _, says := range []string{"No valid backend was found", "node1@fast#fast: no", "node node3: no room", "node node2: volume type x"} {
		if !strings.Contains(e.Message, says) {
			t.Errorf("%q does not say %q", e.Message, says)
		}
	}
}

// TestCreateStaysHere: a host that is named, a request that a peer forwarded, and other failures are answered here.
func TestCreateStaysHere(t *testing.T) {
	a, b := newNode(t, "node1"), newNode(t, "node2")
	join(a, b)
	full := fmt.Errorf("%w: full", volume.ErrNoSpace)
	for _, c := range []struct {
		caller Caller
		body   string
		err    error
		code   int
	}{
		{root, `{"volume": {"size": 1, "cvold:host": "node1@fast#fast"}}`, full, 413},
		{peerRoot, anywhere, full, 413},
		{root, anywhere, fmt.Errorf("x: %w", volume.ErrInvalid), 400},
		{root, anywhere, errors.New("disk on fire"), 500},
	} {
		a.volumes.fail = c.err
		if w := a.ask(c.caller, "POST /v3/volumes", c.body); w.Code != c.code {
			t.Errorf("%s: %d %s", c.body, w.Code, w.Body)
		}
	}
	if len(b.volumes.calls) > 0 {
		t.Errorf("node2 was asked: %v", b.volumes.calls)
	}
}

// TestCreateThatErrsAtAPeer: a peer that does not plainly refuse may have made the volume: nobody else is asked.
func TestCreateThatErrsAtAPeer(t *testing.T) {
	a, b, c := newNode(t, "node1"), newNode(t, "node2").withRoom(5), newNode(t, "node3").withRoom(9)
	join(a, b)
	join(a, c)
	a.volumes.fail = volume.ErrNoBackend
	c.volumes.hold = func(context.Context) error { return errors.New("disk on fire") }
	a.want(500, "POST /v3/volumes", anywhere, nil)
	if len(b.volumes.calls) > 0 || !slices.Contains(a.peers.calls, "node3 POST /v3/volumes") {
		t.Errorf("node2 %v, asked %v", b.volumes.calls, a.peers.calls)
	}
}
