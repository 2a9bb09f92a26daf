package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/client"
	"github.com/cvold/cvold/transfer"
)

// migrating is a rig with a volume that migrates, unlocked; Preempt frees it.
func migrating(t *testing.T) (*rig, catalog.Volume) {
	r := newRig(t)
	v := newVolume(func(v *catalog.Volume) { v.MigrationID, v.MigrationStatus = "m", catalog.MigrationMigrating })
	r.put(v)
	r.migrations.preempt = func(context.Context, string) error {
		v.MigrationID, v.MigrationStatus = "", catalog.MigrationError
		r.put(v)
		return nil
	}
	return r, v
}

// TestUnlockedMigrationGivesWay: CINDER "beyond" 1.
func TestUnlockedMigrationGivesWay(t *testing.T) {
	r, v := migrating(t)
	r.want(201, "POST /v1/attachments", `{"volume": "`+v.ID+`"}`, nil)
	r.migrations.calls = nil
	r, v = migrating(t)
	r.want(202, "DELETE /v3/volumes/"+v.ID, "", nil)
	if want := []string{"preempt " + v.ID + " the volume is to be deleted"}; !slices.Equal(r.migrations.calls, want) {
		t.Errorf("%v", r.migrations.calls)
	}
	r.want(404, "GET /v3/volumes/"+v.ID, "", nil)
}

func TestMigrationThatDoesNotGiveWay(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		code int
		says string
	}{
		"locked":   {fmt.Errorf("x: %w", migration.ErrLocked), 400, "locked by its migration"},
		"too late": {fmt.Errorf("x: %w", migration.ErrTooLate), 409, "any more"},
		"conflict": {fmt.Errorf("try again: %w", migration.ErrConflict), 409, "try again"},
		"broken":   {errors.New("disk on fire"), 500, "request id"},
	} {
		t.Run(name, func(t *testing.T) {
			r, v := migrating(t)
			r.migrations.preempt = func(context.Context, string) error { return c.err }
			before := r.dump()
			for line, body := range map[string]string{
				"DELETE /v3/volumes/" + v.ID: "", "POST /v1/attachments": `{"volume": "` + v.ID + `"}`,
			} {
				e := refusal(t, r.want(c.code, line, body, nil))
				if !strings.Contains(e.Message, c.says) {
					t.Errorf("%s: %s", line, e.Message)
				}
			}
			if r.dump() != before || len(r.volumes.calls) > 0 {
				t.Errorf("something was done: %v", r.volumes.calls)
			}
		})
	}
}

// TestPreemptIsBounded: a migration that does not end is a 409 after half a minute.
func TestPreemptIsBounded(t *testing.T) {
	outside, v := migrating(t)
	synctest.Test(t, func(t *testing.T) {
		o := outside.o
		o.Migrations = &fakeMigrations{preempt: func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }}
		s, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		e := refusal(t, (&rig{Server: s, t: t}).want(409, "DELETE /v3/volumes/"+v.ID, "", nil))
		if took := time.Since(began); took != preemptTimeout || !strings.Contains(e.Message, "30s") {
			t.Errorf("after %s: %s", took, e.Message)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestRefusedDeleteEndsNoMigration: what is refused anyway does not cost a migration.
func TestRefusedDeleteEndsNoMigration(t *testing.T) {
	r, v := migrating(t)
	r.put(catalog.Attachment{ID: uuid.NewString(), VolumeID: v.ID, Export: "e"})
	r.want(400, "DELETE /v3/volumes/"+v.ID, "", nil)
	r.want(400, "POST /v1/attachments", `{"volume": "`+v.ID+`", "read_only": "perhaps"}`, nil)
	if len(r.migrations.calls) > 0 {
		t.Errorf("%v", r.migrations.calls)
	}
}

func TestMigrationView(t *testing.T) {
	r := newRig(t)
	vol := newVolume(nil)
	r.put(vol)
	at := time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC)
	v := migration.View{
		Role: "source",
		Migration: catalog.Migration{
			ID: uuid.NewString(), VolumeID: vol.ID, TargetID: "t", SourceHost: "a@b#c", TargetHost: "d@e#f",
			State: catalog.StateSucceeded, Attempt: 2, PreviousStatus: catalog.StatusAvailable, ForceHostCopy: true, LockVolume: true,
			ChunkSize: 1 << 20, Algorithm: "xxh3-128", Root: "00ff", Class: "device-direct", KeepSource: true, Reason: "why",
			CreatedAt: at, UpdatedAt: at.Add(time.Minute), FinishedAt: at.Add(time.Hour),
			Events: []catalog.Event{{At: at, State: "accepted", Message: "hello"}},
		},
		Progress: transfer.ProgressSnapshot{
			Phase: "done", TotalBytes: 10, VerifiedBytes: 9, ZeroBytes: 8, SentBytes: 7, ResumedBytes: 6, DataChunks: 5,
			ZeroChunks: 4, Mismatches: 3, BytesPerSecond: 2.5, ETA: 1500 * time.Millisecond, Started: at,
		},
		ReadBackBytes: 2,
	}
	r.migrations.views[v.ID] = v
	want := client.Migration{
		ID: v.ID, VolumeID: vol.ID, VolumeName: "v", TargetID: "t", SourceHost: "a@b#c", TargetHost: "d@e#f",
		State: "succeeded", Status: "success", PreviousStatus: "available", ForceHostCopy: true, LockVolume: true, Attempt: 2,
		Final: true, Outcome: "succeeded", Reason: "why", Root: "00ff", Algorithm: "xxh3-128", ChunkSize: 1 << 20,
		Class: "device-direct", SourceKept: true, Role: "source",
		Progress: client.Progress{
			Phase: "done", TotalBytes: 10, VerifiedBytes: 9, ZeroBytes: 8, SentBytes: 7, ResumedBytes: 6, DataChunks: 5,
			ZeroChunks: 4, Mismatches: 3, BytesPerSecond: 2.5, ETASeconds: 1.5, StartedAt: at,
		},
		ReadBackBytes: 2,

		Events:    []client.Event{{At: at, State: "accepted", Message: "hello"}},
		CreatedAt: at, UpdatedAt: at.Add(time.Minute), FinishedAt: at.Add(time.Hour),
	}
	var got client.MigrationAnswer
	r.want(200, "GET /v1/migrations/"+v.ID, "", &got)
	if fmt.Sprintf("%+v", got.Migration) != fmt.Sprintf("%+v", want) {
		t.Errorf("got  %+v\nwant %+v", got.Migration, want)
	}
	var events client.EventsAnswer
	r.want(200, "GET /v1/migrations/"+v.ID+"/events", "", &events)
	if len(events.Events) != 1 || events.Events[0].Message != "hello" {
		t.Errorf("%+v", events)
	}
}

// TestNameAfterTheHandover: the volume is at the target, the source still knows its name.
func TestNameAfterTheHandover(t *testing.T) {
	r := newRig(t)
	v := half("source", uuid.NewString(), catalog.StateDisposing, 0)
	v.Record = &catalog.Volume{DisplayName: "db"}
	r.migrations.views[v.ID] = v
	var got client.MigrationAnswer
	r.want(200, "GET /v1/migrations/"+v.ID, "", &got)
	if got.Migration.VolumeName != "db" {
		t.Errorf("%q", got.Migration.VolumeName)
	}
	named := newVolume(func(n *catalog.Volume) { n.ID, n.DisplayName = v.VolumeID, "renamed" })
	r.put(named)
	if r.want(200, "GET /v1/migrations/"+v.ID, "", &got); got.Migration.VolumeName != "renamed" {
		t.Errorf("%q", got.Migration.VolumeName)
	}
}

func TestStatesInCindersWords(t *testing.T) {
	for _, c := range []struct{ role, state, status, outcome string }{
		{"source", "accepted", "starting", ""}, {"source", "preparing", "migrating", ""}, {"source", "copying", "migrating", ""},
		{"source", "readying", "completing", ""}, {"source", "committing", "completing", ""},
		{"source", "disposing", "success", ""}, {"source", "renaming", "success", ""}, {"source", "forgetting", "success", ""},
		{"source", "succeeded", "success", "succeeded"}, {"source", "aborting", "error", ""}, {"source", "failed", "error", "failed"},
		{"target", "preparing", "migrating", ""}, {"target", "prepared", "migrating", ""}, {"target", "ready", "completing", ""},
		{"target", "in-doubt", "completing", ""}, {"target", "committed", "success", "succeeded"},
		{"target", "aborting", "error", ""}, {"target", "aborted", "error", "failed"},
	} {
		v := migration.View{Role: c.role, Migration: catalog.Migration{State: catalog.MigrationState(c.state)}}
		if string(cinderStatus(v)) != c.status || outcome(v) != c.outcome {
			t.Errorf("%s %s: %s %q", c.role, c.state, cinderStatus(v), outcome(v))
		}
	}
}

func TestListMigrations(t *testing.T) {
	r := newRig(t)
	var empty client.MigrationsAnswer
	if w := r.want(200, "GET /v1/migrations", "", &empty); !strings.Contains(w.Body.String(), `"migrations":[]`) {
		t.Error(w.Body)
	}
	for id, state := range map[string]catalog.MigrationState{"a": catalog.StateCopying, "b": catalog.StateFailed} {
		r.migrations.views[id] = migration.View{Role: "source", Migration: catalog.Migration{
			ID: id, VolumeID: "vol-" + id, State: state, Events: []catalog.Event{{Message: "long"}},
		}}
	}
	for query, want := range map[string]int{"": 2, "?active=true": 1, "?active=False": 2, "?volume=vol-b": 1, "?volume=vol-b&active=1": 0} {
		var list client.MigrationsAnswer
		r.want(200, "GET /v1/migrations"+query, "", &list)
		if len(list.Migrations) != want {
			t.Errorf("%s: %d", query, len(list.Migrations))
		}
		for _, m := range list.Migrations {
			if m.Events != nil {
				t.Errorf("%s: the list has histories", query)
			}
		}
	}
}

// TestWait: a long poll takes what was asked for, at most a minute, and ends at once when the server closes.
func TestWait(t *testing.T) {
	outside := newRig(t)
	id := uuid.NewString()
	outside.migrations.views[id] = migration.View{Role: "source", Migration: catalog.Migration{ID: id, State: catalog.StateCopying}}
	for query, want := range map[string]time.Duration{
		"?since=copying":              defaultWait,
		"?since=copying&timeout=5s":   5 * time.Second,
		"?since=copying&timeout=0s":   0,
		"?since=copying&timeout=1h":   client.MaxWait,
		"?since=preparing&timeout=5s": 0,
		"?timeout=5s":                 0,
	} {
		synctest.Test(t, func(t *testing.T) {
			s, err := New(outside.o)
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			(&rig{Server: s, t: t}).want(200, "GET /v1/migrations/"+id+"/wait"+query, "", nil)
			if took := time.Since(began); took != want {
				t.Errorf("%s: %s, want %s", query, took, want)
			}
			if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		s, err := New(outside.o)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		done := make(chan int)
		go func() {
			done <- (&rig{Server: s, t: t}).ask(root, "GET /v1/migrations/"+id+"/wait?since=copying", "").Code
		}()
		synctest.Wait()
		if err := s.Close(t.Context()); err != nil || <-done != 200 || time.Since(began) != 0 {
			t.Errorf("close: %v after %s", err, time.Since(began))
		}
	})
}

func TestManifest(t *testing.T) {
	r := newRig(t)
	vol := newVolume(nil)
	id := uuid.NewString()
	r.migrations.path = filepath.Join(t.TempDir(), id+".manifest")
	g := transfer.Geometry{VolumeSize: 4 << 20, ChunkSize: 1 << 20, Algorithm: transfer.XXH3_128}
	f, err := os.Create(r.migrations.path)
	if err != nil {
		t.Fatal(err)
	}
	created := time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC)
	m, err := transfer.NewManifestWriter(f, transfer.ManifestHeader{Geometry: g, VolumeID: vol.ID, Class: transfer.DeviceDirect, Created: created})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Add(transfer.Run{First: 0, Count: 4, Zero: true}); err != nil {
		t.Fatal(err)
	}
	root, err := m.Finish()
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	var got client.ManifestAnswer
	r.want(200, "GET /v1/manifests/"+vol.ID, "", &got)
	want := client.Manifest{
		VolumeID: vol.ID, MigrationID: id, Root: root.String(), Algorithm: g.Algorithm.String(), ChunkSize: 1 << 20,
		VolumeSize: 4 << 20, Class: "device-direct", CreatedAt: created,
	}
	if got.Manifest != want {
		t.Errorf("got  %+v\nwant %+v", got.Manifest, want)
	}

	p, _ := os.ReadFile(r.migrations.path)
	p[len(p)-1] ^= 1
	if err := os.WriteFile(r.migrations.path, p, 0o600); err != nil {
		t.Fatal(err)
	}
	r.want(http.StatusInternalServerError, "GET /v1/manifests/"+vol.ID, "", nil)
	if err := os.Remove(r.migrations.path); err != nil {
		t.Fatal(err)
	}
	r.want(http.StatusInternalServerError, "GET /v1/manifests/"+vol.ID, "", nil)
}

func TestNodeRoutes(t *testing.T) {
	r := newRig(t)
	var v client.Version
	r.want(200, "GET /v1/version", "", &v)
	if v != (client.Version{Version: "1.2.3", Commit: "abc", API: "v1", Node: "node1", StoreID: r.store.ID()}) {
		t.Errorf("%+v", v)
	}
	w := r.want(200, "GET /v1/status", "", nil)
	for _, want := range []string{`"backends":[]`, `"peers":[]`, `"warnings":[]`, `"addresses":[]`, `"node":"node1"`} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s is missing in %s", want, w.Body)
		}
	}
	if w := r.want(200, "GET /metrics", "", nil); w.Body.String() != "up 1\n" {
		t.Error(w.Body)
	}
	r.o.Metrics = nil
	r.want(404, "GET /metrics", "", nil)
}
