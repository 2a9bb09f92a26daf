package client

import (
	"context"
	"net/http"
)

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

// Manifest is the manifest of a volume: of what it held when its last migration brought it here.
func (c *Client) Manifest(ctx context.Context, volumeID string) (Manifest, error) {
	var answer ManifestAnswer
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "manifests", volumeID}, out: &answer})
	return answer.Manifest, err
}
