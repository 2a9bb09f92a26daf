package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/pagination"
)

const (
	// cinderEndpoint is the Cinder dialect of the agent, as a block storage service. The host's name is never looked up.
	cinderEndpoint = "http://cvold/v3/"
	// cinderMicroversion is the one of Cinder's API whose answers Volume mirrors.
	cinderMicroversion = "3.70"
	// userAgent is how calls of this package name themselves.
	userAgent = "cvold-client"
)

// newCinder is the agent as gophercloud sees a block storage service without Keystone. It repeats nothing: no function to
// retry or to log in again is set.
func newCinder(transport http.RoundTripper) *gophercloud.ServiceClient {
	provider := &gophercloud.ProviderClient{
		HTTPClient: http.Client{Transport: whole{transport}, CheckRedirect: noRedirect},
	}
	provider.UserAgent.Prepend(userAgent)
	return &gophercloud.ServiceClient{
		ProviderClient: provider, Endpoint: cinderEndpoint, Type: "block-storage", Microversion: cinderMicroversion,
	}
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// whole reads the whole answer, within its limit, before gophercloud sees it: gophercloud has no limit of its own, and a
// link that breaks inside an answer must not look like an answer that is not understood.
type whole struct{ http.RoundTripper }

// RoundTrip is http.RoundTripper's.
func (w whole) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := w.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := readBody(response.Body)
	_ = response.Body.Close()
	if err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}

// cinder makes one call of gophercloud, which answers with a Result, and reads what it says into out unless that is nil.
func (c *Client) cinder(ctx context.Context, out any, make func(context.Context, *gophercloud.ServiceClient) gophercloud.Result) (http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r := make(ctx, c.service)
	if r.Err != nil {
		return nil, cinderError(ctx, r.Err)
	}
	if out == nil {
		return r.Header, nil
	}
	if err := r.ExtractInto(out); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadAnswer, err)
	}
	if o, ok := out.(object); ok && o.id() == "" {
		return nil, fmt.Errorf("%w: no id", ErrBadAnswer)
	}
	return r.Header, nil
}

// cinderList makes one call of gophercloud that lists, and reads the list into out: *PartialError, beside the list, if
// PartialHeader names nodes. An agent answers a list in one page.
func (c *Client) cinderList(ctx context.Context, out any, pager func(*gophercloud.ServiceClient) pagination.Pager) error {
	header, err := c.cinder(ctx, out, func(ctx context.Context, s *gophercloud.ServiceClient) (r gophercloud.Result) {
		p := pager(s).WithPageCreator(func(page pagination.PageResult) pagination.Page {
			r = page.Result
			return onePage{}
		})
		if err := p.EachPage(ctx, nil); err != nil {
			r.Err = err
		}
		return r
	})
	if err != nil {
		return err
	}
	return partial(header)
}

// onePage ends a walk of gophercloud's over pages after the first.
type onePage struct{}

// NextPageURL is pagination.Page's.
func (onePage) NextPageURL() (string, error) { return "", nil }

// IsEmpty is pagination.Page's.
func (onePage) IsEmpty() (bool, error) { return true, nil }

// GetBody is pagination.Page's.
func (onePage) GetBody() any { return nil }

// cinderError is an error of gophercloud in the words of this package.
func cinderError(ctx context.Context, err error) error {
	var code gophercloud.ErrUnexpectedResponseCode
	var connection *url.Error
	switch {
	case errors.As(err, &code):
		return ParseError(code.Actual, code.Body)
	case ctx.Err() != nil, errors.As(err, &connection):
		return connectionError(ctx, err)
	}
	return fmt.Errorf("%w: %w", ErrBadAnswer, err)
}

// segment is a name or an id as one segment of a path: gophercloud puts it there as it is.
func segment(s string) (string, error) {
	if s == "" || s == "." || s == ".." {
		return "", NewError(http.StatusNotFound, fmt.Sprintf("%q is no name or id", s))
	}
	return url.PathEscape(s), nil
}

// body is a request's body that gophercloud sends as it is.
type body map[string]any

// ToVolumeCreateMap is volumes.CreateOptsBuilder's.
func (b body) ToVolumeCreateMap() (map[string]any, error) { return b, nil }

// ToVolumeTypeCreateMap is volumetypes.CreateOptsBuilder's.
func (b body) ToVolumeTypeCreateMap() (map[string]any, error) { return b, nil }

// ToVolumeTypeUpdateMap is volumetypes.UpdateOptsBuilder's.
func (b body) ToVolumeTypeUpdateMap() (map[string]any, error) { return b, nil }

// ToVolumeUpdateMap is volumes.UpdateOptsBuilder's.
func (b body) ToVolumeUpdateMap() (map[string]any, error) { return b, nil }

// ToVolumeExtendSizeMap is volumes.ExtendSizeOptsBuilder's.
func (b body) ToVolumeExtendSizeMap() (map[string]any, error) { return b, nil }
