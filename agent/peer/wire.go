package peer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/cvold/cvold/agent/migration"
)

const (
	// prefix of the calls of migration.Peer.
	prefix = "/peer/v1/"
	// forwardPrefix of the requests that are forwarded; the rest is the API's own path.
	forwardPrefix = prefix + "api"
	// callerHeader says for whom a request is forwarded, as JSON that this package does not read.
	callerHeader = "X-Cvold-Caller"
	// maxRequest bounds a call's body: the largest is Describe with the ids of all volumes.
	maxRequest = 8 << 20
	// maxReply bounds an answer's body: the digests of a batch of chunks.
	maxReply = 64 << 20
	// maxForwarded bounds the body of a forwarded request, as the API bounds its own.
	maxForwarded = 1 << 20
)

// failure is the body of an answer that is not 200.
type failure struct {
	// Code is migration.Code of the error; empty if it is none of a migration's.
	Code    string `json:"code,omitempty"`
	Message string `json:"message"`
}

// statusOf is the HTTP status of an error: 409 for those with a code, for they are answers; 500 for the others.
func statusOf(err error) int {
	if migration.Code(err) != "" {
		return http.StatusConflict
	}
	return http.StatusInternalServerError
}

// decode reads one JSON value and nothing after it.
func decode(r io.Reader, limit int64, into any) error {
	limited := &io.LimitedReader{R: r, N: limit + 1}
	d := json.NewDecoder(limited)
	err := d.Decode(into)
	if limited.N == 0 {
		return fmt.Errorf("read message: it has more than %d bytes", limit)
	}
	if err != nil {
		return fmt.Errorf("read message: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("read message: more than one value")
	}
	return nil
}

// errorOf makes the error that an answer carries.
func errorOf(node string, status int, body io.Reader) error {
	var f failure
	if err := decode(body, maxRequest, &f); err != nil || f.Message == "" {
		return fmt.Errorf("node %s answers with status %d", node, status)
	}
	if err := migration.FromCode(f.Code, f.Message); err != nil {
		return err
	}
	return fmt.Errorf("node %s: %s", node, f.Message)
}
