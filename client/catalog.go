package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// BackupCatalog writes a copy of the agent's catalog to w, and returns its length in bytes. One that was cut off is
// ErrDisconnected; an error of w is returned as it is.
func (c *Client) BackupCatalog(ctx context.Context, w io.Writer) (int64, error) {
	request, err := call{method: http.MethodGet, path: []string{"v1", "catalog", "backup"}}.request(ctx)
	if err != nil {
		return 0, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return 0, connectionError(ctx, err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		body, err := readBody(response.Body)
		if err != nil {
			return 0, connectionError(ctx, err)
		}
		return 0, ParseError(response.StatusCode, body)
	}
	body := &bodyReader{r: response.Body}
	n, err := io.Copy(w, body)
	switch {
	case err != nil && body.err != nil:
		return n, connectionError(ctx, body.err)
	case err != nil:
		return n, err
	case n != response.ContentLength:
		return n, fmt.Errorf("%w: %d bytes of %d came", ErrDisconnected, n, response.ContentLength)
	}
	return n, nil
}

// bodyReader tells errors of reading from those of writing.
type bodyReader struct {
	r   io.Reader
	err error
}

func (b *bodyReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

// What becomes of an object when a catalog is rebuilt.
const (
	// Rebuilt: it is a volume again.
	Rebuilt = "rebuilt"
	// RebuildPossible: it would be, but nothing was to be changed.
	RebuildPossible = "possible"
	// RebuildRefused: it is left alone, for the Reason.
	RebuildRefused = "refused"
)

// RebuildObject is an object with a mark that no record of the agent explains.
type RebuildObject struct {
	VolumeID string `json:"volume_id"`
	// Host is node@backend#pool, Object the object's name there.
	Host      string `json:"host"`
	Object    string `json:"object"`
	SizeBytes int64  `json:"size_bytes"`
	// StoreID is the catalog that the mark names, MigrationID the migration that it was made for.
	StoreID     string `json:"store_id"`
	MigrationID string `json:"migration_id,omitempty"`
	// Verdict is one of the constants.
	Verdict string `json:"verdict"`
	Reason  string `json:"reason,omitempty"`
}

// RebuildRequest is the body of POST /v1/catalog/rebuild.
type RebuildRequest struct {
	DryRun bool `json:"dry_run"`
}

// RebuildAnswer answers it.
type RebuildAnswer struct {
	Objects []RebuildObject `json:"objects"`
}

// RebuildCatalog makes records of the volumes whose objects are in the agent's back ends and whose records were lost; with
// dryRun it only says which. All of the agent's peers have to answer it: 503 otherwise.
func (c *Client) RebuildCatalog(ctx context.Context, dryRun bool) ([]RebuildObject, error) {
	var answer RebuildAnswer
	err := c.do(ctx, call{method: http.MethodPost, path: []string{"v1", "catalog", "rebuild"}, in: RebuildRequest{DryRun: dryRun}, out: &answer})
	return answer.Objects, err
}
