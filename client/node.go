package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Version answers GET /v1/version.
type Version struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	// API is the version of the agent's own dialect: "v1".
	API     string `json:"api"`
	Node    string `json:"node"`
	StoreID string `json:"store_id"`
}

// Status answers GET /v1/status.
type Status struct {
	Node      string          `json:"node"`
	StoreID   string          `json:"store_id"`
	StartedAt time.Time       `json:"started_at"`
	Backends  []BackendStatus `json:"backends"`
	Peers     []PeerStatus    `json:"peers"`
	NBD       NBDStatus       `json:"nbd"`
	// View is where the FUSE view is mounted; empty if it is not.
	View string `json:"view"`
	// Warnings are sentences on what the operator should see to.
	Warnings []string `json:"warnings"`
}

// BackendStatus is one back end of the node.
type BackendStatus struct {
	// Name is the section of the configuration.
	Name string `json:"name"`
	// Host is node@backend#pool.
	Host        string `json:"host"`
	BackendName string `json:"volume_backend_name"`
	Driver      string `json:"driver"`
	TotalBytes  int64  `json:"total_bytes"`
	FreeBytes   int64  `json:"free_bytes"`
	// Error says why the back end cannot be used now, or that this agent has not its driver; empty if it can be used.
	Error string `json:"error,omitempty"`
}

// PeerStatus is another agent as this one sees it.
type PeerStatus struct {
	Node      string `json:"node"`
	Address   string `json:"address"`
	Reachable bool   `json:"reachable"`
	// Error says why it cannot be reached.
	Error string `json:"error,omitempty"`
}

// NBDStatus is where this agent's NBD server listens.
type NBDStatus struct {
	Addresses []string `json:"addresses"`
}

// ConfigAnswer answers GET /v1/config.
type ConfigAnswer struct {
	Settings []Setting `json:"settings"`
}

// Setting is one option of a running agent's configuration, as it counts.
type Setting struct {
	Section string `json:"section"`
	Key     string `json:"key"`
	// Value is *** for a secret.
	Value string `json:"value"`
	// Origin is FILE:LINE, or "default".
	Origin string `json:"origin"`
}

// Version asks the agent who and what it is.
func (c *Client) Version(ctx context.Context) (Version, error) {
	var answer Version
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "version"}, out: &answer})
	return answer, err
}

// Status asks for the agent's back ends, peers and warnings.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var answer Status
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "status"}, out: &answer})
	return answer, err
}

// Config asks for the options that count for the running agent, of one section or, if it is empty, of all.
func (c *Client) Config(ctx context.Context, section string) ([]Setting, error) {
	query := url.Values{}
	if section != "" {
		query.Set("section", section)
	}
	var answer ConfigAnswer
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "config"}, query: query, out: &answer})
	return answer.Settings, err
}
