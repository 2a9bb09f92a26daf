package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/client"
)

// made is a volume of 4 KiB over the real manager.
func made(r *rig) string {
	var v client.VolumeAnswer
	r.want(202, "POST /v3/volumes", `{"volume": {"cvold:size_bytes": 4096, "name": "v", "metadata": {"a": "b"}}}`, &v)
	return v.Volume.ID
}

func TestExtend(t *testing.T) {
	r := withManager(t)
	id := made(r)
	act := "POST /v3/volumes/" + id + "/action"
	before := r.dump()
	for body, says := range map[string]string{
		`{"os-extend": {}}`:                                       "'new_size' or 'cvold:size_bytes' is needed",
		`{"os-extend": {"new_size": 0}}`:                          "is needed, above 0",
		`{"os-extend": {"new_size": "x"}}`:                        "whole number",
		`{"os-extend": {"new_size": 9000000000}}`:                 "9000000000 GiB is more",
		`{"os-extend": {"new_size": 2, "cvold:size_bytes": 512}}`: "another size",
		`{"os-extend": {"cvold:size_bytes": 4096}}`:               "New size for extend must be greater than current size. (current: 4096 bytes, extended: 4096 bytes).",
		`{"os-extend": {"cvold:size_bytes": 4097}}`:               "multiple of 512",
		`{"os-extend": {"cvold:size_bytes": -1}}`:                 "above 0",
		`{"os-extend": {"new_size": 2, "force": true}}`:           "'force' was unexpected",
	} {
		if e := refusal(t, r.want(400, act, body, nil)); !strings.Contains(e.Message, says) {
			t.Errorf("%s: %q does not say %q", body, e.Message, says)
		}
	}
	r.want(413, act, `{"os-extend": {"new_size": 1000000000}}`, nil)
	r.want(404, "POST /v3/volumes/none/action", `{"os-extend": {"new_size": 1}}`, nil)
	if r.dump() != before {
		t.Error("a refusal changed the records")
	}
	r.want(202, act, `{"os-extend": {"cvold:size_bytes": 8192}}`, nil)
	r.want(202, act, `{"os-extend": {"new_size": 1}}`, nil)
	var v client.VolumeAnswer
	r.want(200, "GET /v3/volumes/"+id, "", &v)
	if v.Volume.Size != 1 || v.Volume.SizeBytes != oneGiB || v.Volume.Status != "available" {
		t.Errorf("%+v", v.Volume)
	}
}

// TestExtendEndsAnUnlockedMigration, but not if it would be refused all the same; a locked one refuses.
func TestExtendEndsAnUnlockedMigration(t *testing.T) {
	r := newRig(t)
	v := newVolume(nil)
	r.put(v)
	act := "POST /v3/volumes/" + v.ID + "/action"
	r.want(400, act, `{"os-extend": {"new_size": 1}}`, nil)
	if len(r.migrations.calls) > 0 {
		t.Errorf("a migration was ended for nothing: %v", r.migrations.calls)
	}
	r.want(202, act, `{"os-extend": {"new_size": 2}}`, nil)
	if got := fmt.Sprint(r.migrations.calls, r.volumes.calls); !strings.Contains(got, "preempt "+v.ID) || !strings.Contains(got, "extend "+v.ID+" 2147483648") {
		t.Error(got)
	}
	r.migrations.preempt = func(context.Context, string) error { return migration.ErrLocked }
	r.want(400, act, `{"os-extend": {"new_size": 2}}`, nil)
}

func TestEditVolume(t *testing.T) {
	r := withManager(t)
	id := made(r)
	path := " /v3/volumes/" + id
	var v client.VolumeAnswer
	r.want(200, "PUT"+path, `{"volume": {"name": "w", "description": "d"}}`, &v)
	if v.Volume.DisplayName() != "w" || *v.Volume.Description != "d" || v.Volume.Metadata["a"] != "b" {
		t.Errorf("%+v", v.Volume)
	}
	v = client.VolumeAnswer{} // for Unmarshal adds to a map
	r.want(200, "PUT"+path, `{"volume": {"metadata": {"c": "d"}}}`, &v)
	if len(v.Volume.Metadata) != 1 || v.Volume.Metadata["c"] != "d" {
		t.Errorf("%+v", v.Volume)
	}
	steps := []struct {
		line, body, want string
	}{
		{"POST" + path + "/metadata", `{"metadata": {"e": "f"}}`, `{"metadata":{"c":"d","e":"f"}}`},
		{"GET" + path + "/metadata", "", `{"metadata":{"c":"d","e":"f"}}`},
		{"GET" + path + "/metadata/e", "", `{"meta":{"e":"f"}}`},
		{"PUT" + path + "/metadata/e", `{"meta": {"e": "g"}}`, `{"meta":{"e":"g"}}`},
		{"DELETE" + path + "/metadata/c", "", ""},
		{"GET" + path + "/metadata", "", `{"metadata":{"e":"g"}}`},
		{"PUT" + path + "/metadata", `{"metadata": {}}`, `{"metadata":{}}`},
	}
	for _, s := range steps {
		if w := r.want(200, s.line, s.body, nil); strings.TrimSpace(w.Body.String()) != s.want {
			t.Errorf("%s: %s, want %s", s.line, w.Body, s.want)
		}
	}
}

func TestRefusedEdits(t *testing.T) {
	r := withManager(t)
	id := made(r)
	before := r.dump()
	for _, c := range []struct {
		line, body string
		code       int
		says       string
	}{
		{"PUT /v3/volumes/VOL", `{"volume": {}}`, 400, "At least one"},
		{"PUT /v3/volumes/VOL", `{"volume": {"name": null}}`, 400, "At least one"},
		{"PUT /v3/volumes/VOL", `{"volume": {"name": "` + long + `"}}`, 400, "255"},
		{"PUT /v3/volumes/VOL", `{"volume": {"size": 2}}`, 400, "'size' was unexpected"},
		{"PUT /v3/volumes/none", `{"volume": {"name": "x"}}`, 404, "Volume none could not be found."},
		{"POST /v3/volumes/VOL/metadata", `{}`, 400, "'metadata' is a required property"},
		{"POST /v3/volumes/VOL/metadata", `{"metadata": {"": "x"}}`, 400, "1 to 255"},
		{"POST /v3/volumes/VOL/metadata", `{"metadata": {"a": 1}}`, 400, "metadata"},
		{"PUT /v3/volumes/none/metadata", `{"metadata": {}}`, 404, "Volume none could not be found."},
		{"GET /v3/volumes/VOL/metadata/x", "", 404, "no metadata with key x"},
		{"GET /v3/volumes/none/metadata", "", 404, "Volume none could not be found."},
		{"PUT /v3/volumes/VOL/metadata/x", `{"meta": {"y": "z"}}`, 400, "'y' was unexpected"},
		{"PUT /v3/volumes/VOL/metadata/x", `{}`, 400, "VALUE"},
		{"DELETE /v3/volumes/VOL/metadata/x", "", 404, "no metadata with key x"},
		{"POST /v3/snapshots", `{"snapshot": {"volume_id": "VOL"}}`, 400, "cvold has no snapshots"},
		{"GET /v3/snapshots/x", "", 404, "Snapshot x could not be found."},
		{"DELETE /v3/snapshots/x", "", 404, "Snapshot x could not be found."},
	} {
		e := refusal(t, r.want(c.code, strings.Replace(c.line, "VOL", id, 1), c.body, nil))
		if !strings.Contains(e.Message, c.says) {
			t.Errorf("%s %s: %q does not say %q", c.line, c.body, e.Message, c.says)
		}
	}
	if r.dump() != before {
		t.Error("a refusal changed the records")
	}
	if w := r.want(200, "GET /v3/snapshots/detail", "", nil); strings.TrimSpace(w.Body.String()) != `{"snapshots":[]}` {
		t.Error(w.Body)
	}
}

// TestHiddenMetadata: who is no admin does not see the aids of migrations by their metadata either.
func TestHiddenMetadata(t *testing.T) {
	r := newRig(t)
	v := newVolume(func(v *catalog.Volume) { v.MigrationStatus, v.Metadata = "target:x", map[string]string{"a": "b"} })
	r.put(v)
	for _, path := range []string{"", "/metadata", "/metadata/a"} {
		if w := r.ask(nobody, "GET /v3/volumes/"+v.ID+path, ""); w.Code != 404 {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
		r.want(200, "GET /v3/volumes/"+v.ID+path, "", nil)
	}
}

// withServices is a rig over the real manager whose back ends have services.
func withServices(t *testing.T) *rig {
	r := withManager(t)
	r.put(catalog.Service{Host: "node1@fast", UUID: "1"}, catalog.Service{Host: "node1@slow", UUID: "2"}, catalog.Service{Host: "node1@gone", UUID: "3"})
	return r
}

func (r *rig) services(query string) string {
	r.t.Helper()
	var all client.ServicesAnswer
	r.want(200, "GET /v3/os-services"+query, "", &all)
	var words []string
	for _, s := range all.Services {
		words = append(words, s.Host+"="+s.Status+"/"+s.State)
	}
	return strings.Join(words, " ")
}

func TestServices(t *testing.T) {
	a, b := withServices(t), newNode(t, "node2")
	join(a, b)
	b.put(catalog.Service{Host: "node2@x", UUID: "4"})
	a.peers.errs["node3"] = errors.New("no route to host")
	own := "node1@fast=enabled/up node1@gone=enabled/down node1@slow=enabled/up"
	for query, want := range map[string]string{
		"":                                      own + " node2@x=enabled/down node3=enabled/down",
		"?binary=cinder-volume":                 own + " node2@x=enabled/down node3=enabled/down",
		"?binary=cinder-scheduler":              "",
		"?host=node1":                           own,
		"?host=node1@slow&binary=cinder-volume": "node1@slow=enabled/up",
	} {
		if got := a.services(query); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	a.want(400, "GET /v3/os-services?colour=red", "", nil)

	w := a.want(200, "PUT /v3/os-services/disable-log-reason", `{"host": "node1@slow", "binary": "cinder-volume", "disabled_reason": "disks"}`, nil)
	if got := strings.TrimSpace(w.Body.String()); got != `{"binary":"cinder-volume","disabled":true,"disabled_reason":"disks","host":"node1@slow","service":"cinder-volume","status":"disabled"}` {
		t.Error(got)
	}
	if got := a.services("?host=node1@slow"); got != "node1@slow=disabled/up" {
		t.Error(got)
	}
	a.want(200, "PUT /v3/os-services/enable", `{"host": "node1@slow", "binary": "cinder-volume"}`, nil)
	a.want(200, "PUT /v3/os-services/disable", `{"host": "node2@x", "binary": "cinder-volume"}`, nil)
	if got := a.services("?host=node2"); got != "node2@x=disabled/down" {
		t.Error(got)
	}
}

func TestRefusedServices(t *testing.T) {
	r := withServices(t)
	before := r.dump()
	for _, c := range []struct {
		verb, body string
		code       int
	}{
		{"enable", `{}`, 400},
		{"enable", `{"host": "node1@none"}`, 404},
		{"enable", `{"host": "node9@fast"}`, 404},
		{"enable", `{"host": "node1@fast", "binary": "cinder-backup"}`, 404},
		{"enable", `{"host": "node1@fast", "disabled_reason": "x"}`, 400},
		{"disable-log-reason", `{"host": "node1@fast", "disabled_reason": " "}`, 400},
		{"disable-log-reason", `{"host": "node1@fast", "disabled_reason": "` + long + `"}`, 400},
		{"freeze", `{"host": "node1@fast"}`, 404},
	} {
		if e := refusal(t, r.want(c.code, "PUT /v3/os-services/"+c.verb, c.body, nil)); e.Message == "" {
			t.Errorf("%s %s: no word", c.verb, c.body)
		}
	}
	if r.dump() != before {
		t.Error("a refusal changed the records")
	}
}

func TestPools(t *testing.T) {
	a, b := withManager(t), newNode(t, "node2")
	join(a, b)
	a.peers.errs["node3"] = errors.New("no route to host")
	made(a)
	var short, all client.PoolsAnswer
	w := a.want(200, "GET /v3/scheduler-stats/get_pools", "", &short)
	if strings.Contains(w.Body.String(), "capabilities") || len(short.Pools) != 2 || w.Header().Get(client.PartialHeader) != "node3" {
		t.Errorf("%s %v", w.Body, w.Header())
	}
	a.want(200, "GET /v3/scheduler-stats/get_pools?detail=True", "", &all)
	var volumes int
	for _, p := range all.Pools {
		c := p.Capabilities
		volumes += c.TotalVolumes
		if c.StorageProtocol != "file" || c.BackendState != "up" || c.TotalCapacityGB <= 0 || c.FreeCapacityGB <= 0 || !c.ThinProvisioningSupport {
			t.Errorf("%s: %+v", p.Name, c)
		}
	}
	if volumes != 1 || all.Pools[0].Name != "node1@fast#fast" {
		t.Errorf("%+v", all)
	}
	a.want(200, "GET /v3/scheduler-stats/get_pools?name=node1@slow%23slow", "", &short)
	if len(short.Pools) != 1 {
		t.Errorf("%+v", short)
	}
	a.want(200, "GET /v3/scheduler-stats/get_pools?backend_name=fast&detail=1", "", &short)
	if len(short.Pools) != 1 {
		t.Errorf("%+v", short)
	}
	for _, query := range []string{"?detail=maybe", "?colour=red"} {
		a.want(400, "GET /v3/scheduler-stats/get_pools"+query, "", nil)
	}
}

func FuzzEditBodies(f *testing.F) {
	f.Add([]byte(`{"volume": {"name": "n", "metadata": {"a": "b"}}}`))
	f.Add([]byte(`{"os-extend": {"new_size": "3", "cvold:size_bytes": 7}}`))
	f.Add([]byte(`{"meta": {"a": "b"}}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		var e volume.Edit
		harmless(t, decodeBody(p, fields{"volume": object("volume", fields{
			"name": textOrNull("name", &e.DisplayName), "metadata": metadata("metadata", &e.Set),
		})}))
		a, err := decodeAction(p)
		harmless(t, err)
		if b, ok := a.(*extendBody); ok && err == nil {
			if size, err := b.bytes(); err != nil || size <= 0 {
				t.Fatalf("size %d, %v", size, err)
			}
		}
	})
}
