package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/cvold/cvold/agent/migration"
)

const (
	// dialTimeout bounds the connection and the TLS handshake.
	dialTimeout = 10 * time.Second
	// DefaultTimeout bounds a call that writes records, drains or creates objects.
	DefaultTimeout = 2 * time.Minute
	// digestsTimeout bounds a call that reads a batch back from a slow medium.
	digestsTimeout = 10 * time.Minute
	// keepIdle, keepEvery and keepCount find a link that was cut while a peer works in silence.
	keepIdle, keepEvery, keepCount = 10 * time.Second, 5 * time.Second, 3
)

// Peers are the other agents of the configuration. It is safe for concurrent use; Close it at the end.
type Peers struct {
	clients map[string]*Client
}

// NewPeers makes a client for each node. timeout bounds each call but Digests; 0 means DefaultTimeout. tlsFor gives the configuration that presents this node's certificate and
// accepts only the node's own.
func NewPeers(addresses map[string]string, timeout time.Duration, tlsFor func(node string) *tls.Config) *Peers {
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	p := &Peers{clients: map[string]*Client{}}
	for node, address := range addresses {
		p.clients[node] = newClient(node, address, timeout, tlsFor(node))
	}
	return p
}

// Peer is the client of a node; migration.ErrInvalid if it is not configured.
func (p *Peers) Peer(node string) (*Client, error) {
	c := p.clients[node]
	if c == nil {
		return nil, fmt.Errorf("%w: no [peer:%s] in the configuration", migration.ErrInvalid, node)
	}
	return c, nil
}

// Nodes are the configured nodes, in order.
func (p *Peers) Nodes() []string {
	nodes := make([]string, 0, len(p.clients))
	for node := range p.clients {
		nodes = append(nodes, node)
	}
	slices.Sort(nodes)
	return nodes
}

// Close drops idle connections.
func (p *Peers) Close() {
	for _, c := range p.clients {
		c.http.CloseIdleConnections()
	}
}

// Client calls one agent. It is a migration.Peer. It never repeats a call by itself: the caller knows what may be.
type Client struct {
	node, address string
	timeout       time.Duration
	http          *http.Client
}

var _ migration.Peer = (*Client)(nil)

func newClient(node, address string, timeout time.Duration, config *tls.Config) *Client {
	dialer := &net.Dialer{
		Timeout:         dialTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepIdle, Interval: keepEvery, Count: keepCount},
	}
	return &Client{node: node, address: address, timeout: timeout, http: &http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSClientConfig: config, TLSHandshakeTimeout: dialTimeout,
			MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Address is host:port of the node's agent.
func (c *Client) Address() string { return c.address }

// Describe and the methods after it are the calls of migration.Peer.
func (c *Client) Describe(ctx context.Context, r migration.DescribeRequest) (d migration.Description, err error) {
	err = c.call(ctx, "describe", c.timeout, r, &d)
	return d, err
}

// Prepare is P0.
func (c *Client) Prepare(ctx context.Context, r migration.PrepareRequest) (reply migration.PrepareReply, err error) {
	err = c.call(ctx, "prepare", c.timeout, r, &reply)
	return reply, err
}

// Digests reads chunks back.
func (c *Client) Digests(ctx context.Context, r migration.DigestsRequest) (reply migration.DigestsReply, err error) {
	err = c.call(ctx, "digests", max(digestsTimeout, c.timeout), r, &reply)
	return reply, err
}

// Ready is P1.
func (c *Client) Ready(ctx context.Context, r migration.ReadyRequest) (reply migration.ReadyReply, err error) {
	err = c.call(ctx, "ready", c.timeout, r, &reply)
	return reply, err
}

// Commit is P3.
func (c *Client) Commit(ctx context.Context, t migration.Token) error {
	return c.call(ctx, "commit", c.timeout, t, &struct{}{})
}

// UpdateMigrated renames the target.
func (c *Client) UpdateMigrated(ctx context.Context, t migration.Token) error {
	return c.call(ctx, "update-migrated", c.timeout, t, &struct{}{})
}

// Abort ends a migration before P2.
func (c *Client) Abort(ctx context.Context, t migration.Token) error {
	return c.call(ctx, "abort", c.timeout, t, &struct{}{})
}

// Outcome asks what became of a migration.
func (c *Client) Outcome(ctx context.Context, t migration.Token) (reply migration.OutcomeReply, err error) {
	err = c.call(ctx, "outcome", c.timeout, t, &reply)
	return reply, err
}

// Forget closes the records.
func (c *Client) Forget(ctx context.Context, t migration.Token) error {
	return c.call(ctx, "forget", c.timeout, t, &struct{}{})
}

// call makes one call. An error that is none of package migration's says nothing on whether it was carried out.
func (c *Client) call(ctx context.Context, name string, timeout time.Duration, request, reply any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+c.address+prefix+name, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("call node %s: %w", c.node, err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.GetBody = nil // the transport must not send a call twice
	answer, err := c.http.Do(r)
	if err != nil {
		return fmt.Errorf("call node %s: %w", c.node, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errorOf(c.node, answer.StatusCode, answer.Body)
	}
	if err := decode(answer.Body, maxReply, reply); err != nil {
		return fmt.Errorf("node %s: %w", c.node, err)
	}
	return nil
}

// Forward sends a request of the API (its method, path, query, body, and all headers that it has) to the node, to be
// answered for caller, which is JSON. The caller closes the answer's body.
func (c *Client) Forward(ctx context.Context, r *http.Request, caller []byte) (*http.Response, error) {
	u := *r.URL
	u.Scheme, u.Host, u.Path, u.RawPath = "https", c.address, forwardPrefix+r.URL.Path, ""
	var body io.Reader
	if r.Body != nil && r.Body != http.NoBody {
		body = io.LimitReader(r.Body, maxForwarded)
	}
	out, err := http.NewRequestWithContext(ctx, r.Method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("forward to node %s: %w", c.node, err)
	}
	out.Header = r.Header.Clone()
	out.Header.Set(callerHeader, string(caller))
	answer, err := c.http.Do(out)
	if err != nil {
		return nil, fmt.Errorf("forward to node %s: %w", c.node, err)
	}
	return answer, nil
}
