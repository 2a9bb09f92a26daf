package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
)

// DefaultSocket is where the agent listens unless configured otherwise.
const DefaultSocket = "/run/cvold/cvold.sock"

// PartialHeader names, in an answer with a list, the nodes whose part of it is missing, with commas between them.
const PartialHeader = "X-Cvold-Partial"

// MigrationHeader names, in the answer to os-migrate_volume, the migration that was accepted: Cinder's dialect has no body
// there.
const MigrationHeader = "X-Cvold-Migration"

const (
	// maxBody bounds an answer: some 6000 volumes in the Cinder dialect, far beyond what one node serves.
	maxBody = 8 << 20
	// maxHeader bounds the header of an answer: the agent sends a handful of short lines.
	maxHeader = 64 << 10
	// callTimeout bounds one call, whatever the caller's ctx says: an agent that hangs must not hang its callers. It is
	// above what the agent itself allows a call, a long poll of MaxWait among them.
	callTimeout = 2 * time.Minute
	// idleTimeout closes a connection that is not used any more.
	idleTimeout = 30 * time.Second
)

// Client speaks to one agent. It may be used by several goroutines. No call that changes anything is ever repeated by
// itself: an error may leave it open whether the agent did it.
//
// Errors: *Error if the agent refused, *UnreachableError if it was not reached at all, ErrDisconnected if it went away
// meanwhile, ErrTooLarge and ErrBadAnswer if the answer is no good, the error of ctx if it ended, and
// context.DeadlineExceeded if the agent took more than two minutes.
type Client struct {
	socket string
	http   *http.Client
	// service is for the calls that gophercloud has; http for the others.
	service *gophercloud.ServiceClient
}

// New makes a client of the agent that listens on the unix socket. It does not connect yet. Close it when done.
func New(socket string) *Client {
	c := &Client{socket: socket}
	transport := &http.Transport{
		DialContext:            c.dial,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
		IdleConnTimeout:        idleTimeout,
	}
	c.http = &http.Client{Transport: transport, CheckRedirect: noRedirect}
	c.service = newCinder(transport)
	return c
}

// Close closes idle connections. Calls in flight go on.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// dial connects to the socket, whatever the address of the request says.
func (c *Client) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.socket)
	if err != nil && ctx.Err() == nil {
		return nil, &UnreachableError{Socket: c.socket, Err: err}
	}
	return conn, err
}

// call is one request. in is sent as JSON unless nil, the answer read into out unless nil.
type call struct {
	method string
	// path is a list of segments that are escaped here.
	path  []string
	query url.Values
	in    any
	out   any
	// also is a status beside 2xx whose body is an answer, if it is one.
	also int
	// header is set to that of the answer, unless nil.
	header *http.Header
}

// do makes a call and waits for the whole answer.
func (c *Client) do(ctx context.Context, k call) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	request, err := k.request(ctx)
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return connectionError(ctx, err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := readBody(response.Body)
	if err != nil {
		return connectionError(ctx, err)
	}
	good := response.StatusCode >= 200 && response.StatusCode <= 299
	if !good && (response.StatusCode != k.also || isError(body)) {
		return ParseError(response.StatusCode, body)
	}
	if k.header != nil {
		*k.header = response.Header
	}
	if k.out == nil {
		return nil
	}
	if err := json.Unmarshal(body, k.out); err != nil {
		return fmt.Errorf("%w: %s %s: %w", ErrBadAnswer, k.method, request.URL.Path, err)
	}
	if o, ok := k.out.(object); ok && o.id() == "" {
		return fmt.Errorf("%w: %s %s: no id", ErrBadAnswer, k.method, request.URL.Path)
	}
	return nil
}

// list makes a call whose answer is a list of all nodes: *PartialError, beside the list, if PartialHeader names some.
func (c *Client) list(ctx context.Context, k call) error {
	var header http.Header
	k.header = &header
	if err := c.do(ctx, k); err != nil {
		return err
	}
	return partial(header)
}

// partial is a *PartialError if the header of an answer names nodes whose part is missing.
func partial(header http.Header) error {
	silent := strings.FieldsFunc(header.Get(PartialHeader), func(r rune) bool { return r == ',' || r == ' ' })
	if len(silent) > 0 {
		return &PartialError{Nodes: silent}
	}
	return nil
}

// object is an answer with one object in it, which has an id if it is there at all.
type object interface{ id() string }

func (a *VolumeAnswer) id() string     { return a.Volume.ID }
func (a *MigrationAnswer) id() string  { return a.Migration.ID }
func (a *AttachmentAnswer) id() string { return a.Attachment.ID }
func (a *ManifestAnswer) id() string   { return a.Manifest.VolumeID }

// request builds the HTTP request. The host's name is never looked up: dial knows where the agent is.
func (k call) request(ctx context.Context) (*http.Request, error) {
	var body io.Reader
	if k.in != nil {
		p, err := json.Marshal(k.in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(p)
	}
	// Each segment is escaped by itself: a name with a slash stays one segment.
	address := "http://cvold"
	for _, name := range k.path {
		escaped, err := segment(name)
		if err != nil {
			return nil, err
		}
		address += "/" + escaped
	}
	if len(k.query) > 0 {
		address += "?" + k.query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, k.method, address, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", userAgent)
	request.Header.Set("OpenStack-API-Version", "volume "+cinderMicroversion)
	if k.in != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return request, nil
}

// readBody reads at most maxBody.
func readBody(r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, maxBody+1))
	if err == nil && len(body) > maxBody {
		err = ErrTooLarge
	}
	return body, err
}

// connectionError takes the made-up URL out of an error of net/http, and says plainly that ctx ended.
func connectionError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	var unreachable *UnreachableError
	if errors.As(err, &unreachable) || errors.Is(err, ErrTooLarge) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDisconnected, err)
}
