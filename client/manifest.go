package client

import (
	"context"
	"net/http"
	"time"
)

// Manifest is what the agent tells of a volume's manifest: the root of all its chunk digests, and how they were made.
type Manifest struct {
	VolumeID string `json:"volume_id"`
	// MigrationID is the migration that made it.
	MigrationID string `json:"migration_id"`
	// Root is hex; algorithm, chunk size and volume size are under it.
	Root       string `json:"root"`
	Algorithm  string `json:"algorithm"`
	ChunkSize  int64  `json:"chunk_size"`
	VolumeSize int64  `json:"volume_size"`
	// Class is how the copy was verified: device-direct, server-readback or cached.
	Class     string    `json:"class"`
	CreatedAt time.Time `json:"created_at"`
}

// ManifestAnswer answers GET /v1/manifests/VOLUME.
type ManifestAnswer struct {
	Manifest Manifest `json:"manifest"`
}

// Manifest is the manifest of a volume: of what it held when its last migration brought it here.
func (c *Client) Manifest(ctx context.Context, volumeID string) (Manifest, error) {
	var answer ManifestAnswer
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "manifests", volumeID}, out: &answer})
	return answer.Manifest, err
}
