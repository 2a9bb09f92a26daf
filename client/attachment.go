package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Attachment is the right to use a volume through an NBD export of the agent.
type Attachment struct {
	ID       string `json:"id"`
	VolumeID string `json:"volume_id"`
	// Export is the NBD export's name.
	Export   string `json:"export"`
	ReadOnly bool   `json:"read_only"`
	// Node serves the export: that of the volume.
	Node string `json:"node"`
	// URI is where the export is on Node: nbd+unix:///EXPORT?socket=PATH.
	URI string `json:"uri"`
	// TCPURI is where it is for other nodes; empty if the agent does not listen there.
	TCPURI    string    `json:"tcp_uri,omitempty"`
	CreatedAt time.Time `json:"created_at"`
}

// AttachmentAnswer answers POST /v1/attachments (201).
type AttachmentAnswer struct {
	Attachment Attachment `json:"attachment"`
}

// AttachmentsAnswer answers GET /v1/attachments.
type AttachmentsAnswer struct {
	Attachments []Attachment `json:"attachments"`
}

// ExportRequest is the body of POST /v1/attachments.
type ExportRequest struct {
	// Volume is a volume's id.
	Volume   string `json:"volume"`
	ReadOnly bool   `json:"read_only"`
}

// Export serves a volume over NBD until Unexport, also over restarts of the agent.
func (c *Client) Export(ctx context.Context, volumeID string, readOnly bool) (Attachment, error) {
	var answer AttachmentAnswer
	err := c.do(ctx, call{
		method: http.MethodPost, path: []string{"v1", "attachments"},
		in: ExportRequest{Volume: volumeID, ReadOnly: readOnly}, out: &answer,
	})
	return answer.Attachment, err
}

// Unexport ends an attachment and closes its connections.
func (c *Client) Unexport(ctx context.Context, attachmentID string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: []string{"v1", "attachments", attachmentID}})
}

// Attachments lists the attachments of a volume, or those of all volumes of all nodes, the newest first, if volumeID is
// empty. If nodes do not answer the agent, it returns what the others have, and *PartialError.
func (c *Client) Attachments(ctx context.Context, volumeID string) ([]Attachment, error) {
	query := url.Values{}
	if volumeID != "" {
		query.Set("volume", volumeID)
	}
	var answer AttachmentsAnswer
	err := c.list(ctx, call{method: http.MethodGet, path: []string{"v1", "attachments"}, query: query, out: &answer})
	return answer.Attachments, err
}
