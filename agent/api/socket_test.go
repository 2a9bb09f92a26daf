package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/client"
)

// asRoot skips what needs the right to become someone else.
func asRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("needs root, to start a process of another user")
	}
	t.Skip("needs root, to start a process of another user")
}

// TestCredentialsDecide: the kernel's word on real processes of other users, at a real socket.
func TestCredentialsDecide(t *testing.T) {
	asRoot(t)
	const group = 4242
	r := newRig(t)
	r.judge.groupName, r.judge.gid = "storage", group
	v := newVolume(func(v *catalog.Volume) { v.MigrationStatus = catalog.MigrationSuccess })
	r.put(v)
	socket := r.serve(t)
	lines := []string{
		"GET /v3/volumes/" + v.ID, "GET /v1/status", "GET /v1/migrations", "POST /v3/volumes", "DELETE /v3/volumes/" + v.ID,
	}
	before := r.dump()
	for name, c := range map[string]struct {
		cred  syscall.Credential
		codes []int
	}{
		"nobody":             {syscall.Credential{Uid: 65534, Gid: 65534}, []int{200, 403, 403, 403, 403}},
		"group 0 is no root": {syscall.Credential{Uid: 65534, Gid: 0}, []int{200, 403, 403, 403, 403}},
		"another group":      {syscall.Credential{Uid: 65534, Gid: 65534, Groups: []uint32{1, group + 1}}, []int{200, 403, 403, 403, 403}},
	} {
		if got := askAs(t, c.cred, socket, lines...); !slices.Equal(got, c.codes) {
			t.Errorf("%s: %v, want %v", name, got, c.codes)
		}
	}
	if r.dump() != before || len(r.volumes.calls) > 0 {
		t.Error("a refused request did something")
	}
	many := make([]uint32, 200) // more groups than the first guess of peerGroups
	for i := range many {
		many[i] = uint32(10000 + i)
	}
	for name, cred := range map[string]syscall.Credential{
		"its group":           {Uid: 65534, Gid: group},
		"supplementary group": {Uid: 65534, Gid: 65534, Groups: []uint32{1, group}},
		"among many groups":   {Uid: 65534, Gid: 65534, Groups: append(many, group)},
		"root":                {Uid: 0, Gid: 65534},
	} {
		// 400: let through, and then refused for its body
		if got := askAs(t, cred, socket, lines[:4]...); !slices.Equal(got, []int{200, 200, 200, 400}) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestClientSpeaksToServer uses package client over the real socket.
func TestClientSpeaksToServer(t *testing.T) {
	r := newRig(t)
	c := client.New(r.serve(t))
	defer c.Close()
	ctx := t.Context()
	name := "disk"
	v, err := c.CreateVolume(ctx, client.CreateVolume{Name: &name, SizeBytes: 4096, Host: "node1@fast#fast"})
	if err != nil || v.SizeBytes != 4096 || v.Size != 1 {
		t.Fatalf("%+v %v", v, err)
	}
	if got, err := c.Volume(ctx, "disk"); err != nil || got.ID != v.ID || got.Location() != "node1@fast#fast" {
		t.Errorf("%+v %v", got, err)
	}
	a, err := c.Export(ctx, v.ID, false)
	if err != nil || a.VolumeID != v.ID {
		t.Errorf("%+v %v", a, err)
	}
	if err := c.Unexport(ctx, a.ID); err != nil {
		t.Error(err)
	}
	id, err := c.MigrateVolume(ctx, v.ID, client.MigrateVolume{Host: "node1@slow#slow", LockVolume: true})
	if err != nil || id != "migration of "+v.ID {
		t.Errorf("%q %v", id, err)
	}
	var refused *client.Error
	if err := c.AbortMigration(ctx, "none"); !errors.As(err, &refused) || refused.Code != 404 || refused.Kind != "itemNotFound" {
		t.Errorf("%v", err)
	}
	if ver, err := c.Version(ctx); err != nil || ver.Node != "node1" {
		t.Errorf("%+v %v", ver, err)
	}
	if st, err := c.Status(ctx); err != nil || st.Node != "node1" {
		t.Errorf("%+v %v", st, err)
	}
}

func TestOtherListenersAreNobody(t *testing.T) {
	r := newRig(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- r.Serve(l) }()
	resp, err := http.Get("http://" + l.Addr().String() + "/v3/volumes")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 403 {
		t.Errorf("%d", resp.StatusCode)
	}
	http.DefaultClient.CloseIdleConnections()
	if err := r.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
