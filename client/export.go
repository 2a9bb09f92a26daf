package client

import (
	"context"
	"net/http"
	"time"
)

// What an NBD export is for.
const (
	ExportOfAttachment = "attachment"
	ExportOfMigration  = "migration"
)

// ServedExport is an NBD export that an agent serves now.
type ServedExport struct {
	// Name is the export's name. Of a migration's the last part is left out: to know it is the right to write there.
	Name string `json:"name"`
	// Kind is ExportOfAttachment or ExportOfMigration: of a volume that is copied to Node.
	Kind string `json:"kind"`
	// AttachmentID and VolumeID are set for an attachment, MigrationID and VolumeID for a migration.
	AttachmentID string `json:"attachment_id,omitempty"`
	MigrationID  string `json:"migration_id,omitempty"`
	VolumeID     string `json:"volume_id,omitempty"`
	// Node serves it.
	Node     string         `json:"node"`
	ReadOnly bool           `json:"read_only"`
	Clients  []ExportClient `json:"clients"`
	// ExportCounts are since the export began, connections that have ended included.
	ExportCounts
}

// ExportClient is a connection to an export.
type ExportClient struct {
	// Address is the client's: IP:PORT, or empty for a unix socket.
	Address string `json:"address,omitempty"`
	// Certificate is the common name that it proved; empty without TLS.
	Certificate string    `json:"certificate,omitempty"`
	Since       time.Time `json:"since"`
	ExportCounts
}

// ExportCounts are requests that were answered, and bytes of those that succeeded.
type ExportCounts struct {
	Reads   uint64 `json:"reads"`
	Writes  uint64 `json:"writes"`
	Zeroes  uint64 `json:"zeroes"`
	Trims   uint64 `json:"trims"`
	Flushes uint64 `json:"flushes"`
	Caches  uint64 `json:"caches"`
	// Statuses are questions for the state of blocks (NBD_CMD_BLOCK_STATUS).
	Statuses uint64 `json:"statuses"`
	// Refused requests never reached the device; Failed ones are the device's errors.
	Refused      uint64 `json:"refused"`
	Failed       uint64 `json:"failed"`
	BytesRead    uint64 `json:"bytes_read"`
	BytesWritten uint64 `json:"bytes_written"`
}

// ServedExportAnswer answers GET /v1/exports/NAME.
type ServedExportAnswer struct {
	Export ServedExport `json:"export"`
}

// ServedExportsAnswer answers GET /v1/exports.
type ServedExportsAnswer struct {
	Exports []ServedExport `json:"exports"`
}

func (a *ServedExportAnswer) id() string { return a.Export.Name }

// ServedExports lists the NBD exports of all nodes, by node and name. If nodes do not answer the agent, it returns what the
// others have, and *PartialError.
func (c *Client) ServedExports(ctx context.Context) ([]ServedExport, error) {
	var answer ServedExportsAnswer
	err := c.list(ctx, call{method: http.MethodGet, path: []string{"v1", "exports"}, out: &answer})
	return answer.Exports, err
}

// ServedExport is the NBD export of that name.
func (c *Client) ServedExport(ctx context.Context, name string) (ServedExport, error) {
	var answer ServedExportAnswer
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "exports", name}, out: &answer})
	return answer.Export, err
}
