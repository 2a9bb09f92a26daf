package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestClientCinder: the volumes of two nodes, by python-cinderclient.
func TestClientCinder(t *testing.T) {
	t.Parallel()
	s, a, b := stockClients(t, "cinder")
	made := properties(s.good(s.cinder("create", "--name", "db", "--metadata", "k=v", "--", "1")))
	id := made["id"]
	if made["status"] != "available" || made["size"] != "1" || made["metadata"] != "{'k': 'v'}" {
		t.Errorf("created: %v", made)
	}
	for _, by := range []string{"db", id} {
		s.show(by, map[string]string{"id": id, "name": "db", "metadata": "k : v", "migration_status": "None"})
	}
	host := s.show(id, nil)["os-vol-host-attr:host"]
	if list := rows(s.good(s.cinder("list"))); len(list) != 1 || list[0][0] != id || list[0][1] != "available" || list[0][2] != "db" {
		t.Errorf("list: %v", list)
	}
	s.good(s.cinder("extend", "db", "2"))
	s.good(s.cinder("metadata", "db", "set", "a=b"))
	s.good(s.cinder("metadata", "db", "unset", "k"))
	if got := properties(s.good(s.cinder("metadata-show", "db"))); len(got) != 1 || got["a"] != "b" {
		t.Errorf("metadata: %v", got)
	}
	s.good(s.cinder("rename", "db", "disk"))
	s.show(id, map[string]string{"name": "disk", "size": "2"})

	at := map[string]*node{a.host(): a, b.host(): b}
	for _, flags := range [][]string{nil, {"--force-host-copy", "True"}, {"--lock-volume", "True"}, {"--lock-volume", "False"}} {
		target := a.host()
		if at[host] == a {
			target = b.host()
		}
		args := append(append([]string{"migrate"}, flags...), id, target)
		s.says(s.cinder(args...), "has been accepted")
		s.settled(id, target)
		s.show(id, map[string]string{"os-vol-host-attr:host": target, "status": "available", "migration_status": "success"})
		host = target
	}
	s.says(s.cinder("migrate", id, host), "HTTP 400")
	s.says(s.cinder("migrate", id, "node1@nowhere#x"), "HTTP 400")
	s.good(s.cinder("delete", "disk"))
	if list := rows(s.good(s.cinder("list"))); len(list) > 0 {
		t.Errorf("left: %v", list)
	}
}

// TestClientCinderManage: an image that lies in the back end becomes a volume, of either node, and an object again.
func TestClientCinderManage(t *testing.T) {
	t.Parallel()
	s, a, b := stockClients(t, "cinder")
	for _, n := range []*node{a, b} {
		want := random(t, 1<<20)
		if err := os.WriteFile(filepath.Join(n.pool, "old.img"), want, 0o600); err != nil {
			t.Fatal(err)
		}
		list := rows(s.good(s.cinder("manageable-list", n.host())))
		if len(list) != 1 || list[0][0] != "{'source-name': 'old.img'}" || list[0][1] != "1" || list[0][2] != "True" {
			t.Errorf("manageable-list: %v", list)
		}
		made := properties(s.good(s.cinder("manage", "--name", n.name, n.host(), "old.img")))
		if made["status"] != "available" || made["size"] != "1" || made["os-vol-host-attr:host"] != n.host() {
			t.Errorf("managed: %v", made)
		}
		s.says(s.cinder("manage", n.host(), "old.img"), "HTTP 400")
		if list := rows(s.good(s.cinder("manageable-list", n.host()))); len(list) != 1 || list[0][2] != "False" || list[0][4] != made["id"] {
			t.Errorf("manageable-list: %v", list)
		}
		s.good(s.cinder("unmanage", made["id"]))
		s.says(s.cinder("show", made["id"]), "No volume with a name or ID")
		if got, err := os.ReadFile(filepath.Join(n.pool, "volume-"+made["id"])); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes are left, %v", len(got), err)
		}
	}
}

// TestClientCinderTypes: types, pools and services.
func TestClientCinderTypes(t *testing.T) {
	t.Parallel()
	s, a, _ := stockClients(t, "cinder")
	made := rows(s.good(s.cinder("type-create", "gold")))
	if len(made) != 1 || made[0][1] != "gold" {
		t.Fatalf("type-create: %v", made)
	}
	s.good(s.cinder("type-key", "gold", "set", "volume_backend_name=pool", "tier=1"))
	s.good(s.cinder("type-key", "gold", "unset", "tier"))
	specs := rows(s.good(s.cinder("extra-specs-list")))
	if len(specs) != 1 || specs[0][0] != made[0][0] || specs[0][2] != "{'volume_backend_name': 'pool'}" {
		t.Errorf("extra-specs-list: %v", specs)
	}
	if got := properties(s.good(s.cinder("type-show", "gold"))); got["id"] != made[0][0] || got["extra_specs"] != "volume_backend_name : pool" {
		t.Errorf("type-show: %v", got)
	}
	s.good(s.cinder("create", "--name", "v", "--volume-type", "gold", "1"))
	s.show("v", map[string]string{"volume_type": "gold", "volume_type_id": made[0][0]})
	s.good(s.cinder("create", "--name", "w", "1"))
	s.good(s.cinder("retype", "--migration-policy", "never", "w", "gold"))
	s.show("w", map[string]string{"volume_type": "gold"})
	s.says(s.cinder("retype", "--migration-policy", "never", "w", "nosuch"), "gold")
	s.says(s.cinder("type-delete", "gold"), "HTTP 400")
	s.good(s.cinder("delete", "v", "w"))
	s.good(s.cinder("type-delete", "gold"))
	if left := rows(s.good(s.cinder("type-list"))); len(left) > 0 {
		t.Errorf("left: %v", left)
	}

	if pools := s.good(s.cinder("get-pools")); !strings.Contains(pools, a.host()) {
		t.Errorf("get-pools: %s", pools)
	}
	if pool := properties(s.good(s.cinder("get-pools", "--detail"))); pool["volume_backend_name"] != "pool" || pool["storage_protocol"] == "" {
		t.Errorf("get-pools --detail: %v", pool)
	}
	s.good(s.cinder("service-disable", "--reason", "works", "node1@pool", "cinder-volume"))
	if got := s.service("node1@pool"); got[3] != "disabled" || got[7] != "works" {
		t.Errorf("disabled: %v", got)
	}
	s.good(s.cinder("service-enable", "node1@pool", "cinder-volume"))
	if got := s.service("node1@pool"); got[3] != "enabled" || got[4] != "up" {
		t.Errorf("enabled: %v", got)
	}
}

// service is the row of a host in cinder service-list.
func (s stock) service(host string) []string {
	s.n.t.Helper()
	for _, row := range rows(s.good(s.cinder("service-list"))) {
		if len(row) > 7 && row[1] == host {
			return row
		}
	}
	s.n.t.Fatalf("service-list has no %s", host)
	return nil
}

// TestClientCinderErrors: what cinder prints when it is refused is one sentence that says why.
func TestClientCinderErrors(t *testing.T) {
	t.Parallel()
	s, a, _ := stockClients(t, "cinder")
	s.good(s.cinder("create", "--name", "db", "1"))
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"show", "nosuch"}, "No volume with a name or ID of 'nosuch' exists"},
		{[]string{"create", "0"}, "HTTP 400"},
		{[]string{"create", "--volume-type", "nosuch", "1"}, "nosuch"},
		{[]string{"extend", "db", "1"}, "must be greater than current size"},
		{[]string{"snapshot-create", "db"}, "cvold has no snapshots"},
	} {
		refused := s.cinder(c.args...)
		if s.says(refused, c.want); refused.code == 0 {
			t.Errorf("%v: exit code 0", c.args)
		}
	}
	if os.Getuid() != 0 {
		t.Skip("only root can be another user")
	}
	nobody := s
	nobody.user = &syscall.Credential{Uid: 65534, Gid: 65534}
	if list := rows(nobody.good(nobody.cinder("list"))); len(list) != 1 || list[0][2] != "db" {
		t.Errorf("list of nobody: %v", list)
	}
	nobody.says(nobody.cinder("delete", "db"), "uid 65534 may only read volumes here")
	nobody.says(nobody.cinder("migrate", "db", a.host()), "uid 65534 may only read volumes here")
	s.show("db", map[string]string{"status": "available"})
}
