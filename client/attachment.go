package client

import "time"

// Attachment is the right to use a volume through an NBD export of the agent.
type Attachment struct {
	ID       string `json:"id"`
	VolumeID string `json:"volume_id"`
	// Export is the NBD export's name.
	Export   string `json:"export"`
	ReadOnly bool   `json:"read_only"`
	// URI is where the export is on this node: nbd+unix:///EXPORT?socket=PATH.
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
