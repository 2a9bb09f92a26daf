package api

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cvold/cvold/client"
)

// TestManageAnObject over the real manager, with Cinder's field set: an object becomes a volume, and an object again.
func TestManageAnObject(t *testing.T) {
	r := withManager(t)
	var pool client.VolumeAnswer
	r.want(202, "POST /v3/volumes", `{"volume": {"cvold:size_bytes": 512, "cvold:host": "fast"}}`, &pool)
	v, err := r.volume(pool.Volume.ID)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(v.ProviderLocation)
	for _, name := range []string{"a.img", "b.img"} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, 4096), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w := r.want(200, "GET /v3/p/manageable_volumes?host=node1@fast%23fast&limit=1", "", nil)
	want := `{"manageable-volumes":[{"reference":{"source-name":"a.img"},"size":1,"cvold:size_bytes":4096,"safe_to_manage":true}]}`
	if strings.TrimSpace(w.Body.String()) != want {
		t.Errorf("%s", w.Body)
	}
	var list client.ManageableVolumesAnswer
	w = r.want(200, "GET /v3/os-volume-manage/detail?host=fast&marker=a.img", "", &list)
	if len(list.Volumes) != 2 || *list.Volumes[1].CinderID != v.ID || !strings.Contains(w.Body.String(), `"reason_not_safe":null,"cinder_id":null,"extra_info":null`) {
		t.Errorf("%s", w.Body)
	}
	var made client.VolumeAnswer
	r.want(202, "POST /v3/p/manageable_volumes", `{"volume": {"host": "node1@fast#fast", "ref": {"source-name": "a.img"}, "name": "db",
		"description": null, "volume_type": null, "availability_zone": null, "metadata": {"k": "v"}, "bootable": false}}`, &made)
	if m := made.Volume; m.Status != "available" || m.SizeBytes != 4096 || m.DisplayName() != "db" || m.Metadata["k"] != "v" || *m.TenantID != "p" {
		t.Errorf("%+v", m)
	}
	before := r.dump()
	r.want(400, "POST /v3/manageable_volumes", `{"volume": {"host": "node1@fast#fast", "ref": {"source-name": "a.img"}}}`, nil)
	r.want(400, "POST /v3/manageable_volumes", `{"volume": {"host": "node1@fast#fast", "ref": {"source-name": "../b.img"}}}`, nil)
	if r.dump() != before {
		t.Error("a refusal changed the records")
	}
	r.want(202, "POST /v3/volumes/"+made.Volume.ID+"/action", `{"os-unmanage": null}`, nil)
	r.want(404, "GET /v3/volumes/"+made.Volume.ID, "", nil)
	if _, err := os.Stat(filepath.Join(dir, "volume-"+made.Volume.ID)); err != nil {
		t.Error(err)
	}
}

// TestManageAtAPeer: what is asked for another node's host is asked there, once.
func TestManageAtAPeer(t *testing.T) {
	a, b := newRig(t), withManagerOf(t, "node2")
	join(a, b)
	a.want(200, "GET /v3/manageable_volumes?host=node2@fast%23fast", "", nil)
	w := a.want(400, "POST /v3/manageable_volumes", `{"volume": {"host": "node2@fast#fast", "ref": {"source-name": "lost"}}}`, nil)
	if !strings.Contains(w.Body.String(), "there is none of that name") {
		t.Errorf("%s", w.Body)
	}
	b.peers.nodes["node3"] = http.NotFoundHandler()
	if w := b.ask(peerRoot, "GET /v3/manageable_volumes?host=node3@a%23a", ""); w.Code != 404 || !strings.Contains(w.Body.String(), "node3") {
		t.Errorf("forwarded twice: %d %s", w.Code, w.Body)
	}
}
