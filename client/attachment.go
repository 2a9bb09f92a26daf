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
	TCPURI string `json:"tcp_uri,omitempty"`
	// Device is the block device that Node's kernel made of it, /dev/nbdN; empty if it is an export alone.
	Device string `json:"device,omitempty"`
	// Trouble is why it cannot be used at present; empty if all is well.
	Trouble   string    `json:"trouble,omitempty"`
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
	// Device asks for a block device of the agent's machine.
	Device bool `json:"device,omitempty"`
}

// Export serves a volume over NBD until Unexport, also over restarts of the agent.
func (c *Client) Export(ctx context.Context, volumeID string, readOnly bool) (Attachment, error) {
	return c.attach(ctx, ExportRequest{Volume: volumeID, ReadOnly: readOnly})
}

// Attach is Export with a block device of the agent's machine, Attachment.Device. The volume must be at that node.
func (c *Client) Attach(ctx context.Context, volumeID string, readOnly bool) (Attachment, error) {
	return c.attach(ctx, ExportRequest{Volume: volumeID, ReadOnly: readOnly, Device: true})
}

func (c *Client) attach(ctx context.Context, r ExportRequest) (Attachment, error) {
	var answer AttachmentAnswer
	err := c.do(ctx, call{method: http.MethodPost, path: []string{"v1", "attachments"}, in: r, out: &answer})
	return answer.Attachment, err
}

// Unexport ends an attachment and closes its connections. A block device is flushed and taken away; while it is mounted that
// is refused (409).
func (c *Client) Unexport(ctx context.Context, attachmentID string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: []string{"v1", "attachments", attachmentID}})
}

// Detach is Unexport also for a block device that is in use, which is not flushed then: who uses it gets errors.
func (c *Client) Detach(ctx context.Context, attachmentID string) error {
	return c.do(ctx, call{
		method: http.MethodDelete, path: []string{"v1", "attachments", attachmentID}, query: url.Values{"force": {"true"}},
	})
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
