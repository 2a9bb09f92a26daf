package client

import (
	"context"
	"net/http"
)

// Limit is what slows copies down, and what it has let through.
type Limit struct {
	// Node is the agent that has it. Kind is one of those below, and Name the node's or the back end's, the class's, or the
	// migration's id.
	Node string `json:"node"`
	Kind string `json:"kind"`
	Name string `json:"name"`
	// BytesPerSecond and IOPS are the limit; 0 is none. An operation is a chunk that is read.
	BytesPerSecond int64 `json:"bytes_per_second"`
	IOPS           int64 `json:"iops"`
	// PassedBytes and PassedOperations were let through since the agent's start, or the migration's.
	PassedBytes      int64 `json:"passed_bytes"`
	PassedOperations int64 `json:"passed_operations"`
	// WaitedSeconds is how long transfers have waited here, each for itself.
	WaitedSeconds float64 `json:"waited_seconds"`
	// Of a migration alone: its volume and its class.
	VolumeID      string `json:"volume_id,omitempty"`
	VolumeName    string `json:"volume_name,omitempty"`
	TransferClass string `json:"transfer_class,omitempty"`
}

// The kinds of limits: of all transfers that leave a node, of all that concern a back end of it, of those of the class
// background together, and of a migration's own.
const (
	LimitOfNode       = "node"
	LimitOfBackend    = "backend"
	LimitOfBackground = "background"
	LimitOfMigration  = "migration"
)

// The transfer classes. A background transfer goes slower while requests to its node's exports are slow.
const (
	TransferNormal     = "normal"
	TransferBackground = "background"
)

// LimitChange asks for other limits; what is nil or empty stays as it is.
type LimitChange struct {
	// BytesPerSecond and IOPS: 0 is no limit.
	BytesPerSecond *int64 `json:"bytes_per_second,omitempty"`
	IOPS           *int64 `json:"iops,omitempty"`
	// TransferClass is for a migration alone.
	TransferClass string `json:"transfer_class,omitempty"`
}

// LimitAnswer answers PUT of a limit.
type LimitAnswer struct {
	Limit Limit `json:"limit"`
}

// LimitsAnswer answers GET /v1/limits.
type LimitsAnswer struct {
	Limits []Limit `json:"limits"`
}

func (a *LimitAnswer) id() string { return a.Limit.Name }

// Limits lists the limits of all nodes, node by node. If nodes do not answer the agent, it returns what the others have, and
// *PartialError.
func (c *Client) Limits(ctx context.Context) ([]Limit, error) {
	var answer LimitsAnswer
	err := c.list(ctx, call{method: http.MethodGet, path: []string{"v1", "limits"}, out: &answer})
	return answer.Limits, err
}

// LimitNode changes the limit of all transfers that leave the agent's node, until the agent restarts.
func (c *Client) LimitNode(ctx context.Context, change LimitChange) (Limit, error) {
	return c.limit(ctx, change, "v1", "node", "limit")
}

// LimitBackend changes the limit of a back end of the agent's node, a section or a host of it, until the agent restarts.
func (c *Client) LimitBackend(ctx context.Context, name string, change LimitChange) (Limit, error) {
	return c.limit(ctx, change, "v1", "backends", name, "limit")
}

// LimitMigration changes a migration's own limit and class, for good. 409 once it copies nothing any more.
func (c *Client) LimitMigration(ctx context.Context, id string, change LimitChange) (Limit, error) {
	return c.limit(ctx, change, "v1", "migrations", id, "limit")
}

func (c *Client) limit(ctx context.Context, change LimitChange, path ...string) (Limit, error) {
	var answer LimitAnswer
	err := c.do(ctx, call{method: http.MethodPut, path: path, in: change, out: &answer})
	return answer.Limit, err
}
