package client

import (
	"context"
	"net/http"
)

// Transfer is a copy of one device to another that runs now. Its id is that of the migration it is for.
type Transfer struct {
	ID         string `json:"id"`
	VolumeID   string `json:"volume_id"`
	VolumeName string `json:"volume_name,omitempty"`
	// SourceHost and TargetHost are node@backend#pool. Node is the one that copies: the source's.
	SourceHost string   `json:"source_host"`
	TargetHost string   `json:"target_host"`
	Node       string   `json:"node"`
	Algorithm  string   `json:"algorithm,omitempty"`
	ChunkSize  int64    `json:"chunk_size,omitempty"`
	Attempt    uint64   `json:"attempt"`
	Progress   Progress `json:"progress"`
}

// TransferAnswer answers GET /v1/transfers/ID.
type TransferAnswer struct {
	Transfer Transfer `json:"transfer"`
}

// TransfersAnswer answers GET /v1/transfers.
type TransfersAnswer struct {
	Transfers []Transfer `json:"transfers"`
}

func (a *TransferAnswer) id() string { return a.Transfer.ID }

// Transfers lists the copies that run now on all nodes, by their ids. If nodes do not answer the agent, it returns what the
// others have, and *PartialError.
func (c *Client) Transfers(ctx context.Context) ([]Transfer, error) {
	var answer TransfersAnswer
	err := c.list(ctx, call{method: http.MethodGet, path: []string{"v1", "transfers"}, out: &answer})
	return answer.Transfers, err
}

// Transfer is the copy with this id: 404 if it does not run now.
func (c *Client) Transfer(ctx context.Context, id string) (Transfer, error) {
	var answer TransferAnswer
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "transfers", id}, out: &answer})
	return answer.Transfer, err
}
