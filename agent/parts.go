package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/cvold/cvold/agent/api"
	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/agent/peer"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/client"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/drivers"
	"github.com/cvold/cvold/internal/durable"
	"github.com/cvold/cvold/internal/pki"
	"github.com/cvold/cvold/internal/version"
	"github.com/cvold/cvold/metrics"
	"github.com/cvold/cvold/nbd"
	"github.com/cvold/cvold/transfer"
)

// targetTimeout bounds the handshake and each request to a migration's target: a storage that stalls longer is tried again
// as a new attempt.
const targetTimeout = 2 * time.Minute

// catalogName is the store's file in the state directory.
const catalogName = "cvold.db"

func (a *Agent) openStore() error {
	if err := os.MkdirAll(a.config.StatePath, 0o700); err != nil {
		return fmt.Errorf("state_path: %w", err)
	}
	store, err := catalog.OpenBolt(filepath.Join(a.config.StatePath, catalogName), catalog.BoltOptions{Logger: a.log})
	if err != nil {
		return err
	}
	a.store = store
	if err := durable.Remove(a.backupPath()); err != nil { // left by a process that was killed
		return errors.Join(err, store.Close())
	}
	a.onClose("catalog", func(context.Context) error { return store.Close() })
	return nil
}

func (a *Agent) openCredentials() (err error) {
	if a.config.CertFile == "" {
		return nil
	}
	a.credentials, err = loadCredentials(a.config)
	return err
}

func (a *Agent) openDrivers() error {
	for _, b := range a.config.Backends {
		d, err := drivers.Open(b.Driver, drivers.Options{Name: b.Name, Directory: b.Directory})
		if err != nil {
			return err
		}
		a.drivers = append(a.drivers, d)
		a.onClose("backend "+b.Name, func(context.Context) error { return d.Close() })
	}
	return nil
}

func (a *Agent) openNBD() error {
	o := nbd.ServerOptions{Logger: a.log}
	if a.credentials != nil {
		o.TLS = a.credentials.Server(pki.Peer, pki.Client)
	}
	a.nbd = nbd.NewServer(o)
	a.onClose("NBD", a.nbd.Close)
	return nil
}

// openBackground sets what background transfers may have to work.
func (a *Agent) openBackground() error {
	a.background = transfer.NewBackground(a.config.BackgroundLatency)
	a.served.Go(func() { a.background.Run(a.ctx) })
	return nil
}

func (a *Agent) openVolumes() (err error) {
	backends := make([]volume.Backend, 0, len(a.drivers))
	for i, b := range a.config.Backends {
		backends = append(backends, volume.Backend{Name: b.Name, BackendName: b.BackendName, Driver: a.drivers[i]})
	}
	unserved := map[string]string{}
	for _, u := range a.config.Unserved {
		unserved[u.Name] = u.Reason
	}
	a.volumes, err = volume.New(volume.Options{
		Node: a.config.Node, Store: a.store, Backends: backends, Unserved: unserved, NBD: a.nbd,
		Foreground:   a.background,
		NameTemplate: a.config.VolumeNameTemplate, Logger: a.log,
		Attach: nbd.AttachOptions{
			Connections: a.config.AttachConnections, RequestTimeout: a.config.AttachRequestTimeout,
			DeadTimeout: a.config.AttachDeadTimeout, Method: a.config.AttachMethod,
		},
	})
	if err != nil {
		return err
	}
	a.onClose("volumes", a.volumes.Close)
	return nil
}

func (a *Agent) openPeers() error {
	addresses := map[string]string{}
	for _, p := range a.config.Peers {
		addresses[p.Node] = p.Address
	}
	if len(addresses) > 0 && a.credentials == nil {
		return errors.New("peers are configured without ca_file, cert_file and key_file")
	}
	a.peers = peer.NewPeers(addresses, a.config.PeerTimeout, func(node string) *tls.Config { return a.credentials.Client(node) })
	a.onClose("peers", func(context.Context) error { a.peers.Close(); return nil })
	return nil
}

func (a *Agent) openMigrations() (err error) {
	a.durations = metrics.MigrationDuration()
	o := migration.Options{
		Node: a.config.Node, Store: a.store, Leaser: a.store, Volumes: a.volumes, Directory: a.config.StatePath,
		MinimumClass: a.config.MinimumVerify, Workers: a.config.TransferWorkers, Limits: a.limits(),
		RetryLimit: a.config.MigrationRetryLimit, Logger: a.log, Duration: a.durations,
		Peer: func(node string) (migration.Peer, error) { return a.peers.Peer(node) },
		Dial: a.dialTarget,
	}
	a.target = migration.NewTarget(migration.TargetOptions{
		Options: o, NBD: a.nbd, Version: version.Version(),
		Address: migration.NBDAddress{Network: "tcp", Address: a.listeners.advertised()},
		Unix:    migration.NBDAddress{Network: "unix", Address: a.config.NBDSocket},
	})
	a.onClose("migrations that come here", a.target.Close)
	if a.engine, err = migration.NewEngine(o, a.target); err != nil {
		return err
	}
	a.onClose("migrations", a.engine.Close)
	a.gate = newGate(migration.Served(a.engine, a.target))
	return nil
}

// limits of the transfers, as configured.
func (a *Agent) limits() migration.Limits {
	c := a.config
	backends := map[string]*transfer.Limit{}
	for _, b := range c.Backends {
		backends[b.Name] = transfer.NewLimit(transfer.Rate{Bytes: b.CopyRate, Operations: b.CopyIOPS})
	}
	return migration.Limits{
		Each: transfer.Rate{Bytes: c.TransferRate, Operations: c.TransferIOPS}, Class: c.TransferClass,
		Node:       transfer.NewLimit(transfer.Rate{Bytes: c.NodeTransferRate, Operations: c.NodeTransferIOPS}),
		Background: a.background.Limit(), Backends: backends,
	}
}

// dialTarget connects to the export that node made for a migration.
func (a *Agent) dialTarget(ctx context.Context, node string, at migration.NBDAddress) (dataplane.Device, error) {
	o := nbd.DialOptions{
		Network: at.Network, Address: at.Address, Export: at.Export,
		Connections: a.config.TransferConnections, Timeout: targetTimeout, Logger: a.log,
	}
	if at.Network == "tcp" {
		client, err := a.peers.Peer(node)
		if err != nil {
			return nil, err
		}
		if o.Address, err = reach(at.Address, client.Address()); err != nil {
			return nil, err
		}
		o.TLS = a.credentials.Client(node)
	}
	device, err := nbd.Dial(ctx, o)
	if err != nil {
		return nil, err // not device: a nil *nbd.Device would be a Device that is not nil
	}
	return device, nil
}

// reach completes an address that has no host with the host that the peer is reached at.
func reach(address, peer string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("peer serves NBD at %q: %w", address, err)
	}
	if host != "" {
		return address, nil
	}
	if host, _, err = net.SplitHostPort(peer); err != nil {
		return "", fmt.Errorf("peer at %q: %w", peer, err)
	}
	return net.JoinHostPort(host, port), nil
}

func (a *Agent) openAPI() (err error) {
	a.api, err = api.New(api.Options{
		Node: a.config.Node, Version: a.version(), Store: a.store, Volumes: a.volumes, Types: a.volumes, Pools: a.volumes, Manager: a.volumes,
		Migrations: a.engine,
		Peers:      forwarder{a.peers}, Status: a.status, Config: a.settings, URIs: a.uris,
		Exports: func() []nbd.ExportStats { return a.nbd.Stats().Exports }, Backup: a.backup, Rebuild: a.rebuild, Metrics: a.metrics.Handler(),
		AdminGroup: a.config.AdminGroup, Logger: a.log,
	})
	if err != nil {
		return err
	}
	a.peerServer = peer.NewServer(peer.ServerOptions{
		Local: a.gate, TLS: a.peerTLS(), Known: a.known, Forwarded: a.forwarded, Logger: a.log,
	})
	a.onCloseCalls("peer calls", a.peerServer.Close)
	a.onCloseCalls("API", a.api.Close)
	return nil
}

func (a *Agent) version() client.Version {
	return client.Version{
		Version: version.Version(), Commit: version.Commit(), API: "v1", Node: a.config.Node, StoreID: a.store.ID(),
	}
}

func (a *Agent) known(node string) bool {
	_, err := a.peers.Peer(node)
	return err == nil
}

// uris says where an export is found: on this node, and over TCP.
func (a *Agent) uris(export string) (unix, tcp string) {
	unix = nbd.URI{Network: "unix", Address: a.config.NBDSocket, Export: export}.String()
	if address := a.listeners.advertised(); address != "" {
		host, port, err := net.SplitHostPort(address)
		if err == nil && host == "" {
			host, _ = os.Hostname() // empty is no worse than unknown
		}
		tcp = nbd.URI{Network: "tcp", Address: net.JoinHostPort(host, port), Export: export, TLS: true}.String()
	}
	return unix, tcp
}
