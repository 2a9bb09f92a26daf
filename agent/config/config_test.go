package config

import (
	"errors"
	"log/slog"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/internal/ini"
	"github.com/cvold/cvold/nbd"
	"github.com/cvold/cvold/transfer"
)

func machine() (string, error) { return "machine", nil }

// parse builds the configuration of one file named c.conf.
func parse(t *testing.T, text string) (*Config, error) {
	t.Helper()
	file, err := ini.Parse("c.conf", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return build(file, machine)
}

// least is the shortest valid configuration, in seven lines.
const least = `[DEFAULT]
enabled_backends = files

[files]
volume_driver = file
file_directory = /srv/volumes

`

// tls are the options that listeners need; they belong into [cvold].
const tls = "ca_file = /ca\ncert_file = /cert\nkey_file = /key\n"

func TestDefaults(t *testing.T) {
	c, err := parse(t, least)
	if err != nil {
		t.Fatal(err)
	}
	c.settings = nil
	want := &Config{
		Node: "machine", StatePath: "/var/lib/cvold", VolumeNameTemplate: "volume-%s", LogLevel: slog.LevelInfo,
		Backends: []Backend{{Name: "files", BackendName: "files", Driver: "file", Directory: "/srv/volumes"}},
		Socket:   "/run/cvold/cvold.sock", NBDSocket: "/run/cvold/nbd.sock",
		MinimumVerify: transfer.DeviceDirect, TransferWorkers: 0, TransferConnections: 4,
		TransferClass: catalog.TransferNormal, BackgroundLatency: 20 * time.Millisecond,
		AttachConnections: 4, AttachRequestTimeout: 30 * time.Second, AttachDeadTimeout: 2 * time.Minute, AttachMethod: nbd.KernelAuto,
		PeerTimeout: 30 * time.Second, MigrationRetryLimit: 10,
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

// everything sets every option, among some of Cinder's.
const everything = `[DEFAULT]
host = node1
enabled_backends = fast, Slow ,
state_path = /state/
volume_name_template = vol-%s.img
debug = Yes
osapi_volume_listen = 0.0.0.0
transport_url = rabbit://openstack@controller
volume_copy_bps_limit = 104857600

[database]
connection = mysql://x

[backend_defaults]
volume_driver = cvold.file
volume_copy_iops_limit = 50

[fast]
file_directory = $state_path/fast
volume_backend_name = pool
image_volume_cache_enabled = true

[SLOW]
volume_driver = file
volume_copy_bps_limit = 10M
file_directory = /slow/../srv

[unused]
volume_driver = nobody.knows
file_nonsense = x

[cvold]
socket = /run/a.sock
nbd_socket = /run/b.sock
admin_group = storage
peer_listen = [::]:9443
nbd_listen = :10809
metrics_listen = 192.0.2.1:9100
ca_file = /etc/cvold/${DEFAULT.host}/ca.pem
cert_file = /cert
key_file = /key
view_path = /volumes
own_backends = Slow
minimum_verify_for_delete = server-readback
transfer_workers = 64
transfer_connections = 1
transfer_rate = 200M
transfer_iops = 300
transfer_class = background
node_transfer_rate = 1G
node_transfer_iops = 4000
background_latency = 5ms
attach_connections = 16
attach_request_timeout = 5
attach_dead_timeout = 24h
attach_method = ioctl
log_level = ERROR
peer_timeout = 90
migration_retry_limit = 3

[peer:node1]
address = node1:9443
[peer:node2]
address = [2001:db8::2]:9443
`

func TestEverything(t *testing.T) {
	c, err := parse(t, everything)
	if err != nil {
		t.Fatal(err)
	}
	c.settings = nil
	want := &Config{
		Node: "node1", StatePath: "/state", VolumeNameTemplate: "vol-%s.img", LogLevel: slog.LevelDebug, debug: true,
		Backends: []Backend{
			{Name: "fast", BackendName: "pool", Driver: "file", Directory: "/state/fast", CopyRate: 100 << 20, CopyIOPS: 50},
			{Name: "SLOW", BackendName: "SLOW", Driver: "file", Directory: "/srv", CopyRate: 10 << 20, CopyIOPS: 50},
		},
		Peers:  []Peer{{"node2", "[2001:db8::2]:9443"}},
		Socket: "/run/a.sock", NBDSocket: "/run/b.sock", AdminGroup: "storage",
		PeerListen: "[::]:9443", NBDListen: ":10809", MetricsListen: "192.0.2.1:9100",
		CAFile: "/etc/cvold/node1/ca.pem", CertFile: "/cert", KeyFile: "/key", ViewPath: "/volumes",
		OwnBackends: []string{"Slow"}, MinimumVerify: transfer.ServerReadback,
		TransferWorkers: 64, TransferConnections: 1, TransferRate: 200 << 20,
		TransferIOPS: 300, TransferClass: catalog.TransferBackground, NodeTransferRate: 1 << 30, NodeTransferIOPS: 4000,
		BackgroundLatency: 5 * time.Millisecond,
		AttachConnections: 16, AttachRequestTimeout: 5 * time.Second, AttachDeadTimeout: 24 * time.Hour, AttachMethod: nbd.KernelIoctl,
		PeerTimeout: 90 * time.Second, MigrationRetryLimit: 3,
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	if !c.MetricsTLS() {
		t.Error("metrics that other machines reach are plain")
	}
}

// TestEffective: every option once, with its place.
func TestEffective(t *testing.T) {
	c, err := parse(t, least+"[cvold]\nsocket = /run/x/c.sock\n[peer:n2]\naddress = n2:1\n[cvold]\n"+tls)
	if err != nil {
		t.Fatal(err)
	}
	all := c.Effective()
	for _, want := range []Setting{
		{"DEFAULT", "host", "machine", "default"},
		{"DEFAULT", "enabled_backends", "files", "c.conf:2"},
		{"DEFAULT", "state_path", "/var/lib/cvold", "default"},
		{"cvold", "socket", "/run/x/c.sock", "c.conf:9"},
		{"cvold", "nbd_socket", "/run/x/nbd.sock", "default"},
		{"cvold", "key_file", "/key", "c.conf:15"},
		{"cvold", "admin_group", "", "default"},
		{"files", "volume_driver", "file", "c.conf:5"},
		{"files", "file_directory", "/srv/volumes", "c.conf:6"},
		{"peer:n2", "address", "n2:1", "c.conf:11"},
	} {
		if !slices.Contains(all, want) {
			t.Errorf("missing %+v", want)
		}
	}
	if want := len(defaultOptions) + len(ownOptions) + 5 + 1; len(all) != want {
		t.Errorf("%d settings, want %d", len(all), want)
	}
	all[0].Value = "changed"
	if c.Effective()[0].Value != "machine" {
		t.Error("Effective gives its own memory away")
	}
}

// TestSecret: a secret is set, and neither settings nor messages have it.
func TestSecret(t *testing.T) {
	file, err := ini.Parse("c.conf", strings.NewReader("[s]\npassword = horse\nkey = staple\n"))
	if err != nil {
		t.Fatal(err)
	}
	r, got := newReader(file, machine), ""
	read(r, r.section("s"), []option[string]{
		{key: "password", secret: true, set: func(into *string, v string) error { *into = v; return nil }},
		{key: "key", secret: true, set: func(*string, string) error { return want("a better one") }},
		{key: "none", secret: true, set: func(*string, string) error { return nil }},
	}, &got)
	settings := []Setting{{"s", "password", "***", "c.conf:2"}, {"s", "key", "***", "c.conf:3"}, {"s", "none", "", "default"}}
	if got != "horse" || !slices.Equal(r.settings, settings) {
		t.Errorf("%q, settings %v, want %v", got, r.settings, settings)
	}
	if err := errors.Join(r.problems...); err == nil || err.Error() != "c.conf:3: [s] key = ***: want a better one" {
		t.Errorf("problems %v", err)
	}
}

// TestBorrowed: a value that is made of an option of Cinder's is not shown; one made of the agent's own is.
func TestBorrowed(t *testing.T) {
	c, err := parse(t, `[DEFAULT]
enabled_backends = files
transport_url = rabbit-horse
mine = $transport_url/x
[database]
connection = /horse
[files]
volume_driver = file
file_directory = $state_path/v
[cvold]
ca_file = ${database.connection}/ca
cert_file = /$mine
key_file = ${DEFAULT.state_path}/key
`)
	if err != nil {
		t.Fatal(err)
	}
	if c.CAFile != "/horse/ca" || c.CertFile != "/rabbit-horse/x" {
		t.Errorf("ca_file %s, cert_file %s", c.CAFile, c.CertFile)
	}
	shown := map[string]string{}
	for _, s := range c.Effective() {
		shown[s.Key] = s.Value
	}
	for key, want := range map[string]string{
		"ca_file": "***", "cert_file": "***", "key_file": "/var/lib/cvold/key", "file_directory": "/var/lib/cvold/v",
	} {
		if shown[key] != want {
			t.Errorf("%s is shown as %s, want %s", key, shown[key], want)
		}
	}
}

func TestHostname(t *testing.T) {
	file, err := ini.Parse("c.conf", strings.NewReader(least))
	if err != nil {
		t.Fatal(err)
	}
	for _, hostname := range []func() (string, error){
		func() (string, error) { return "", errors.New("broken") },
		func() (string, error) { return "", nil },
		func() (string, error) { return "a@b", nil },
	} {
		if _, err := build(file, hostname); err == nil || !strings.Contains(err.Error(), "host is not set") {
			t.Errorf("error %v, want that host is not set", err)
		}
	}
}

// FuzzLoad: no file makes it panic, and what it accepts keeps its promises.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(least))
	f.Add([]byte(least + "[cvold]\npeer_listen = :1\n" + tls + "[peer:x]\naddress=x:1\n[peer:]\n[peer-y]\n[cvlod]\n"))
	f.Add([]byte("[DEFAULT]\nenabled_backends = a,A,cvold,$host,b@c\nvolume_name_template = $volume_name_template\n[a]\nfile_x=\n"))
	f.Add([]byte("[cvold]\nnbd_socket=\nsocket = $nbd_socket\ntransfer_rate = 9223372036854775807K\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := ini.Parse("c.conf", strings.NewReader(string(text)))
		if err != nil {
			return
		}
		c, err := build(file, machine)
		if err != nil {
			if c != nil || err.Error() == "" {
				t.Errorf("%+v, %v", c, err)
			}
			return
		}
		if c.Node == "" || len(c.Backends) == 0 || strings.Count(c.VolumeNameTemplate, "%s") != 1 ||
			!filepath.IsAbs(c.StatePath) || !filepath.IsAbs(c.Socket) || c.TransferRate < 0 || c.PeerTimeout <= 0 {
			t.Errorf("accepted %+v", c)
		}
		if (c.PeerListen+c.NBDListen != "" || c.MetricsTLS() || len(c.Peers) > 0) && (c.CAFile == "" || c.CertFile == "" || c.KeyFile == "") {
			t.Errorf("accepted without certificates: %+v", c)
		}
	})
}

// TestShortSecrets: a secret that stands in a message's own words, or is a list, is in none of the values there, and the words
// stay whole.
func TestShortSecrets(t *testing.T) {
	for _, test := range []struct{ secret, text, want string }{
		{`" "`, "[cvold]\nca_file = ${lvm.secret}\n", "[DEFAULT] enabled_backends: want the sections of the back ends to serve"},
		{`" "`, "[cvold]\nlog_level = x${lvm.secret}y\n", "c.conf:4: [cvold] log_level = ***: want debug, info, warning or error"},
		{"e", "[cvold]\nlog_level = ${lvm.secret}\n", "c.conf:4: [cvold] log_level = ***: want debug, info, warning or error"},
		{"e", "[DEFAULT]\nenabled_backends = x${lvm.secret}y\n", "c.conf:4: [DEFAULT] enabled_backends: there is no section [x***y]"},
		{"DEFAULT", "[DEFAULT]\nenabled_backends = ${lvm.secret}\n", `c.conf:4: [DEFAULT] enabled_backends: "***" cannot be a back end`},
		{"horse, staple", "[DEFAULT]\nenabled_backends = ${lvm.secret}\n",
			"c.conf:4: [DEFAULT] enabled_backends: there is no section [***]\nc.conf:4: [DEFAULT] enabled_backends: there is no section [***]"},
		{`a"b`, "[DEFAULT]\nenabled_backends = /${lvm.secret}\n", `c.conf:4: [DEFAULT] enabled_backends: "/***" cannot be a back end`},
		{"e", "[cvold]\nlog_level = ${lvm.secret}\n[cvlod]\n", "c.conf:5: [cvlod]: no such section: did you mean [cvold]?"},
	} {
		_, err := parse(t, "[lvm]\nsecret = "+test.secret+"\n"+test.text)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("secret %s: got\n%v\nwant\n%s", test.secret, err, test.want)
		}
	}
}
