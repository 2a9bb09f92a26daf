package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cvold/cvold/client"
)

// fake answers on a unix socket like an agent with these records.
type fake struct {
	t      *testing.T
	socket string
	server *httptest.Server

	mu          sync.Mutex
	volumes     []client.Volume
	migrations  []client.Migration
	attachments []client.Attachment
	// next are the answers to the waits to come, the last one for ever.
	next []client.Migration
	// refuse is the answer to a path that has this in it.
	refuse map[string]*client.Error
	// silent are the peers that do not answer.
	silent string
	// waiting is called before a wait is answered.
	waiting func()
	// health is the status of GET /v1/health.
	health int
	// accepted names the migration of the next os-migrate_volume.
	accepted string
	// cutBackup cuts the backup of the catalog off.
	cutBackup bool
	// asked are the changing calls, with their bodies.
	asked []string
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{t: t, socket: filepath.Join(t.TempDir(), "s"), refuse: map[string]*client.Error{}, accepted: migration1, health: 200}
	f.fill()
	f.listen()
	return f
}

func (f *fake) listen() {
	l, err := net.Listen("unix", f.socket)
	if err != nil {
		f.t.Fatal(err)
	}
	f.server = &httptest.Server{Listener: l, Config: &http.Server{Handler: f.guard(f.routes())}}
	f.server.Start()
	f.t.Cleanup(f.server.Close)
}

// guard refuses what is to be refused, and writes down what changes something.
func (f *fake) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if r.Method != http.MethodGet {
			var body json.RawMessage
			_ = json.NewDecoder(r.Body).Decode(&body)
			f.asked = append(f.asked, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+string(body)))
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		for part, refusal := range f.refuse {
			if strings.Contains(r.Method+" "+r.URL.Path, part) {
				answer(w, refusal.Code, refusal)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if body != nil {
		_ = json.NewEncoder(w).Encode(body)
	}
}

// one answers with the first that is chosen, or 404.
func one[T any](w http.ResponseWriter, all []T, chosen func(T) bool, wrap func(T) any) {
	if i := slices.IndexFunc(all, chosen); i >= 0 {
		answer(w, http.StatusOK, wrap(all[i]))
		return
	}
	answer(w, http.StatusNotFound, client.NewError(http.StatusNotFound, "It could not be found."))
}

// these keeps what is chosen.
func these[T any](all []T, chosen func(T) bool) []T {
	return slices.DeleteFunc(slices.Clone(all), func(v T) bool { return !chosen(v) })
}

func (f *fake) routes() *http.ServeMux {
	mux := http.NewServeMux()
	f.volumeRoutes(mux)
	f.migrationRoutes(mux)
	f.nodeRoutes(mux)
	f.typeRoutes(mux)
	f.surfaceRoutes(mux)
	return mux
}

func (f *fake) typeRoutes(mux *http.ServeMux) {
	fast := client.VolumeType{ID: typeA, Name: "fast", IsPublic: true, AccessIsPublic: true, VolumeTypeAdmin: &client.VolumeTypeAdmin{
		ExtraSpecs: map[string]string{"volume_backend_name": "ssd", "qos:x": "y"},
	}}
	all := []client.VolumeType{{ID: typeB, Name: "slow", Description: ptr("disks"), IsPublic: true, AccessIsPublic: true}, fast}
	mux.HandleFunc("GET /v3/types", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, client.VolumeTypesAnswer{VolumeTypes: all})
	})
	wrap := func(t client.VolumeType) any { return client.VolumeTypeAnswer{VolumeType: t} }
	mux.HandleFunc("GET /v3/types/{id}", func(w http.ResponseWriter, r *http.Request) {
		one(w, all, func(t client.VolumeType) bool { return t.ID == r.PathValue("id") }, wrap)
	})
	mux.HandleFunc("POST /v3/types", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, wrap(fast)) })
	mux.HandleFunc("PUT /v3/types/{id}", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, wrap(fast)) })
	mux.HandleFunc("DELETE /v3/types/{id}", func(w http.ResponseWriter, _ *http.Request) { answer(w, 202, nil) })
	mux.HandleFunc("POST /v3/types/{id}/extra_specs", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, client.ExtraSpecs{ExtraSpecs: map[string]string{"a": "b"}})
	})
	mux.HandleFunc("DELETE /v3/types/{id}/extra_specs/{key}", func(w http.ResponseWriter, _ *http.Request) { answer(w, 202, nil) })
}

func (f *fake) volumeRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /v3/volumes/detail", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(client.PartialHeader, f.silent)
		answer(w, 200, client.VolumesAnswer{Volumes: f.volumes})
	})
	mux.HandleFunc("GET /v3/volumes/{id}", func(w http.ResponseWriter, r *http.Request) {
		one(w, f.volumes, func(v client.Volume) bool { return v.ID == r.PathValue("id") },
			func(v client.Volume) any { return client.VolumeAnswer{Volume: v} })
	})
	mux.HandleFunc("POST /v3/volumes", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 202, client.VolumeAnswer{Volume: f.volumes[0]})
	})
	mux.HandleFunc("DELETE /v3/volumes/{id}", func(w http.ResponseWriter, _ *http.Request) { answer(w, 202, nil) })
	mux.HandleFunc("POST /v3/volumes/{id}/action", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(client.MigrationHeader, f.accepted)
		answer(w, 202, nil)
	})
}

func (f *fake) surfaceRoutes(mux *http.ServeMux) {
	mux.HandleFunc("PUT /v3/volumes/{id}", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, client.VolumeAnswer{Volume: f.volumes[0]})
	})
	mux.HandleFunc("POST /v3/volumes/{id}/metadata", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, client.VolumeMetadata{Metadata: map[string]string{"a": "b", "c": "d"}})
	})
	mux.HandleFunc("DELETE /v3/volumes/{id}/metadata/{key}", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, nil) })
	mux.HandleFunc("POST /v3/manageable_volumes", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 202, client.VolumeAnswer{Volume: f.volumes[0]})
	})
	mux.HandleFunc("GET /v3/manageable_volumes/detail", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, client.ManageableVolumesAnswer{Volumes: []client.ManageableVolume{
			{Reference: client.VolumeReference{SourceName: "old.img"}, Size: 1, SizeBytes: 1 << 20, SafeToManage: true, ManageableDetail: &client.ManageableDetail{}},
			{Reference: client.VolumeReference{SourceName: "volume-x"}, Size: 2, SizeBytes: 2 << 30, ManageableDetail: &client.ManageableDetail{
				ReasonNotSafe: ptr("it is the object of volume x"), CinderID: ptr("x")}},
		}})
	})
	mux.HandleFunc("GET /v3/os-services", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, client.ServicesAnswer{Services: []client.Service{
			{Binary: client.BinaryVolume, Host: "nodeA@hdd", Status: "disabled", State: "up", UpdatedAt: client.Time{Time: at(3)}, DisabledReason: ptr("disks")},
			{Binary: client.BinaryVolume, Host: "nodeB", Status: "enabled", State: "down"},
		}})
	})
	mux.HandleFunc("GET /v1/health", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, f.health, client.Health{Status: map[int]string{200: client.HealthDegraded, 503: client.HealthFailed}[f.health], Checks: []client.HealthCheck{
			{Name: "catalog", OK: true}, {Name: "backend nodeA@ssd", Message: "input/output error"},
		}})
	})
	mux.HandleFunc("PUT /v3/os-services/{verb}", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, map[string]any{}) })
	mux.HandleFunc("GET /v3/scheduler-stats/get_pools", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(client.PartialHeader, f.silent)
		answer(w, 200, client.PoolsAnswer{Pools: []client.Pool{
			{Name: "nodeA@hdd#hdd", Capabilities: &client.PoolCapabilities{
				VolumeBackendName: "hdd", StorageProtocol: "file", VendorName: "Open Source", PoolName: "hdd", BackendState: "up",
				TotalCapacityGB: 100, FreeCapacityGB: 62.5, AllocatedCapacityGB: 120, TotalVolumes: 3, ThinProvisioningSupport: true,
			}},
			{Name: "nodeB@ssd#ssd"},
		}})
	})
}

func (f *fake) migrationRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/migrations", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(client.PartialHeader, f.silent)
		answer(w, 200, client.MigrationsAnswer{Migrations: these(f.migrations, func(m client.Migration) bool {
			volume := r.FormValue("volume")
			return (volume == "" || volume == m.VolumeID) && (r.FormValue("active") == "" || !m.Final)
		})})
	})
	wrap := func(m client.Migration) any { return client.MigrationAnswer{Migration: m} }
	mux.HandleFunc("GET /v1/migrations/{id}", func(w http.ResponseWriter, r *http.Request) {
		one(w, f.migrations, func(m client.Migration) bool { return m.ID == r.PathValue("id") }, wrap)
	})
	mux.HandleFunc("GET /v1/migrations/{id}/wait", func(w http.ResponseWriter, r *http.Request) {
		if f.waiting != nil {
			f.waiting()
		}
		m := f.next[0]
		if len(f.next) > 1 {
			f.next = f.next[1:]
		}
		answer(w, 200, wrap(m))
	})
	mux.HandleFunc("GET /v1/migrations/{id}/events", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, client.EventsAnswer{Events: []client.Event{
			{At: at(1), State: "accepted", Message: "asked for by root"},
			{At: at(2), State: "copying", Message: "target is prepared"},
		}})
	})
	mux.HandleFunc("POST /v1/migrations/{id}/{verb}", func(w http.ResponseWriter, _ *http.Request) { answer(w, 202, nil) })
}

func (f *fake) catalogRoutes(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/catalog/rebuild", func(w http.ResponseWriter, r *http.Request) {
		var request client.RebuildRequest
		_ = json.NewDecoder(r.Body).Decode(&request)
		verdict := map[bool]string{true: client.RebuildPossible, false: client.Rebuilt}[request.DryRun]
		answer(w, 200, client.RebuildAnswer{Objects: []client.RebuildObject{
			{VolumeID: volumeA, Host: "nodeA@ssd#ssd", Object: "volume-" + volumeA, SizeBytes: 20 << 30, StoreID: "s0", Verdict: verdict},
			{VolumeID: volumeB, Host: "nodeA@hdd#hdd", Object: "volume-" + volumeB, SizeBytes: 512, StoreID: "s0", Verdict: client.RebuildRefused,
				Reason: "node nodeB owns the volume"},
		}})
	})
	mux.HandleFunc("GET /v1/catalog/backup", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "7")
		p := "catalog"
		if f.cutBackup {
			p = p[:3]
		}
		_, _ = io.WriteString(w, p)
	})
}

func (f *fake) nodeRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/attachments", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("volume") == "" {
			w.Header().Set(client.PartialHeader, f.silent)
		}
		answer(w, 200, client.AttachmentsAnswer{Attachments: these(f.attachments, func(a client.Attachment) bool {
			return r.FormValue("volume") == "" || r.FormValue("volume") == a.VolumeID
		})})
	})
	mux.HandleFunc("POST /v1/attachments", func(w http.ResponseWriter, r *http.Request) {
		var request client.ExportRequest
		a := f.attachments[0]
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			f.t.Error(err)
		}
		if request.Device {
			a.Device = "/dev/nbd0"
		}
		answer(w, 201, client.AttachmentAnswer{Attachment: a})
	})
	mux.HandleFunc("DELETE /v1/attachments/{id}", func(w http.ResponseWriter, _ *http.Request) { answer(w, 204, nil) })
	mux.HandleFunc("GET /v1/manifests/{id}", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, client.ManifestAnswer{Manifest: client.Manifest{
			VolumeID: volumeA, MigrationID: migration1, Root: rootHash, Algorithm: "xxh3-128", ChunkSize: 1 << 20,
			VolumeSize: 20 << 30, Class: "device-direct", CreatedAt: at(9),
		}})
	})
	mux.HandleFunc("GET /v1/version", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, client.Version{Version: "v1.2.3", Commit: "abc", API: "v1", Node: "nodeA", StoreID: "s1"})
	})
	mux.HandleFunc("GET /v1/config", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("section") == "nope" {
			answer(w, 404, map[string]any{"itemNotFound": map[string]any{"code": 404, "message": "this agent reads no section nope: there are DEFAULT, ssd"}})
			return
		}
		answer(w, 200, client.ConfigAnswer{Settings: []client.Setting{
			{Section: "DEFAULT", Key: "host", Value: "nodeA", Origin: "/etc/cvold/cvold.conf:2"},
			{Section: "ssd", Key: "ssd_password", Value: "***", Origin: "/etc/cvold/cvold.conf:7"},
			{Section: "cvold", Key: "admin_group", Origin: "default"},
		}})
	})
	f.catalogRoutes(mux)
	mux.HandleFunc("GET /v1/exports", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, client.ServedExportsAnswer{Exports: []client.ServedExport{
			{Name: "db", Kind: "attachment", AttachmentID: "a1", VolumeID: volumeA, Node: "nodeA",
				ExportCounts: client.ExportCounts{Reads: 3, BytesRead: 3 << 20, BytesWritten: 1 << 30},
				Clients:      []client.ExportClient{{Address: "192.0.2.9:41000", Certificate: "host9", Since: at(6)}}},
			{Name: "migration-" + migration1 + "-1", Kind: "migration", MigrationID: migration1, VolumeID: volumeB, Node: "nodeB", ReadOnly: true},
		}})
	})
	mux.HandleFunc("GET /v1/transfers", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, client.TransfersAnswer{Transfers: []client.Transfer{
			{ID: migration1, VolumeID: volumeA, VolumeName: "db", SourceHost: "nodeA@ssd#ssd", TargetHost: "nodeB@ssd#ssd", Node: "nodeA", Progress: copying(5)},
			{ID: migration2, VolumeID: volumeB, SourceHost: "nodeB@ssd#ssd", TargetHost: "nodeA@ssd#ssd", Node: "nodeB"},
		}})
	})
	f.limitRoutes(mux)
	mux.HandleFunc("GET /v1/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "event: hello\nid: 1\ndata: {\"kind\":\"hello\"}\n\n: still here\n\n")
		fmt.Fprintf(w, "event: volume\nid: 2\ndata: {\"kind\":\"volume\",\"id\":%q,\"deleted\":true}\n\n", r.FormValue("volume"))
	})
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, status()) })
}

func (f *fake) limitRoutes(mux *http.ServeMux) {
	all := []client.Limit{
		{Node: "nodeA", Kind: "node", Name: "nodeA", BytesPerSecond: 400 << 20, IOPS: 500, PassedBytes: 3 << 30, PassedOperations: 3072, WaitedSeconds: 7.5},
		{Node: "nodeA", Kind: "backend", Name: "ssd", PassedBytes: 3 << 30, PassedOperations: 3072},
		{Node: "nodeA", Kind: "background", Name: "background", BytesPerSecond: 32 << 20, PassedBytes: 1 << 30, PassedOperations: 1024, WaitedSeconds: 100},
		{Node: "nodeA", Kind: "migration", Name: migration1, VolumeID: volumeA, VolumeName: "db", TransferClass: "background", IOPS: 3},
		{Node: "nodeB", Kind: "node", Name: "nodeB"},
	}
	mux.HandleFunc("GET /v1/limits", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(client.PartialHeader, f.silent)
		answer(w, 200, client.LimitsAnswer{Limits: all})
	})
	for pattern, i := range map[string]int{"node": 0, "backends/{id}": 1, "migrations/{id}": 3} {
		mux.HandleFunc("PUT /v1/"+pattern+"/limit", func(w http.ResponseWriter, _ *http.Request) {
			answer(w, 200, client.LimitAnswer{Limit: all[i]})
		})
	}
	mux.HandleFunc("GET /v1/backends", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, client.BackendsAnswer{Backends: status().Backends})
	})
}

// The records of a fake.
const (
	volumeA    = "e2653267-9eb2-41aa-8899-03cbc50f3524"
	volumeB    = "125f6698-4325-4650-a1d1-b61ef894d281"
	volumeC    = "b166e7be-7b7e-4a7e-8889-4ecdbdb5e1ef"
	typeA      = "0b6f3ad2-3a0f-5e5b-8d0e-4f6a8e9c1d20"
	typeB      = "9d3c1e42-7c1b-5a3e-9c52-7d3f2f9a6b31"
	migration1 = "5b1d0c0e-2f38-4d0c-9a57-0d1f6c9e7a11"
	migration2 = "6c2e1d1f-3049-4e1d-8b68-1e207dafb822"
	rootHash   = "d04b98f48e8f8bcc15c6ae5ac050801cd6dcfd428fb5f9e65c4e16e7807340fa"
)

// at is a time on the hour.
func at(hour int) time.Time { return time.Date(2026, 11, 23, hour, 0, 0, 0, time.UTC) }

func ptr(s string) *string { return &s }

func (f *fake) fill() {
	f.volumes = []client.Volume{
		{ID: volumeA, Name: ptr("db"), Status: "in-use", Size: 20, SizeBytes: 20 << 30, VolumeType: ptr("fast"),
			CreatedAt: client.Time{Time: at(1)}, UpdatedAt: client.Time{Time: at(2)}, Metadata: map[string]string{"os": "debian", "app": "pg"},
			Attachments: []client.VolumeAttachment{{AttachmentID: "a1"}}, Owner: "nodeA",
			VolumeAdmin: &client.VolumeAdmin{Host: ptr("nodeA@ssd#ssd"), MigrationStatus: ptr("migrating")}},
		{ID: volumeB, Status: "error", Size: 1, SizeBytes: 512, StatusReason: "no space left in the back end",
			CreatedAt: client.Time{Time: at(1)}, VolumeAdmin: &client.VolumeAdmin{Host: ptr("nodeA@hdd#hdd")}},
		{ID: volumeC, Name: ptr("evil\x1b[31m\nname"), Status: "available", Size: 2},
	}
	f.migrations = []client.Migration{
		{ID: migration1, VolumeID: volumeA, VolumeName: "db", Role: "source", State: "copying", Status: "migrating",
			SourceHost: "nodeA@ssd#ssd", TargetHost: "nodeB@ssd#ssd", PreviousStatus: "available", Attempt: 2,
			CreatedAt: at(8), Algorithm: "xxh3-128", Progress: copying(5)},
		{ID: migration2, VolumeID: volumeA, Role: "target", State: "failed", Status: "error", Final: true, Outcome: "failed",
			SourceHost: "nodeC@ssd#ssd", TargetHost: "nodeA@ssd#ssd", Reason: "no space left at the target",
			CreatedAt: at(3), FinishedAt: at(4), LockVolume: true},
	}
	f.attachments = []client.Attachment{
		{ID: "a1", VolumeID: volumeA, Export: "db", Node: "nodeA", URI: "nbd+unix:///db?socket=/run/cvold/nbd.sock",
			TCPURI: "nbds://192.0.2.1:10809/db", CreatedAt: at(5)},
		{ID: "a2", VolumeID: volumeB, Export: "b-ro", ReadOnly: true, Node: "nodeA", URI: "nbd+unix:///b-ro?socket=/run/cvold/nbd.sock", CreatedAt: at(6)},
		{ID: "a3", VolumeID: volumeB, Export: "b", Node: "nodeA", URI: "nbd+unix:///b?socket=/run/cvold/nbd.sock", Device: "/dev/nbd3",
			Trouble: "no such NBD device", CreatedAt: at(7)},
	}
}

// copying is a copy of which so many of 20 GiB are verified.
func copying(gib int64) client.Progress {
	return client.Progress{
		Phase: "copy", TotalBytes: 20 << 30, VerifiedBytes: gib << 30, ZeroBytes: 1 << 30, SentBytes: gib << 30,
		BytesPerSecond: 256 << 20, ETASeconds: 60, StartedAt: at(8),
	}
}

// story is what becomes of migration 1: it is copied, then ends like this.
func (f *fake) story(end client.Migration) {
	first := f.migrations[0]
	more, readying := first, first
	more.Progress = copying(12)
	readying.State, readying.Progress, readying.ReadBackBytes = "readying", copying(20), 20<<30*37/100+1
	readying.Progress.Phase = ""
	end.ID, end.VolumeID, end.VolumeName, end.TargetHost = first.ID, first.VolumeID, first.VolumeName, first.TargetHost
	end.Final, end.CreatedAt, end.FinishedAt = true, first.CreatedAt, first.CreatedAt.Add(100*time.Second)
	f.next = []client.Migration{first, more, readying, end}
}

func succeeded() client.Migration {
	p := copying(20)
	p.SentBytes = 19 << 30
	return client.Migration{State: "succeeded", Status: "success", Outcome: "succeeded", Root: rootHash, Class: "device-direct", Progress: p}
}

func failed() client.Migration {
	return client.Migration{State: "failed", Status: "error", Outcome: "failed", Reason: "no space left at the target", Progress: copying(12)}
}

func status() client.Status {
	return client.Status{
		Node: "nodeA", StoreID: "s1", StartedAt: at(1),
		Backends: []client.BackendStatus{
			{Name: "ssd", Host: "nodeA@ssd#ssd", BackendName: "fast", Driver: "file", TotalBytes: 100 << 30, FreeBytes: 60 << 30},
			{Name: "hdd", Host: "nodeA@hdd#hdd", BackendName: "slow", Driver: "lvm", Error: "volume group is missing"},
		},
		Peers: []client.PeerStatus{
			{Node: "nodeB", Address: "192.0.2.2:8777", Reachable: true},
			{Node: "nodeC", Address: "192.0.2.3:8777", Error: "connection refused"}, {Node: "nodeD", Address: "192.0.2.4:8777"},
		},
		NBD: client.NBDStatus{Addresses: []string{"/run/cvold/nbd.sock", "192.0.2.1:10809"}}, View: "/run/cvold/view",
		Warnings: []string{"the certificate of nodeA ends in 5 days"},
	}
}

// result is what a run of cvol left.
type result struct {
	code           int
	stdout, stderr string
}

// cvol runs against the fake.
func (f *fake) cvol(ctx context.Context, args ...string) result {
	return cvol(ctx, append([]string{"--socket", f.socket}, args...)...)
}

func cvol(ctx context.Context, args ...string) result {
	var stdout, stderr strings.Builder
	code := run(ctx, args, strings.NewReader(""), &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// changes are the changing calls that were made.
func (f *fake) changes() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}
