package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/client"
)

// pair is two agents; vol is at node2, and node1 has a stub of it if moved.
func pair(t *testing.T, moved bool) (a, b *rig, vol catalog.Volume) {
	a, b = newNode(t, "node1"), newNode(t, "node2")
	join(a, b)
	vol = newVolume(func(v *catalog.Volume) { v.Host, v.OwnerEpoch = "node2@fast#fast", 2 })
	b.put(vol)
	if moved {
		a.put(catalog.Stub{VolumeID: vol.ID, Node: "node2", Epoch: 2})
	}
	return a, b, vol
}

// TestAnyAgentAnswersForAll: each request about a volume of another node, known by a stub or found by asking, is answered
// by its owner.
func TestAnyAgentAnswersForAll(t *testing.T) {
	for _, moved := range []bool{true, false} {
		a, b, vol := pair(t, moved)
		var answer client.VolumeAnswer
		a.want(200, "GET /v3/p/volumes/"+vol.ID, "", &answer)
		if answer.Volume.ID != vol.ID || answer.Volume.Owner != "node2" || answer.Volume.Links[0].Href != "http://example.com/v3/p/volumes/"+vol.ID {
			t.Errorf("%+v", answer.Volume)
		}
		id := strings.TrimSpace(strings.SplitAfter(a.log.String(), "request_id=")[1])
		if !strings.Contains(b.log.String(), "from_request="+id) {
			t.Errorf("request %s is not found in the owner's log %s", id, b.log)
		}
		if w := a.ask(nobody, "GET /v3/volumes/"+vol.ID, ""); w.Code != 200 || strings.Contains(w.Body.String(), "node2") {
			t.Errorf("others get %d %s", w.Code, w.Body)
		}
		var attached client.AttachmentAnswer
		a.want(201, "POST /v1/attachments", `{"volume": "`+vol.ID+`", "read_only": true}`, &attached)
		if !attached.Attachment.ReadOnly || attached.Attachment.URI == "" {
			t.Errorf("%+v", attached)
		}
		w := a.want(409, "POST /v1/attachments", `{"volume": "`+vol.ID+`", "device": true}`, nil)
		if !strings.Contains(w.Body.String(), "at node node2") {
			t.Errorf("a block device of another node's volume: %s", w.Body)
		}
		var list client.AttachmentsAnswer
		a.want(200, "GET /v1/attachments?volume="+vol.ID, "", &list)
		if len(list.Attachments) != 1 {
			t.Errorf("%+v", list)
		}
		a.want(200, "GET /v1/attachments/"+attached.Attachment.ID, "", nil)
		a.want(204, "DELETE /v1/attachments/"+attached.Attachment.ID, "", nil)
		w = a.want(202, "POST /v3/volumes/"+vol.ID+"/action", `{"os-migrate_volume": {"host": "h"}}`, nil)
		if got := w.Header().Get(client.MigrationHeader); got != "migration of "+vol.ID {
			t.Errorf("the migration is named %q", got)
		}
		a.want(202, "DELETE /v3/volumes/"+vol.ID, "", nil)
		if len(a.volumes.calls)+len(a.migrations.calls) > 0 {
			t.Errorf("the wrong agent did %v %v", a.volumes.calls, a.migrations.calls)
		}
		if !slices.Contains(b.volumes.calls, "delete "+vol.ID) || !slices.ContainsFunc(b.migrations.calls, func(s string) bool {
			return strings.HasPrefix(s, "accept "+vol.ID)
		}) {
			t.Errorf("the owner did %v %v", b.volumes.calls, b.migrations.calls)
		}
	}
}

func TestCreateAtAnotherNode(t *testing.T) {
	a, b, _ := pair(t, false)
	a.want(202, "POST /v3/volumes", `{"volume": {"size": 1, "name": "far", "cvold:host": "node2@fast#fast"}}`, nil)
	if b.volumes.created.DisplayName != "far" || len(a.volumes.calls) > 0 {
		t.Errorf("%+v %v", b.volumes.created, a.volumes.calls)
	}
	w := b.ask(peerRoot, "POST /v3/volumes", `{"volume": {"size": 1, "cvold:host": "node1@fast#fast"}}`)
	if w.Code != http.StatusConflict || len(a.volumes.calls) > 0 {
		t.Errorf("forwarded twice: %d %s", w.Code, w.Body)
	}
}

// TestForwardedOnce: two agents that each think the other is the owner do not send a request round.
func TestForwardedOnce(t *testing.T) {
	a, b, _ := pair(t, false)
	id := uuid.NewString()
	a.put(catalog.Stub{VolumeID: id, Node: "node2", Epoch: 2})
	b.put(catalog.Stub{VolumeID: id, Node: "node1", Epoch: 2})
	for line, code := range map[string]int{"GET /v3/volumes/" + id: 404, "DELETE /v3/volumes/" + id: 409} {
		b.peers.calls = nil
		w := a.ask(root, line, "")
		if w.Code != code || !strings.Contains(w.Body.String(), "node1") {
			t.Errorf("%s: %d %s", line, w.Code, w.Body)
		}
		if len(b.peers.calls) > 0 {
			t.Errorf("%s went on: %v", line, b.peers.calls)
		}
	}
	if w := b.ask(peerRoot, "GET /v3/volumes/"+uuid.NewString(), ""); w.Code != 404 || len(b.peers.calls) > 0 {
		t.Errorf("an unknown id of a peer is asked for again: %d %v", w.Code, b.peers.calls)
	}
}

func TestUnknownEverywhere(t *testing.T) {
	a, _, _ := pair(t, false)
	id := uuid.NewString()
	a.want(404, "GET /v3/volumes/"+id, "", nil)
	a.peers.calls = nil
	a.want(404, "GET /v3/volumes/some-name", "", nil)
	if len(a.peers.calls) > 0 {
		t.Errorf("a name is asked of the peers: %v", a.peers.calls)
	}
	a.peers.errs["node3"] = errors.New("no route")
	w := a.want(503, "GET /v3/volumes/"+id, "", nil)
	if e := refusal(t, w); !strings.Contains(e.Message, "node3 does not answer") {
		t.Error(e.Message)
	}
}

func TestOwnerOutOfReach(t *testing.T) {
	r := newRig(t)
	id := uuid.NewString()
	r.put(catalog.Stub{VolumeID: id, Node: "node9", Epoch: 2})
	r.peers.errs["node9"] = errors.New("no route to host")
	e := refusal(t, r.want(503, "DELETE /v3/volumes/"+id, "", nil))
	if !strings.Contains(e.Message, "node9") || !strings.Contains(e.Message, "no route to host") {
		t.Error(e.Message)
	}
}

// TestListsMergePeers: duplicates go to the higher epoch, whoever has it.
func TestListsMergePeers(t *testing.T) {
	for _, epochs := range [][2]uint64{{1, 2}, {2, 1}} {
		a, b, far := pair(t, false)
		near := newVolume(nil)
		both := newVolume(func(v *catalog.Volume) { v.OwnerEpoch, v.DisplayName = epochs[0], "from node1" })
		a.put(near, both)
		both.OwnerEpoch, both.DisplayName = epochs[1], "from node2"
		b.put(both)
		var list client.VolumesAnswer
		w := a.want(200, "GET /v3/volumes/detail", "", &list)
		if got := w.Header().Get(partialHeader); got != "" || len(list.Volumes) != 3 {
			t.Errorf("partial %q: %d volumes", got, len(list.Volumes))
		}
		want := "from node1"
		if epochs[1] > epochs[0] {
			want = "from node2"
		}
		names := map[string]string{}
		for _, v := range list.Volumes {
			names[v.ID] = v.DisplayName()
		}
		if names[both.ID] != want || names[near.ID] == "" || names[far.ID] == "" {
			t.Errorf("epochs %v: %v", epochs, names)
		}
		if strings.Contains(w.Body.String(), "cvold:epochs") {
			t.Error("clients are told of epochs")
		}
		loser := map[string]string{"from node1": "from node2", "from node2": "from node1"}[want]
		var stale client.VolumesAnswer
		a.want(200, "GET /v3/volumes/detail?name="+url.QueryEscape(loser), "", &stale)
		if len(stale.Volumes) != 0 {
			t.Errorf("a filter brings the stale record: %+v", stale.Volumes)
		}
		var page client.VolumesAnswer
		a.want(200, "GET /v3/volumes/detail?limit=1&all_tenants=1", "", &page)
		if len(page.Volumes) != 1 || page.Volumes[0].ID != list.Volumes[0].ID {
			t.Errorf("limit is the peers' too: %+v", page.Volumes)
		}
	}
}

// TestPartialLists: a peer that fails, hangs or answers rubbish is named, and the list comes within its time.
func TestPartialLists(t *testing.T) {
	a, _, far := pair(t, false)
	near := newVolume(nil)
	a.put(near)
	a.peers.errs["node4"] = errors.New("no route")
	a.peers.errs["node3"] = nil // hangs
	a.peers.nodes["node5"] = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) })
	a.peers.nodes["node6"] = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	a.peers.nodes["node7"] = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) })
	began := time.Now()
	w := a.want(200, "GET /v3/volumes", "", nil)
	if took := time.Since(began); took > peerTimeout+2*time.Second {
		t.Errorf("took %s", took)
	}
	if got := w.Header().Get(partialHeader); got != "node3,node4,node5,node6,node7" {
		t.Errorf("partial: %q", got)
	}
	for _, id := range []string{near.ID, far.ID} {
		if !strings.Contains(w.Body.String(), id) {
			t.Errorf("%s is missing in %s", id, w.Body)
		}
	}
}

func TestPeerAnswerTooLong(t *testing.T) {
	a, _, _ := pair(t, false)
	a.peers.nodes["node3"] = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(peerVolumes{Volumes: []client.Volume{{ID: strings.Repeat("x", maxPeerAnswer)}}})
	})
	if got := a.want(200, "GET /v3/volumes", "", nil).Header().Get(partialHeader); got != "node3" {
		t.Errorf("partial: %q", got)
	}
}

// TestMigrationsOfOthers: found at the peer that has a half, commands at the source's.
func TestMigrationsOfOthers(t *testing.T) {
	a, b, vol := pair(t, false)
	id := uuid.NewString()
	b.migrations.views[id] = migration.View{Role: "source", Migration: catalog.Migration{
		ID: id, VolumeID: vol.ID, State: catalog.StateCopying, SourceHost: "node2@fast#fast",
	}}
	var m client.MigrationAnswer
	a.want(200, "GET /v1/migrations/"+id, "", &m)
	if m.Migration.ID != id || m.Migration.VolumeName != "v" {
		t.Errorf("%+v", m)
	}
	a.want(202, "POST /v1/migrations/"+id+"/abort", "", nil)
	a.want(202, "POST /v1/migrations/"+id+"/resolve", `{"owner": "node1"}`, nil)
	want := []string{"abort " + id + " aborted by uid 0 of node node1", "resolve " + id + " node1"}
	if !slices.Equal(b.migrations.calls, want) || len(a.migrations.calls) > 0 {
		t.Errorf("%v %v", b.migrations.calls, a.migrations.calls)
	}
	a.want(404, "GET /v1/migrations/"+uuid.NewString(), "", nil)

	// node1 has the target's half: it shows that, and sends an abort to the source.
	a.migrations.views[id] = migration.View{Role: "target", Migration: catalog.Migration{ID: id, State: "prepared", SourceHost: "node2"}}
	b.migrations.calls = nil
	a.want(200, "GET /v1/migrations/"+id, "", &m)
	if m.Migration.Role != "target" {
		t.Errorf("%+v", m)
	}
	a.want(202, "POST /v1/migrations/"+id+"/abort", "", nil)
	if len(b.migrations.calls) != 1 || len(a.migrations.calls) > 0 {
		t.Errorf("%v %v", b.migrations.calls, a.migrations.calls)
	}

	// A third node finds both halves, and prefers the source's.
	c := newNode(t, "node0")
	join(c, a)
	join(c, b)
	c.want(200, "GET /v1/migrations/"+id, "", &m)
	if m.Migration.Role != "source" {
		t.Errorf("%+v", m)
	}
}

// half is a migration as the agent with this role has it, created so many minutes after another.
func half(role, id string, state catalog.MigrationState, minute int) migration.View {
	return migration.View{Role: role, Migration: catalog.Migration{
		ID: id, VolumeID: "vol-" + id, State: state, CreatedAt: time.Date(2026, 11, 23, 4, minute, 0, 0, time.UTC),
	}}
}

// TestMigrationsOfAllNodes: both peers' and its own, each once, and by the same query.
func TestMigrationsOfAllNodes(t *testing.T) {
	a, b, c := newNode(t, "node1"), newNode(t, "node2"), newNode(t, "node3")
	join(a, b)
	join(a, c)
	a.migrations.views["own"] = half("source", "own", catalog.StateFailed, 1)
	b.migrations.views["both"] = half("source", "both", catalog.StateCopying, 3)
	c.migrations.views["both"] = half("target", "both", "prepared", 3)
	c.migrations.views["far"] = half("source", "far", catalog.StateCopying, 2)
	for query, want := range map[string]string{
		"": "both far own", "?active=true": "both far", "?volume=vol-far": "far", "?volume=vol-own&active=1": "", "?volume=nope": "",
	} {
		for _, r := range []*rig{a, b} {
			if r == b {
				b.peers.nodes["node3"] = c.Handler()
			}
			var list client.MigrationsAnswer
			w := r.want(200, "GET /v1/migrations"+query, "", &list)
			var got []string
			for _, m := range list.Migrations {
				got = append(got, m.ID)
				if m.Role != "source" {
					t.Errorf("%s: %s is the %s's", query, m.ID, m.Role)
				}
			}
			if strings.Join(got, " ") != want || w.Header().Get(partialHeader) != "" {
				t.Errorf("%s at %s: %v, want %s", query, r.o.Node, got, want)
			}
		}
	}
	var own client.MigrationsAnswer
	a.peers.calls = nil
	w := a.ask(peerRoot, "GET /v1/migrations", "")
	if err := json.Unmarshal(w.Body.Bytes(), &own); err != nil || len(own.Migrations) != 1 || len(a.peers.calls) > 0 {
		t.Errorf("a peer gets %s, asked %v", w.Body, a.peers.calls)
	}
	a.peers.errs["node4"] = errors.New("no route")
	if got := a.want(200, "GET /v1/migrations", "", &own).Header().Get(partialHeader); got != "node4" || len(own.Migrations) != 3 {
		t.Errorf("partial %q: %+v", got, own)
	}
}

// TestAttachmentsOfAllNodes: both peers' and its own, and each can be ended from here.
func TestAttachmentsOfAllNodes(t *testing.T) {
	a, b, c := newNode(t, "node1"), newNode(t, "node2"), newNode(t, "node3")
	join(a, b)
	join(a, c)
	ids := map[string]string{}
	for i, r := range []*rig{a, b, c} {
		ids[r.o.Node] = uuid.NewString()
		at := time.Date(2026, 11, 23, 4, i, 0, 0, time.UTC)
		r.put(catalog.Attachment{ID: ids[r.o.Node], VolumeID: uuid.NewString(), Export: "e", CreatedAt: at})
	}
	var list client.AttachmentsAnswer
	a.want(200, "GET /v1/attachments", "", &list)
	if len(list.Attachments) != 3 {
		t.Fatalf("%+v", list)
	}
	for i, node := range []string{"node3", "node2", "node1"} {
		if got := list.Attachments[i]; got.Node != node || got.ID != ids[node] {
			t.Errorf("%d: %+v", i, got)
		}
	}
	a.peers.calls = nil
	if w := a.ask(peerRoot, "GET /v1/attachments", ""); strings.Count(w.Body.String(), `"id"`) != 1 || len(a.peers.calls) > 0 {
		t.Errorf("a peer gets %s, asked %v", w.Body, a.peers.calls)
	}
	a.want(204, "DELETE /v1/attachments/"+ids["node3"], "", nil)
	if want := "unexport " + ids["node3"]; !slices.Contains(c.volumes.calls, want) {
		t.Errorf("node3 did %v", c.volumes.calls)
	}
	a.peers.errs["node4"] = errors.New("no route")
	if got := a.want(200, "GET /v1/attachments", "", &list).Header().Get(partialHeader); got != "node4" || len(list.Attachments) != 2 {
		t.Errorf("partial %q: %+v", got, list)
	}
}

func TestAloneThereIsNobodyToAsk(t *testing.T) {
	r := newRig(t)
	r.o.Peers = nil
	id := uuid.NewString()
	r.put(catalog.Stub{VolumeID: id, Node: "node2", Epoch: 2})
	r.want(404, "GET /v3/volumes/"+uuid.NewString(), "", nil)
	r.want(200, "GET /v3/volumes", "", nil)
	r.want(503, "GET /v3/volumes/"+id, "", nil)
	r.want(202, "POST /v3/volumes", `{"volume": {"size": 1, "cvold:host": "node2@b#p"}}`, nil) // the manager refuses it
}

// TestPeersAreAskedAtOnce: the time of a list is that of one peer, not of all of them.
func TestPeersAreAskedAtOnce(t *testing.T) {
	store := newRig(t) // its files are outside the bubble
	synctest.Test(t, func(t *testing.T) {
		peers := &fakePeers{from: "node1", nodes: map[string]http.Handler{}, errs: map[string]error{}}
		for _, n := range []string{"a", "b", "c", "d"} {
			peers.errs[n] = nil
		}
		o := store.o
		o.Peers = peers
		s, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		r := &rig{Server: s, t: t}
		began := time.Now()
		w := r.want(200, "GET /v3/volumes", "", nil)
		if took := time.Since(began); took != peerTimeout || w.Header().Get(partialHeader) != "a,b,c,d" {
			t.Errorf("took %s, partial %q", took, w.Header().Get(partialHeader))
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
