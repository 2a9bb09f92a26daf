package client

import (
	"context"
	"net/http"
)

// What GET /v1/health says.
const (
	// HealthOK: all works.
	HealthOK = "ok"
	// HealthDegraded: some back ends do not answer.
	HealthDegraded = "degraded"
	// HealthFailed: the catalog or all back ends do not answer. The HTTP status is 503.
	HealthFailed = "failed"
)

// Health answers GET /v1/health. Checks are shown to admins only.
type Health struct {
	Status string        `json:"status"`
	Checks []HealthCheck `json:"checks,omitempty"`
}

// HealthCheck is one thing that was looked at.
type HealthCheck struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Message says what is wrong.
	Message string `json:"message,omitempty"`
}

// BackendsAnswer answers GET /v1/backends.
type BackendsAnswer struct {
	Backends []BackendStatus `json:"backends"`
}

// BackendAnswer answers GET /v1/backends/NAME.
type BackendAnswer struct {
	Backend BackendStatus `json:"backend"`
}

// PeersAnswer answers GET /v1/peers.
type PeersAnswer struct {
	Peers []PeerStatus `json:"peers"`
}

// PeerAnswer answers GET /v1/peers/NODE.
type PeerAnswer struct {
	Peer PeerStatus `json:"peer"`
}

// Health asks the agent whether it can serve volumes. One that says that it cannot is no error.
func (c *Client) Health(ctx context.Context) (Health, error) {
	var answer Health
	err := c.do(ctx, call{
		method: http.MethodGet, path: []string{"v1", "health"}, out: &answer, also: http.StatusServiceUnavailable,
	})
	return answer, err
}

// Backends asks for the back ends of the agent.
func (c *Client) Backends(ctx context.Context) ([]BackendStatus, error) {
	var answer BackendsAnswer
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "backends"}, out: &answer})
	return answer.Backends, err
}

// Peers asks for the other agents that the agent knows.
func (c *Client) Peers(ctx context.Context) ([]PeerStatus, error) {
	var answer PeersAnswer
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "peers"}, out: &answer})
	return answer.Peers, err
}
