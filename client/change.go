package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// The kinds of changes.
const (
	// ChangeHello comes first, with the agent; then all that there is.
	ChangeHello = "hello"
	// ChangeReady follows all that there is: what comes after it has changed.
	ChangeReady      = "ready"
	ChangeVolume     = "volume"
	ChangeMigration  = "migration"
	ChangeProgress   = "progress"
	ChangeAttachment = "attachment"
	ChangeService    = "service"
)

const (
	// maxChange bounds one line of the stream in bytes: a volume with all its metadata has some 300 KiB at most.
	maxChange = 1 << 20
	// silence is how long nothing may come: agents say every 15 s that they are there.
	silence = time.Minute
)

// Change is one event of GET /v1/events. Of the pointers the one of its kind is set, none if the object is gone.
type Change struct {
	// Kind is one of the constants; others are to be ignored.
	Kind string `json:"kind"`
	// ID of what has changed: a volume's, migration's, attachment's, or the host of a service.
	ID string `json:"id,omitempty"`
	// Deleted: it is gone, or is another node's now.
	Deleted    bool           `json:"deleted,omitempty"`
	Agent      *Version       `json:"agent,omitempty"`
	Volume     *Volume        `json:"volume,omitempty"`
	Migration  *Migration     `json:"migration,omitempty"`
	Progress   *Progress      `json:"progress,omitempty"`
	Attachment *Attachment    `json:"attachment,omitempty"`
	Service    *ServiceChange `json:"service,omitempty"`
}

// ServiceChange is a back end that was enabled or disabled.
type ServiceChange struct {
	// Host is node@backend.
	Host           string `json:"host"`
	Disabled       bool   `json:"disabled"`
	DisabledReason string `json:"disabled_reason,omitempty"`
}

// ChangeFilter chooses changes; the zero value chooses all. With both, what either one chooses comes.
type ChangeFilter struct {
	// VolumeID: the volume, its migrations and attachments. MigrationID: the migration and its progress.
	VolumeID, MigrationID string
}

// Changes follows what changes on the agent's own node, until ctx ends, the agent does, or the caller has enough. The
// present state comes first, between a change of kind ChangeHello and one of kind ChangeReady. A change comes at once;
// others that follow it closely come as one. The last pair has the error that ended it, as for every call; ErrDisconnected too if the
// agent stops.
func (c *Client) Changes(ctx context.Context, f ChangeFilter) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		if err := c.follow(ctx, f, func(change Change) bool { return yield(change, nil) }); err != nil {
			yield(Change{}, err)
		}
	}
}

// follow hands every change to do, until do says false: then it returns nil.
func (c *Client) follow(parent context.Context, f ChangeFilter, do func(Change) bool) error {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	deadline := time.AfterFunc(silence, cancel)
	defer deadline.Stop()
	query := url.Values{}
	if f.VolumeID != "" {
		query.Set("volume", f.VolumeID)
	}
	if f.MigrationID != "" {
		query.Set("migration", f.MigrationID)
	}
	request, err := call{method: http.MethodGet, path: []string{"v1", "events"}, query: query}.request(ctx)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "text/event-stream")
	response, err := c.http.Do(request)
	if err != nil {
		return connectionError(parent, err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		body, err := readBody(response.Body)
		if err != nil {
			return connectionError(parent, err)
		}
		return ParseError(response.StatusCode, body)
	}
	enough, err := readChanges(response.Body, func() { deadline.Reset(silence) }, do)
	switch {
	case enough:
		return nil
	case parent.Err() != nil:
		return parent.Err()
	}
	return err
}

// readChanges reads a stream of server-sent events (HTML standard, section 9.2); alive is called at each line. It ends with
// enough if do says so, else always with an error.
func readChanges(r io.Reader, alive func(), do func(Change) bool) (enough bool, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxChange)
	var data []byte
	for lines.Scan() {
		alive()
		line := lines.Bytes()
		if value, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			data = append(data, bytes.TrimPrefix(value, []byte(" "))...)
			if len(data) > maxChange {
				return false, ErrTooLarge
			}
			continue
		}
		if len(line) > 0 || len(data) == 0 {
			continue // a comment, a field that is known from the data, or an event without data
		}
		var change Change
		if err := json.Unmarshal(data, &change); err != nil || change.Kind == "" {
			return false, fmt.Errorf("%w: event %.80q", ErrBadAnswer, data)
		}
		data = data[:0]
		if !do(change) {
			return true, nil
		}
	}
	switch err := lines.Err(); {
	case err == bufio.ErrTooLong:
		return false, ErrTooLarge
	case err != nil:
		return false, fmt.Errorf("%w: %w", ErrDisconnected, err)
	}
	return false, fmt.Errorf("%w: the agent has ended the events", ErrDisconnected)
}
