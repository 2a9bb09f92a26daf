package config

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/cvold/cvold/client"
	"github.com/cvold/cvold/transfer"
)

// own is the section of the agent's own options; peerPrefix begins the names of the peers' sections; shared is Cinder's
// section for what all back ends have in common.
const (
	own        = "cvold"
	peerPrefix = "peer:"
	shared     = "backend_defaults"
)

// The limits of values.
const (
	// maxConnections of a transfer: beyond it a link does not get fuller, but the target's memory does.
	maxConnections     = 16
	defaultConnections = 4
	// minPeerTimeout and maxPeerTimeout: less cuts off calls that flush a disk, more hides a peer that is gone.
	minPeerTimeout = time.Second
	maxPeerTimeout = 10 * time.Minute
	// maxRetryLimit: with a pause of half a minute, a working day.
	maxRetryLimit = 1000
)

// option is one key of a section.
type option[T any] struct {
	key string
	// preset counts where the key is not set, or empty.
	preset string
	// set takes the value, or says what would be right: "want …". It is not called with an empty value.
	set func(into *T, value string) error
}

var defaultOptions = []option[Config]{
	{"host", "", // reader.host presets it
		func(c *Config, v string) error { return set(&c.Node, v, parseName) }},
	{"enabled_backends", "", func(*Config, string) error { return nil }}, // reader.enabled reads it
	{"state_path", "/var/lib/cvold", func(c *Config, v string) error { return set(&c.StatePath, v, parsePath) }},
	{"volume_name_template", "volume-%s", func(c *Config, v string) error {
		return set(&c.VolumeNameTemplate, v, parseTemplate)
	}},
	{"debug", "false", func(c *Config, v string) error { return set(&c.debug, v, parseBool) }},
}

var ownOptions = []option[Config]{
	{"socket", client.DefaultSocket, func(c *Config, v string) error { return set(&c.Socket, v, parseSocket) }},
	{"admin_group", "", func(c *Config, v string) error { return set(&c.AdminGroup, v, parseName) }},
	{"api_listen", "", func(c *Config, v string) error { return set(&c.APIListen, v, parseLoopback) }},
	{"insecure_loopback_admin", "false", func(c *Config, v string) error {
		return set(&c.InsecureLoopbackAdmin, v, parseBool)
	}},
	{"peer_listen", "", func(c *Config, v string) error { return set(&c.PeerListen, v, parseListen) }},
	{"nbd_listen", "", func(c *Config, v string) error { return set(&c.NBDListen, v, parseListen) }},
	{"nbd_socket", "", func(c *Config, v string) error { return set(&c.NBDSocket, v, parseSocket) }}, // see check
	{"metrics_listen", "", func(c *Config, v string) error { return set(&c.MetricsListen, v, parseListen) }},
	{"ca_file", "", func(c *Config, v string) error { return set(&c.CAFile, v, parsePath) }},
	{"cert_file", "", func(c *Config, v string) error { return set(&c.CertFile, v, parsePath) }},
	{"key_file", "", func(c *Config, v string) error { return set(&c.KeyFile, v, parsePath) }},
	{"view_path", "", func(c *Config, v string) error { return set(&c.ViewPath, v, parsePath) }},
	{"own_backends", "", func(c *Config, v string) error { c.OwnBackends = parseList(v); return nil }},
	{"minimum_verify_for_delete", transfer.DeviceDirect.String(), func(c *Config, v string) error {
		return set(&c.MinimumVerify, v, parseClass)
	}},
	{"transfer_workers", strconv.Itoa(transfer.DefaultWorkers), func(c *Config, v string) error {
		return set(&c.TransferWorkers, v, parseNumber(1, transfer.MaxWorkers))
	}},
	{"transfer_connections", strconv.Itoa(defaultConnections), func(c *Config, v string) error {
		return set(&c.TransferConnections, v, parseNumber(1, maxConnections))
	}},
	{"transfer_rate", "0", func(c *Config, v string) error { return set(&c.TransferRate, v, ParseBytes) }},
	{"log_level", "info", func(c *Config, v string) error { return set(&c.LogLevel, v, parseLevel) }},
	{"peer_timeout", "30s", func(c *Config, v string) error { return set(&c.PeerTimeout, v, parseTimeout) }},
	{"migration_retry_limit", "10", func(c *Config, v string) error {
		return set(&c.MigrationRetryLimit, v, parseNumber(1, maxRetryLimit))
	}},
}

var peerOptions = []option[Peer]{
	{"address", "", func(p *Peer, v string) error { return set(&p.Address, v, parseAddress) }},
}

// backendOptions are those of every driver. The name of the back end is its section's if it has no other.
var backendOptions = []option[Backend]{
	{"volume_driver", "", func(b *Backend, v string) error { return set(&b.Driver, v, parseDriver) }},
	{"volume_backend_name", "", func(b *Backend, v string) error { return set(&b.BackendName, v, parseName) }},
}

// drivers are the kinds of drivers in this build, with the prefix that their keys have and that nobody else's have.
var drivers = map[string]struct {
	prefix  string
	options []option[Backend]
}{
	"file": {"file_", []option[Backend]{
		{"file_directory", "", func(b *Backend, v string) error { return set(&b.Directory, v, parsePath) }},
	}},
}

// driverNames are names of drivers beside the kinds themselves: ours, and the classes of Cinder.
var driverNames = map[string]string{
	"cvold.file": "file",
	"cinder.volume.drivers.lvm.LVMVolumeDriver":           "lvm",
	"cinder.volume.drivers.lvm.LVMISCSIDriver":            "lvm",
	"cinder.volume.drivers.rbd.RBDDriver":                 "rbd",
	"cinder.volume.drivers.nfs.NfsDriver":                 "nfs",
	"cinder.volume.drivers.ceph.rbd_iscsi.RBDISCSIDriver": "rbd-iscsi",
}

// keys are the keys of options.
func keys[T any](options []option[T]) []string {
	all := make([]string, 0, len(options))
	for _, o := range options {
		all = append(all, o.key)
	}
	return all
}

// set parses value into field.
func set[V any](field *V, value string, parse func(string) (V, error)) (err error) {
	*field, err = parse(value)
	return err
}

// want is the usual problem with a value.
func want(format string, args ...any) error {
	return errors.New("want " + fmt.Sprintf(format, args...))
}

var levels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warning": slog.LevelWarn, "warn": slog.LevelWarn, "error": slog.LevelError,
}
