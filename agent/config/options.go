package config

import (
	"log/slog"
	"strconv"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/client"
	"github.com/cvold/cvold/nbd"
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
	// minWait and maxWait of the kernel for the agent: it counts in seconds, and longer than a day nobody waits.
	minWait = time.Second
	maxWait = 24 * time.Hour
	// minLatency and maxLatency of the foreground: below, a fast disk alone is too slow; beyond, nobody waits any more.
	minLatency = 100 * time.Microsecond
	maxLatency = time.Minute
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
	// secret values are shown to nobody.
	secret bool
}

// hidden stands for a secret value where values are shown.
const hidden = "***"

// shown is a value as messages and Effective have it.
func (o option[T]) shown(value string) string {
	if o.secret && value != "" {
		return hidden
	}
	return value
}

var defaultOptions = []option[Config]{
	{key: "host", // reader.host presets it
		set: func(c *Config, v string) error { return set(&c.Node, v, parseName) }},
	{key: "enabled_backends", set: func(*Config, string) error { return nil }}, // reader.enabled reads it
	{key: "state_path", preset: "/var/lib/cvold", set: func(c *Config, v string) error { return set(&c.StatePath, v, parsePath) }},
	{key: "volume_name_template", preset: "volume-%s", set: func(c *Config, v string) error {
		return set(&c.VolumeNameTemplate, v, parseTemplate)
	}},
	{key: "debug", preset: "false", set: func(c *Config, v string) error { return set(&c.debug, v, parseBool) }},
}

var ownOptions = []option[Config]{
	{key: "socket", preset: client.DefaultSocket, set: func(c *Config, v string) error { return set(&c.Socket, v, parseSocket) }},
	{key: "admin_group", set: func(c *Config, v string) error { return set(&c.AdminGroup, v, parseName) }},
	{key: "api_listen", set: func(c *Config, v string) error { return set(&c.APIListen, v, parseLoopback) }},
	{key: "insecure_loopback_admin", preset: "false", set: func(c *Config, v string) error {
		return set(&c.InsecureLoopbackAdmin, v, parseBool)
	}},
	{key: "peer_listen", set: func(c *Config, v string) error { return set(&c.PeerListen, v, parseListen) }},
	{key: "nbd_listen", set: func(c *Config, v string) error { return set(&c.NBDListen, v, parseListen) }},
	{key: "nbd_socket", set: func(c *Config, v string) error { return set(&c.NBDSocket, v, parseSocket) }}, // see check
	{key: "metrics_listen", set: func(c *Config, v string) error { return set(&c.MetricsListen, v, parseListen) }},
	{key: "ca_file", set: func(c *Config, v string) error { return set(&c.CAFile, v, parsePath) }},
	{key: "cert_file", set: func(c *Config, v string) error { return set(&c.CertFile, v, parsePath) }},
	{key: "key_file", set: func(c *Config, v string) error { return set(&c.KeyFile, v, parsePath) }},
	{key: "view_path", set: func(c *Config, v string) error { return set(&c.ViewPath, v, parsePath) }},
	{key: "own_backends", set: func(c *Config, v string) error { c.OwnBackends = parseList(v); return nil }},
	{key: "minimum_verify_for_delete", preset: transfer.DeviceDirect.String(), set: func(c *Config, v string) error {
		return set(&c.MinimumVerify, v, parseClass)
	}},
	{key: "transfer_workers", preset: "0", set: func(c *Config, v string) error {
		return set(&c.TransferWorkers, v, parseNumber(0, transfer.MaxWorkers))
	}},
	{key: "transfer_connections", preset: strconv.Itoa(defaultConnections), set: func(c *Config, v string) error {
		return set(&c.TransferConnections, v, parseNumber(1, maxConnections))
	}},
	{key: "transfer_rate", preset: "0", set: func(c *Config, v string) error { return set(&c.TransferRate, v, ParseBytes) }},
	{key: "transfer_iops", preset: "0", set: func(c *Config, v string) error { return set(&c.TransferIOPS, v, parseIOPS) }},
	{key: "transfer_class", preset: string(catalog.TransferNormal), set: func(c *Config, v string) error {
		return set(&c.TransferClass, v, parseTransferClass)
	}},
	{key: "node_transfer_rate", preset: "0", set: func(c *Config, v string) error { return set(&c.NodeTransferRate, v, ParseBytes) }},
	{key: "node_transfer_iops", preset: "0", set: func(c *Config, v string) error { return set(&c.NodeTransferIOPS, v, parseIOPS) }},
	{key: "background_latency", preset: "20ms", set: func(c *Config, v string) error {
		return set(&c.BackgroundLatency, v, parseLatency)
	}},
	{key: "attach_connections", preset: strconv.Itoa(nbd.DefaultAttachConnections), set: func(c *Config, v string) error {
		return set(&c.AttachConnections, v, parseNumber(1, nbd.MaxAttachConnections))
	}},
	{key: "attach_request_timeout", preset: "30s", set: func(c *Config, v string) error {
		return set(&c.AttachRequestTimeout, v, parseWait)
	}},
	{key: "attach_dead_timeout", preset: "120s", set: func(c *Config, v string) error { return set(&c.AttachDeadTimeout, v, parseWait) }},
	{key: "attach_method", preset: string(nbd.KernelAuto), set: func(c *Config, v string) error {
		return set(&c.AttachMethod, v, parseMethod)
	}},
	{key: "log_level", preset: "info", set: func(c *Config, v string) error { return set(&c.LogLevel, v, parseLevel) }},
	{key: "peer_timeout", preset: "30s", set: func(c *Config, v string) error { return set(&c.PeerTimeout, v, parseTimeout) }},
	{key: "migration_retry_limit", preset: "10", set: func(c *Config, v string) error {
		return set(&c.MigrationRetryLimit, v, parseNumber(1, maxRetryLimit))
	}},
}

var peerOptions = []option[Peer]{
	{key: "address", set: func(p *Peer, v string) error { return set(&p.Address, v, parseAddress) }},
}

// backendOptions are those of every driver. The name of the back end is its section's if it has no other.
var backendOptions = []option[Backend]{
	{key: "volume_driver", set: func(b *Backend, v string) error { return set(&b.Driver, v, parseDriver) }},
	{key: "volume_backend_name", set: func(b *Backend, v string) error { return set(&b.BackendName, v, parseName) }},
}

// copyOptions limit the copies of a back end. Like Cinder (volume/driver.py, set_throttle) they fall back to [DEFAULT].
var copyOptions = []option[Backend]{
	{key: "volume_copy_bps_limit", preset: "0", set: func(b *Backend, v string) error { return set(&b.CopyRate, v, ParseBytes) }},
	{key: "volume_copy_iops_limit", preset: "0", set: func(b *Backend, v string) error { return set(&b.CopyIOPS, v, parseIOPS) }},
}

// drivers are the kinds of drivers in this build, with the prefix that their keys have and that nobody else's have.
var drivers = map[string]struct {
	prefix  string
	options []option[Backend]
}{
	"file": {"file_", []option[Backend]{
		{key: "file_directory", set: func(b *Backend, v string) error { return set(&b.Directory, v, parsePath) }},
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
	return say("want %v", say(format, args...))
}

var levels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warning": slog.LevelWarn, "warn": slog.LevelWarn, "error": slog.LevelError,
}
