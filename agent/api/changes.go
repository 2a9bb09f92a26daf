package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/client"
)

const (
	// maxStreams bounds the streams of events at one time: each reads the whole catalog after changes.
	maxStreams = 8
	// settleTime is the least time between two looks because of changes.
	settleTime = 250 * time.Millisecond
	// progressTime is the time between two events of the progress of what copies.
	progressTime = time.Second
	// heartbeatTime is the time between two comments that keep the stream alive.
	heartbeatTime = 15 * time.Second
)

// streamEvents answers GET /v1/events: a stream of server-sent events (HTML standard, section 9.2) on what this node has.
// First comes what there is, then what changes, until the client leaves or the server closes. Nothing is queued: a client
// that reads slowly gets fewer, later states.
func (s *Server) streamEvents(x *exchange) error {
	filter, err := readChangeFilter(x.r.URL.Query())
	if err != nil {
		return err
	}
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		return fault{http.StatusServiceUnavailable, fmt.Sprintf("%d streams of events are open, more are not allowed: end one", maxStreams)}
	}
	ctx, cancel := context.WithCancel(x.r.Context())
	defer cancel()
	defer context.AfterFunc(s.soft, cancel)()
	st := stream{s: s, x: x, filter: filter, known: map[string][]byte{}}
	changed := s.o.Store.Watch(ctx) // before the first look: nothing falls between
	x.w.Header().Set("Content-Type", "text/event-stream")
	x.w.Header().Set("Cache-Control", "no-store")
	if err := st.run(ctx, changed); err != nil && ctx.Err() == nil {
		return err // it is logged; the client sees the end of the stream
	}
	return nil
}

func readChangeFilter(q url.Values) (f client.ChangeFilter, err error) {
	for key, values := range q {
		v := values[len(values)-1]
		switch key {
		case "volume":
			f.VolumeID = v
		case "migration":
			f.MigrationID = v
		default:
			return f, badRequest("Invalid filters %s are found in query options.", show([]byte(key)))
		}
		if uuid.Validate(v) != nil {
			return f, badRequest("%s=%s is not the id of one", key, show([]byte(v)))
		}
	}
	return f, nil
}

// stream is one client's view of the node.
type stream struct {
	s      *Server
	x      *exchange
	filter client.ChangeFilter
	// known is what was sent last, by kind and id.
	known map[string][]byte
	// copying says that the last look found progress.
	copying bool
	number  int
}

func (st *stream) run(ctx context.Context, changed <-chan struct{}) error {
	version := st.s.o.Version
	if err := st.send(client.Change{Kind: client.ChangeHello, Agent: &version}); err != nil {
		return err
	}
	if err := st.look(); err != nil {
		return err
	}
	if err := st.send(client.Change{Kind: client.ChangeReady}); err != nil {
		return err
	}
	heartbeat := time.NewTicker(heartbeatTime)
	defer heartbeat.Stop()
	progress := time.NewTicker(progressTime)
	defer progress.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case _, open := <-changed:
			if !open {
				return errors.New("the catalog is closed")
			}
			err = st.look()
			settle(ctx)
		case <-progress.C:
			if st.copying {
				err = st.look()
			}
		case <-heartbeat.C:
			err = st.write([]byte(": still here\n\n"))
		}
		if err != nil {
			return err
		}
	}
}

// settle waits until the next look, or for the end: a burst of changes is not worth one each.
func settle(ctx context.Context) {
	timer := time.NewTimer(settleTime)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// look sends what differs from what was sent before.
func (st *stream) look() error {
	all, err := st.present()
	if err != nil {
		return err
	}
	now := make(map[string]bool, len(all))
	st.copying = false
	for _, change := range all {
		key := change.Kind + " " + change.ID
		now[key] = true
		st.copying = st.copying || change.Kind == client.ChangeProgress
		p, err := json.Marshal(change)
		if err != nil {
			return err
		}
		if bytes.Equal(st.known[key], p) {
			continue
		}
		if err := st.event(change.Kind, p); err != nil {
			return err
		}
		st.known[key] = p
	}
	return st.sendGone(now)
}

// sendGone tells what was there and is not any more. Progress that ends needs no word: the migration has changed.
func (st *stream) sendGone(now map[string]bool) error {
	for key, p := range st.known {
		if now[key] {
			continue
		}
		delete(st.known, key)
		var was client.Change
		if err := json.Unmarshal(p, &was); err != nil {
			return err
		}
		if was.Kind == client.ChangeProgress {
			continue
		}
		if err := st.send(client.Change{Kind: was.Kind, ID: was.ID, Deleted: true}); err != nil {
			return err
		}
	}
	return nil
}

// present is all that there is, as changes, and that the filter chooses: migrations before their volumes, so that a volume
// that has moved is explained when it goes.
func (st *stream) present() (all []client.Change, err error) {
	views, err := st.s.o.Migrations.List()
	if err != nil {
		return nil, err
	}
	for _, v := range views {
		if !st.chosen(v.VolumeID, v.ID) {
			continue
		}
		m := st.s.migrationView(v)
		p := m.Progress
		m.Events, m.Progress, m.ReadBackBytes = nil, client.Progress{}, 0
		all = append(all, client.Change{Kind: client.ChangeMigration, ID: m.ID, Migration: &m})
		if m.Role == client.RoleSource && v.State == catalog.StateCopying {
			all = append(all, client.Change{Kind: client.ChangeProgress, ID: m.ID, Progress: &p})
		}
	}
	volumes, err := st.volumes()
	if err != nil {
		return nil, err
	}
	attachments, err := st.s.localAttachments(st.filter.VolumeID)
	if err != nil {
		return nil, err
	}
	all = append(all, volumes...)
	for _, a := range attachments {
		if st.chosen(a.VolumeID, "") {
			all = append(all, client.Change{Kind: client.ChangeAttachment, ID: a.ID, Attachment: &a})
		}
	}
	services, err := st.services()
	return append(all, services...), err
}

// chosen asks the filter about something of a volume, or of a migration.
func (st *stream) chosen(volumeID, migrationID string) bool {
	f := st.filter
	return f == (client.ChangeFilter{}) || f.VolumeID != "" && f.VolumeID == volumeID ||
		f.MigrationID != "" && f.MigrationID == migrationID
}

func (st *stream) volumes() (all []client.Change, err error) {
	records, err := st.s.o.Volumes.List(volume.Filter{Temporary: true})
	if err != nil {
		return nil, err
	}
	n, err := st.s.names()
	if err != nil {
		return nil, err
	}
	for _, v := range records {
		if st.chosen(v.ID, "") {
			w := st.x.view(v, n)
			all = append(all, client.Change{Kind: client.ChangeVolume, ID: v.ID, Volume: &w})
		}
	}
	return all, nil
}

func (st *stream) services() (all []client.Change, err error) {
	if st.filter != (client.ChangeFilter{}) {
		return nil, nil
	}
	err = st.s.o.Store.View(func(tx catalog.Tx) error {
		records, err := catalog.Services.All(tx)
		for _, r := range records {
			service := client.ServiceChange{Host: r.Host, Disabled: r.Disabled, DisabledReason: r.DisabledReason}
			all = append(all, client.Change{Kind: client.ChangeService, ID: r.Host, Service: &service})
		}
		return err
	})
	return all, err
}

func (st *stream) send(change client.Change) error {
	p, err := json.Marshal(change)
	if err != nil {
		return err
	}
	return st.event(change.Kind, p)
}

// event writes one event. JSON has no line breaks, so that its data is one line.
func (st *stream) event(kind string, data []byte) error {
	st.number++
	return st.write(fmt.Appendf(nil, "event: %s\nid: %d\ndata: %s\n\n", kind, st.number, data))
}

// write writes and flushes, within the time that every answer has.
func (st *stream) write(p []byte) error {
	to := http.NewResponseController(st.x.w)
	_ = to.SetWriteDeadline(time.Now().Add(writeTimeout)) // a writer of a test has none
	if _, err := st.x.w.Write(p); err != nil {
		return err
	}
	return to.Flush()
}
