package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/client"
	"github.com/cvold/cvold/transfer"
)

// recorder is a ResponseRecorder that is read while it is written.
type recorder struct {
	*httptest.ResponseRecorder
	mu sync.Mutex
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ResponseRecorder.Write(p)
}

func (r *recorder) body() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Body.String()
}

// follower is one stream of events in a bubble, and what came of it.
type follower struct {
	*recorder
	t     *testing.T
	leave context.CancelFunc
	ended chan struct{}
	read  int // bytes of the body that were taken
}

func (r *rig) listen(t *testing.T, query string) *follower {
	ctx, cancel := context.WithCancel(WithCaller(context.Background(), root))
	l := &follower{recorder: &recorder{ResponseRecorder: httptest.NewRecorder()}, t: t, leave: cancel, ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		r.Handler().ServeHTTP(l, httptest.NewRequestWithContext(ctx, "GET", "/v1/events"+query, nil))
	}()
	synctest.Wait()
	return l
}

// changes are those that came since the last call, as "kind ID", with "deleted" behind it.
func (l *follower) changes() (all []client.Change, lines []string) {
	l.t.Helper()
	synctest.Wait()
	text := l.body()[l.read:]
	l.read += len(text)
	for line := range strings.Lines(text) {
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		var c client.Change
		if err := json.Unmarshal([]byte(data), &c); err != nil {
			l.t.Fatalf("%v in %q", err, data)
		}
		what := c.Kind
		if c.ID != "" {
			what += " " + c.ID
		}
		if c.Deleted {
			what += " deleted"
		}
		all, lines = append(all, c), append(lines, what)
	}
	return all, lines
}

func (l *follower) want(lines ...string) []client.Change {
	l.t.Helper()
	all, got := l.changes()
	if !slices.Equal(got, lines) {
		l.t.Fatalf("events %q, want %q", got, lines)
	}
	return all
}

// bubble runs fn in a bubble whose clock goes when all wait.
func bubble(t *testing.T, fn func(*testing.T, *rig)) {
	synctest.Test(t, func(t *testing.T) { fn(t, newRig(t)) })
}

func copyingView(v catalog.Volume, state catalog.MigrationState, verified int64) migration.View {
	return migration.View{
		Role: client.RoleSource, Progress: transfer.ProgressSnapshot{TotalBytes: oneGiB, VerifiedBytes: verified},
		Migration: catalog.Migration{ID: "m1", VolumeID: v.ID, State: state},
	}
}

// TestEvents: first what there is, then each change once, together with those that follow it closely.
func TestEvents(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		v, a := newVolume(func(*catalog.Volume) {}), catalog.Attachment{ID: uuid.NewString(), Export: "e"}
		a.VolumeID = v.ID
		r.put(v, catalog.Service{Host: "node1@fast"})
		l := r.listen(t, "")
		defer l.leave()
		all := l.want("hello", "volume "+v.ID, "service node1@fast", "ready")
		if all[0].Agent.Version != "1.2.3" || all[1].Volume.Status != string(v.Status) {
			t.Errorf("%+v", all)
		}
		if got := l.Header().Get("Content-Type"); got != "text/event-stream" || !l.Flushed {
			t.Errorf("content type %q, flushed %v", got, l.Flushed)
		}
		v.Status = catalog.StatusInUse
		r.put(a, v)
		all = l.want("volume "+v.ID, "attachment "+a.ID)
		if all[0].Volume.Status != "in-use" || all[1].Attachment.URI == "" {
			t.Errorf("%+v", all)
		}
		pass(settleTime)
		r.put(v) // the same again
		pass(2 * settleTime)
		l.want()
		for _, name := range []string{"at once", "lost", "with the next look"} {
			v.DisplayName = name
			r.put(v)
			synctest.Wait()
		}
		if all = l.want("volume " + v.ID); all[0].Volume.DisplayName() != "at once" {
			t.Errorf("%+v", all)
		}
		pass(settleTime)
		if all = l.want("volume " + v.ID); all[0].Volume.DisplayName() != "with the next look" {
			t.Errorf("%+v", all)
		}
		pass(settleTime)
		err := r.store.Update(func(tx catalog.Tx) error { return catalog.Attachments.Delete(tx, a.ID) })
		if err != nil {
			t.Fatal(err)
		}
		l.want("volume "+v.ID, "attachment "+a.ID+" deleted")
	})
}

// TestEventsOfAMigration: its state at each change, its progress once a second while it copies.
func TestEventsOfAMigration(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		v, other := newVolume(func(*catalog.Volume) {}), newVolume(func(*catalog.Volume) {})
		r.put(v, other)
		r.migrations.set(copyingView(v, catalog.StateCopying, 1))
		l := r.listen(t, "?volume="+v.ID)
		defer l.leave()
		all := l.want("hello", "migration m1", "progress m1", "volume "+v.ID, "ready")
		if all[1].Migration.State != "copying" || all[2].Progress.VerifiedBytes != 1 {
			t.Errorf("%+v", all)
		}
		r.migrations.set(copyingView(v, catalog.StateCopying, 2))
		pass(progressTime)
		if all = l.want("progress m1"); all[0].Progress.VerifiedBytes != 2 {
			t.Errorf("%+v", all)
		}
		pass(3 * progressTime)
		l.want() // it stands still
		r.migrations.set(copyingView(v, catalog.StateSucceeded, oneGiB))
		pass(progressTime)
		l.want("migration m1")
		other.DisplayName = "other"
		r.put(other)
		pass(settleTime)
		l.want()
	})
}

// TestEventsEnd: a heartbeat keeps a stream alive; it ends with its client, and with the server; more than there may be
// are refused, and one that has ended makes room.
func TestEventsEnd(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		var all []*follower
		for range maxStreams {
			all = append(all, r.listen(t, ""))
		}
		refused := r.listen(t, "")
		<-refused.ended
		if refused.Code != http.StatusServiceUnavailable || !strings.Contains(refused.Body.String(), "8 streams of events are open") {
			t.Errorf("%d %s", refused.Code, refused.Body)
		}
		all[0].leave()
		<-all[0].ended
		again := r.listen(t, "")
		again.want("hello", "ready")
		pass(heartbeatTime)
		synctest.Wait()
		if !strings.HasSuffix(again.body(), ": still here\n\n") {
			t.Errorf("no heartbeat in %q", again.body())
		}
		var wait sync.WaitGroup
		for _, l := range append(all[1:], again) {
			wait.Go(func() { <-l.ended })
		}
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
		wait.Wait()
		for _, l := range append(all, again, refused) {
			l.leave()
		}
	})
}

func TestEventsRefused(t *testing.T) {
	r := newRig(t)
	for query, says := range map[string]string{
		"?colour=red": "colour", "?volume=db": "is not the id of one", "?migration=": "is not the id of one",
	} {
		if w := r.ask(root, "GET /v1/events"+query, ""); w.Code != 400 || !strings.Contains(w.Body.String(), says) {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
}

// pass lets so much of a bubble's time go by.
func pass(d time.Duration) { <-time.After(d) }
