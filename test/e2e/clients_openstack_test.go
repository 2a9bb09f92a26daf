package e2e

import (
	"context"
	"net"
	"net/http"
	"slices"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/noauth"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/schedulerstats"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/services"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumetypes"
)

// shown is some of what openstack volume show prints.
type shown struct {
	ID         string
	Name       string
	Status     string
	Size       int
	Type       *string
	Host       string `json:"os-vol-host-attr:host"`
	Properties map[string]string
}

// TestClientOpenStack: a volume, a type and a service by python-openstackclient.
func TestClientOpenStack(t *testing.T) {
	t.Parallel()
	s, a, b := stockClients(t, "openstack")
	var made shown
	s.facts(&made, "volume", "create", "--size", "1", "--property", "k=v", "db")
	if made.Name != "db" || made.Status != "available" || made.Size != 1 || made.Properties["k"] != "v" {
		t.Errorf("created: %+v", made)
	}
	s.good(s.openstack("volume", "set", "--name", "disk", "--property", "a=b", "--size", "2", "db"))
	s.good(s.openstack("volume", "unset", "--property", "k", "disk"))
	s.good(s.openstack("volume", "type", "create", "--property", "volume_backend_name=pool", "--property", "tier=1", "gold"))
	s.good(s.openstack("volume", "type", "unset", "--property", "tier", "gold"))
	var gold struct{ Properties map[string]string }
	s.facts(&gold, "volume", "type", "show", "gold")
	if len(gold.Properties) != 1 || gold.Properties["volume_backend_name"] != "pool" {
		t.Errorf("type: %+v", gold)
	}
	s.good(s.openstack("volume", "set", "--type", "gold", "--retype-policy", "never", "disk"))
	var now shown
	s.facts(&now, "volume", "show", "disk")
	if now.ID != made.ID || now.Size != 2 || len(now.Properties) != 1 || now.Properties["a"] != "b" || now.Type == nil || *now.Type != "gold" {
		t.Errorf("changed: %+v", now)
	}
	s.says(s.openstack("volume", "set", "--type", "gold", "--retype-policy", "never", "disk"), "has the volume type gold already")
	s.says(s.openstack("volume", "show", "nosuch"), "No volume with a name or ID of 'nosuch' exists")
	s.says(s.openstack("volume", "migrate", "--host", "node1@nowhere#x", "disk"), "HTTP 400")
	s.good(s.openstack("volume", "delete", "disk"))
	s.good(s.openstack("volume", "type", "delete", "gold"))

	s.facts(&made, "volume", "create", "--size", "1", "moves")
	target := b.host()
	if made.Host == target {
		target = a.host()
	}
	s.good(s.openstack("volume", "migrate", "--host", target, "moves"))
	s.settled(made.ID, target)
	var list []struct{ ID, Name string }
	s.facts(&list, "volume", "list")
	if len(list) != 1 || list[0].ID != made.ID || list[0].Name != "moves" {
		t.Errorf("list: %+v", list)
	}
	s.good(s.openstack("volume", "service", "set", "--disable", "node1@pool", "cinder-volume"))
	var known []struct{ Host, Status string }
	s.facts(&known, "volume", "service", "list")
	if !slices.Contains(known, struct{ Host, Status string }{"node1@pool", "disabled"}) {
		t.Errorf("services: %v", known)
	}
}

// TestClientGophercloud: the calls of gophercloud, over TCP and over the unix socket.
func TestClientGophercloud(t *testing.T) {
	t.Parallel()
	s, a, _ := stockClients(t)
	for name, dial := range map[string]func(ctx context.Context, network, address string) (net.Conn, error){
		"tcp": (&net.Dialer{}).DialContext,
		"unix": func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", a.socket)
		},
	} {
		transport := &http.Transport{DialContext: dial, DisableKeepAlives: true}
		provider, err := noauth.NewClient(gophercloud.AuthOptions{Username: "admin", TenantName: "admin"})
		if err != nil {
			t.Fatal(err)
		}
		provider.HTTPClient = http.Client{Transport: transport}
		c, err := noauth.NewBlockStorageNoAuthV3(provider, noauth.EndpointOpts{CinderEndpoint: "http://" + s.at + "/v3"})
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) { gopher(t, c, a) })
	}
}

// gopher does all that a volume can go through at a node.
func gopher(t *testing.T, c *gophercloud.ServiceClient, n *node) {
	ctx := n.context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	gold, err := volumetypes.Create(ctx, c, volumetypes.CreateOpts{Name: "gold"}).Extract()
	must(err)
	specs := volumetypes.ExtraSpecsOpts{"volume_backend_name": "pool"}
	_, err = volumetypes.CreateExtraSpecs(ctx, c, gold.ID, specs).Extract()
	must(err)
	v, err := volumes.Create(ctx, c, volumes.CreateOpts{Name: "g", Size: 1}, nil).Extract()
	must(err)
	must(volumes.ChangeType(ctx, c, v.ID, volumes.ChangeTypeOpts{NewType: "gold", MigrationPolicy: volumes.MigrationPolicyNever}).ExtractErr())
	must(volumes.ExtendSize(ctx, c, v.ID, volumes.ExtendSizeOpts{NewSize: 2}).ExtractErr())
	v, err = volumes.Get(ctx, c, v.ID).Extract()
	must(err)
	if v.Size != 2 || v.VolumeType != "gold" || v.Status != "available" {
		t.Errorf("%+v", v)
	}
	pages, err := schedulerstats.List(c, schedulerstats.ListOpts{Detail: true}).AllPages(ctx)
	must(err)
	pools, err := schedulerstats.ExtractStoragePools(pages)
	must(err)
	if !slices.ContainsFunc(pools, func(p schedulerstats.StoragePool) bool {
		return p.Name == n.host() && p.Capabilities.TotalCapacityGB > 0
	}) {
		t.Errorf("pools: %+v", pools)
	}
	pages, err = services.List(c, nil).AllPages(ctx)
	must(err)
	known, err := services.ExtractServices(pages)
	must(err)
	if !slices.ContainsFunc(known, func(s services.Service) bool { return s.Host == "node1@pool" && s.State == "up" }) {
		t.Errorf("services: %+v", known)
	}
	must(volumes.Delete(ctx, c, v.ID, nil).ExtractErr())
	if _, err := volumes.Get(ctx, c, v.ID).Extract(); !gophercloud.ResponseCodeIs(err, 404) {
		t.Errorf("deleted: %v", err)
	}
	must(volumetypes.Delete(ctx, c, gold.ID).ExtractErr())
}
