package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/drivers"
	"github.com/cvold/cvold/transfer"
)

const (
	// readConnections to an NBD server are enough for a link of 10 Gbit/s with TLS.
	readConnections = 4
	// readsPerConnection are the pieces of 1 MiB that are asked for at a time on each connection: two to four of them kept
	// servers busiest (docs/BENCHMARKS.md).
	readsPerConnection = 4
	// maxReadConnections is what a scan has workers for.
	maxReadConnections = transfer.MaxScanWorkers / readsPerConnection
)

// reading is what the commands share that digest a device without the agent.
type reading struct {
	connections int
	holes       bool

	device dataplane.Device
	closed bool
	size   int64
	// class is what the digests of this device prove.
	class transfer.Class
}

func (r *reading) addFlags(cmd *cobra.Command) {
	cmd.Flags().IntVar(&r.connections, "connections", readConnections, "connections to an NBD server")
	cmd.Flags().BoolVar(&r.holes, "read-holes", false, "read what DEVICE calls holes, and believe none")
}

func (r *reading) check(cmd *cobra.Command) error {
	if r.connections < 1 || r.connections > maxReadConnections {
		return usage(cmd, "--connections %d is not between 1 and %d", r.connections, maxReadConnections)
	}
	return nil
}

// open opens the device past this node's caches, where that can be, or leaves it behind. close must follow success.
func (r *reading) open(ctx context.Context, name string) error {
	var opened reading
	err := bounded(ctx, nothingOpen, func() (err error) {
		opened, err = r.opened(ctx, name)
		return err
	})
	if err == nil {
		r.device, r.size, r.class = opened.device, opened.size, opened.class
	}
	return err
}

// opened is the reading of an opened device.
func (r *reading) opened(ctx context.Context, name string) (o reading, err error) {
	mode := dataplane.Mode{ReadOnly: true, Medium: true}
	options := drivers.URIOptions{Connections: r.connections, Reconnect: serveReconnect}
	if o.device, err = drivers.OpenURI(ctx, name, mode, options); err != nil {
		return o, err
	}
	if o.size, err = o.device.Size(); err == nil {
		o.class, err = classOf(o.device)
	}
	if err != nil {
		return o, errors.Join(err, o.device.Close())
	}
	return o, nil
}

// bounded is the function of the same name for work that reads the device.
func (r *reading) bounded(ctx context.Context, work func() error) error {
	return bounded(ctx, r.close, work)
}

// close may be called again.
func (r *reading) close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	return r.device.Close()
}

// classOf says what it is worth that a device gives bytes back. A server is asked to flush first, so that they are not
// only on their way to the medium; of one that cannot, nothing is known.
func classOf(d dataplane.Device) (transfer.Class, error) {
	switch info := d.Info(); {
	case info.Medium:
		return transfer.DeviceDirect, nil
	case info.Path != "":
		return transfer.Cached, nil
	}
	switch err := d.Sync(); {
	case errors.Is(err, dataplane.ErrNotSupported):
		return transfer.Cached, nil
	case err != nil:
		return 0, fmt.Errorf("flush before reading: %w", err)
	}
	return transfer.ServerReadback, nil
}

// options are those of the scan, which the gauge follows.
func (r *reading) options(g *gauge) transfer.ScanOptions {
	o := transfer.ScanOptions{Device: "device", ReadHoles: r.holes, Progress: g.add}
	if r.device.Info().Path == "" {
		o.Workers = r.connections * readsPerConnection
	}
	return o
}
