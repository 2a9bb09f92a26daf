package api

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/client"
	"github.com/cvold/cvold/dataplane/file"
	"github.com/cvold/cvold/nbd"
)

// The real parts are what the API needs.
var (
	_ Volumes    = (*volume.Manager)(nil)
	_ Types      = (*volume.Manager)(nil)
	_ Pools      = (*volume.Manager)(nil)
	_ Manager    = (*volume.Manager)(nil)
	_ Migrations = (*migration.Engine)(nil)
)

// withManager is a rig over the real volume manager, with two file back ends and an NBD server.
func withManager(t *testing.T) *rig { return withManagerOf(t, "node1") }

func withManagerOf(t *testing.T, node string) *rig {
	t.Helper()
	r := newNode(t, node)
	server := nbd.NewServer(nbd.ServerOptions{})
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "nbd"))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l, nbd.ListenOptions{}) }()
	o := volume.Options{Node: node, Store: r.store, NBD: server}
	for _, name := range []string{"fast", "slow"} {
		dir := filepath.Join(t.TempDir(), name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		d, err := file.New(file.Config{Name: name, Directory: dir})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
		o.Backends = append(o.Backends, volume.Backend{Name: name, BackendName: name, Pool: name, Driver: d})
	}
	m, err := volume.New(o)
	if err == nil {
		err = m.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		for _, close := range []func(context.Context) error{m.Close, server.Close} {
			if err := close(ctx); err != nil {
				t.Error(err)
			}
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	r.o.Volumes, r.o.Types, r.o.Pools, r.o.Manager = m, m, m, m
	return r
}

// TestLifeOfAVolume over the real manager and the real client types.
func TestLifeOfAVolume(t *testing.T) {
	r := withManager(t)
	r.put(catalog.Type{ID: "type-id", Name: "gold", ExtraSpecs: map[string]string{"volume_backend_name": "slow"}})
	var v client.VolumeAnswer
	r.want(202, "POST /v3/p/volumes", `{"volume": {"cvold:size_bytes": 4194304, "name": "disk", "volume_type": "gold", "metadata": {"a": "b"}}}`, &v)
	id := v.Volume.ID
	r.want(200, "GET /v3/p/volumes/"+id, "", &v)
	if v.Volume.Status != "available" || v.Volume.Location() != "node1@slow#slow" || *v.Volume.VolumeType != "gold" ||
		v.Volume.SizeBytes != 4<<20 || *v.Volume.TenantID != "p" || v.Volume.Metadata["a"] != "b" || !v.Volume.ConsumesQuota {
		t.Errorf("%+v", v.Volume)
	}

	var a client.AttachmentAnswer
	r.want(201, "POST /v1/attachments", `{"volume": "`+id+`"}`, &a)
	r.want(200, "GET /v3/volumes/"+id, "", &v)
	if v.Volume.Status != "in-use" || len(v.Volume.Attachments) != 1 || v.Volume.Attachments[0].AttachmentID != a.Attachment.ID {
		t.Errorf("%+v", v.Volume)
	}
	before := r.dump()
	r.want(400, "DELETE /v3/volumes/"+id, "", nil)
	r.want(409, "POST /v1/attachments", `{"volume": "`+id+`"}`, nil)
	r.want(400, "POST /v3/volumes", `{"volume": {"size": 1, "cvold:host": "node1@none#none"}}`, nil)
	r.want(400, "POST /v3/volumes", `{"volume": {"size": 1, "volume_type": "lead"}}`, nil)
	r.want(400, "POST /v3/volumes", `{"volume": {"cvold:size_bytes": 1000}}`, nil)
	if r.dump() != before {
		t.Error("a refusal changed the records")
	}

	r.want(204, "DELETE /v1/attachments/"+a.Attachment.ID, "", nil)
	r.want(202, "DELETE /v3/volumes/"+id, "", nil)
	if w := r.want(404, "GET /v3/volumes/"+id, "", nil); !strings.Contains(w.Body.String(), "could not be found") {
		t.Error(w.Body)
	}
	if strings.Contains(r.dump(), id) {
		t.Errorf("left over: %s", r.dump())
	}
}

// TestGuardsOfTheManager: what the manager refuses is refused with Cinder's code, and changes nothing.
func TestGuardsOfTheManager(t *testing.T) {
	r := withManager(t)
	for name, c := range map[string]struct {
		change func(*catalog.Volume)
		code   int
	}{
		"creating":    {func(v *catalog.Volume) { v.Status = catalog.StatusCreating }, 400},
		"maintenance": {func(v *catalog.Volume) { v.Status = catalog.StatusMaintenance }, 400},
		"migrating":   {func(v *catalog.Volume) { v.MigrationID = "m" }, 400},
	} {
		v := newVolume(c.change)
		r.put(v)
		before := r.dump()
		e := refusal(t, r.want(c.code, "DELETE /v3/volumes/"+v.ID, "", nil))
		if r.dump() != before || e.Message == "" {
			t.Errorf("%s: %s", name, e.Message)
		}
	}
	gone := newVolume(nil).ID
	r.put(catalog.Stub{VolumeID: gone, Node: "node2", Epoch: 3})
	if w := r.ask(peerRoot, "DELETE /v3/volumes/"+gone, ""); w.Code != 409 || !strings.Contains(w.Body.String(), "node2") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
