package client

import (
	"context"
	"net/http"
	"net/url"
)

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

// Attachments lists the attachments of a volume, or of all volumes if volumeID is empty.
func (c *Client) Attachments(ctx context.Context, volumeID string) ([]Attachment, error) {
	query := url.Values{}
	if volumeID != "" {
		query.Set("volume", volumeID)
	}
	var answer AttachmentsAnswer
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "attachments"}, query: query, out: &answer})
	return answer.Attachments, err
}
