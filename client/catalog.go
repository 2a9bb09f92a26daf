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
