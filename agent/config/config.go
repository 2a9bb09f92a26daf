// Package config reads the configuration of an agent, in the dialect of cinder.conf: on a node of Cinder the agent reads
// the file that is there, with a second one for its own options.
//
// Sections: [DEFAULT] and the sections of back ends as in Cinder (with [backend_defaults] for what they share), [cvold]
// for the agent's own options, [peer:NODE] for each other agent. Keys of Cinder that mean nothing to the agent are
// ignored; unknown keys where only the agent's can be are errors. All that is wrong is reported at once, with file and
// line, the value, and what would be right.
package config

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/internal/ini"
	"github.com/cvold/cvold/nbd"
	"github.com/cvold/cvold/transfer"
)

// Config is a configuration that was found valid.
type Config struct {
	// Node is the agent's name among its peers, from host: without @, # and /.
	Node string
	// StatePath is the directory for catalog, checkpoints and manifests; absolute.
	StatePath string
	// VolumeNameTemplate has %s once, for the volume's id.
	VolumeNameTemplate string
	// LogLevel is log_level, or debug if debug is set.
	LogLevel slog.Level
	// Backends are the enabled ones that this build serves, in their order; at least one.
	Backends []Backend
	// Unserved are the enabled back ends that are left to Cinder, for want of a driver.
	Unserved []Unserved
	// Peers are the other agents by node, never this one.
	Peers []Peer

	// Socket is the path of the unix socket for commands, NBDSocket that for NBD.
	Socket, NBDSocket string
	// APIListen is the loopback address, ADDRESS:PORT, where the API is answered without TLS; empty for none.
	APIListen string
	// InsecureLoopbackAdmin says that all who reach APIListen, or a socket passed in its place, are admins.
	InsecureLoopbackAdmin bool
	// AdminGroup may command the agent like root; empty for root alone.
	AdminGroup string
	// PeerListen and NBDListen are addresses, host:port, always served with TLS; empty for none.
	PeerListen, NBDListen string
	// MetricsListen is the address of GET /metrics over TCP; empty for none. See MetricsTLS.
	MetricsListen string
	// CAFile, CertFile and KeyFile are paths of PEM files: all or none.
	CAFile, CertFile, KeyFile string
	// ViewPath is where the view is mounted; empty for none.
	ViewPath string
	// OwnBackends are enabled back ends that are this agent's alone, though a cinder.conf names them.
	OwnBackends []string

	// MinimumVerify is what a copy must be verified as before its source is deleted.
	MinimumVerify transfer.Class
	// TransferWorkers are chunks at the same time, up to transfer.MaxWorkers, 0 for as many as help; TransferConnections NBD connections of a
	// transfer, 1 to maxConnections.
	TransferWorkers, TransferConnections int
	// TransferRate in bytes and TransferIOPS in operations a second are the limits of each transfer, NodeTransferRate and
	// NodeTransferIOPS those of all together; 0 for none.
	TransferRate, TransferIOPS         int64
	NodeTransferRate, NodeTransferIOPS int64
	// TransferClass is that of migrations that were asked for without one.
	TransferClass catalog.TransferClass
	// BackgroundLatency is how slow requests of exports may be before background transfers yield to them.
	BackgroundLatency time.Duration
	// AttachConnections are those of the kernel to a volume that is attached as a block device, AttachRequestTimeout and
	// AttachDeadTimeout when it gives up on one and on all, AttachMethod how it is commanded: see nbd.AttachOptions.
	AttachConnections                       int
	AttachRequestTimeout, AttachDeadTimeout time.Duration
	AttachMethod                            nbd.KernelMethod
	// PeerTimeout bounds one call of a peer.
	PeerTimeout time.Duration
	// MigrationRetryLimit is how often a step fails in a row before its migration is given up.
	MigrationRetryLimit int

	debug    bool
	settings []Setting
}

// Backend is one enabled back end.
type Backend struct {
	// Name is the section's.
	Name string
	// BackendName is volume_backend_name, by which volume types select.
	BackendName string
	// Driver is the kind of driver: file.
	Driver string
	// Directory of the driver file, absolute; no other back end has it.
	Directory string
	// CopyRate in bytes and CopyIOPS in operations a second are the limits of all transfers of it together; 0 for none.
	CopyRate, CopyIOPS int64
}

// Peer is another agent.
type Peer struct {
	// Node is its name, and in its certificate.
	Node string
	// Address is the host:port of its peer_listen.
	Address string
}

// Setting is one option as it counts.
type Setting struct {
	Section, Key, Value string
	// Origin is FILE:LINE, or "default".
	Origin string
}

// byDefault is the origin of what no file sets.
const byDefault = "default"

// build makes the configuration that file describes.
func build(file *ini.File, hostname func() (string, error)) (*Config, error) {
	r, c := newReader(file, hostname), &Config{}
	read(r, r.section(ini.Default), defaultOptions, c)
	r.host(c)
	read(r, r.section(own), ownOptions, c)
	r.unknown(r.section(own), "", keys(ownOptions))
	r.names = r.enabled()
	backends := make([]Backend, 0, len(r.names))
	for _, name := range r.names {
		backends = append(backends, r.backend(name))
	}
	r.unserved(c, backends)
	r.peers(c)
	r.sections()
	r.check(c)
	if c.debug {
		c.LogLevel = slog.LevelDebug
	}
	c.settings = r.settings
	if err := r.wrong(); err != nil {
		return nil, err
	}
	return c, nil
}

// Effective are all options with what counts for them, in the order of sections: [DEFAULT], [cvold], the back ends, the
// peers.
func (c *Config) Effective() []Setting { return slices.Clone(c.settings) }

// Wrong is err, found on this machine, at the place of the setting that it is about: FILE:LINE: [SECTION] KEY = VALUE: err.
// An empty section is [DEFAULT]. nil stays nil.
func (c *Config) Wrong(section, key string, err error) error {
	if err == nil {
		return nil
	}
	if section == "" {
		section = ini.Default
	}
	i := slices.IndexFunc(c.settings, func(s Setting) bool { return s.Section == section && s.Key == key })
	if i < 0 {
		return fmt.Errorf("[%s] %s: %w", section, key, err)
	}
	s := c.settings[i]
	err = fmt.Errorf("[%s] %s = %s: %w", section, key, s.Value, err)
	if s.Origin != byDefault {
		err = fmt.Errorf("%s: %w", s.Origin, err)
	}
	return err
}

// MetricsTLS says that MetricsListen is reached from other machines: then it is served with the agent's certificate and
// to clients with one of the same CA. On a loopback address it is plain, for numbers are no secret on the node itself.
func (c *Config) MetricsTLS() bool { return c.MetricsListen != "" && !isLoopback(c.MetricsListen) }
