// Package agent is the daemon without its main: it builds the parts from a configuration, owns every goroutine, and closes
// all in reverse. Two of them run in one process in the tests.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cvold/cvold/agent/api"
	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/config"
	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/agent/peer"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/view"
	"github.com/cvold/cvold/internal/pki"
	"github.com/cvold/cvold/metrics"
	"github.com/cvold/cvold/nbd"
	"github.com/cvold/cvold/transfer"
)

// closeWait bounds the whole of Close, so that a service manager need not kill.
const closeWait = 60 * time.Second

// callsWait is how much of closeWait the calls to a server under way may take: they may hang with a back end, and exports and
// devices are to be closed in good order all the same.
const callsWait = 10 * time.Second

// Options are what an agent is told beside its configuration.
type Options struct {
	Logger *slog.Logger
	// Listeners are sockets that were opened for the agent, by part: "api", "loopback", "nbd", "peer", "metrics". A part without one
	// listens as configured. The agent closes them, also when Open fails. "nbd" and "peer" need certificates, "loopback" (in the
	// place of api_listen) a loopback address.
	Listeners map[string]net.Listener
}

// Agent is the daemon's parts. Open builds it, Start sets it to work, Close ends it; each once, in this order. Close may
// follow a failed Start.
type Agent struct {
	config  *config.Config
	log     *slog.Logger
	started time.Time

	store       *catalog.Bolt
	credentials *pki.Credentials
	drivers     []dataplane.Driver
	nbd         *nbd.Server
	background  *transfer.Background
	volumes     *volume.Manager
	peers       *peer.Peers
	gate        *gate
	target      *migration.Target
	engine      *migration.Engine
	durations   prometheus.Histogram
	metrics     *metrics.Registry
	api         *api.Server
	peerServer  *peer.Server
	view        *view.View
	listeners   listeners

	ctx    context.Context
	stop   context.CancelFunc
	served sync.WaitGroup
	failed chan error
	// closers are what Close calls, the last first.
	closers []closer
}

// closer ends one part.
type closer struct {
	part string
	end  func(ctx context.Context) error
}

// Open builds an agent: everything that can be wrong with the configuration on this machine is an error here, and then
// nothing is left behind. It listens, but answers nothing before Start.
func Open(c *config.Config, o Options) (*Agent, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Agent{config: c, log: o.Logger, started: time.Now(), failed: make(chan error, 1)}
	a.ctx, a.stop = context.WithCancel(context.Background())
	a.onClose("passed sockets", func(context.Context) error { return closeAll(slices.Collect(maps.Values(o.Listeners))) })
	for _, step := range []func() error{
		a.openStore,
		a.openCredentials,
		a.openDrivers,
		func() error { return a.listen(o.Listeners) },
		a.openNBD,
		a.openBackground,
		a.openVolumes,
		a.openPeers,
		a.openMigrations,
		a.openMetrics,
		a.openAPI,
	} {
		if err := step(); err != nil {
			return nil, errors.Join(err, a.Close())
		}
	}
	return a, nil
}

// Start sets the agent to work. A store that went back in time first asks all peers what they own; that may take as long
// as one of them is out of reach, or until ctx ends; every request is refused meanwhile.
func (a *Agent) Start(ctx context.Context) error {
	a.servePeers()
	restored := a.store.Restored()
	if restored {
		a.api.Hold(waitsForPeers)
		a.serveAPI()
		if err := a.settleRestored(ctx); err != nil {
			return err
		}
	}
	if err := a.registerServices(); err != nil {
		return fmt.Errorf("register services: %w", err)
	}
	if err := a.volumes.Start(ctx); err != nil {
		return fmt.Errorf("start volumes: %w", err)
	}
	if err := a.target.Start(ctx); err != nil {
		return fmt.Errorf("start migrations: %w", err)
	}
	if err := a.engine.Start(ctx); err != nil {
		return fmt.Errorf("start migrations: %w", err)
	}
	a.gate.open()
	a.serveNBD()
	if err := a.mountView(ctx); err != nil {
		return err
	}
	if restored {
		a.api.Release()
	} else {
		a.serveAPI()
	}
	a.log.Info("agent is ready", "node", a.config.Node, "store", a.store.ID(), "backends", len(a.drivers))
	return nil
}

// Failed tells of a part that ended by itself: the agent cannot go on.
func (a *Agent) Failed() <-chan error { return a.failed }

// Healthy is nil while the agent answers: its catalog can be read.
func (a *Agent) Healthy(context.Context) error {
	return a.store.View(func(catalog.Tx) error { return nil })
}

// Summary is one line on what the agent does now, for the service manager.
func (a *Agent) Summary() string {
	s, err := a.engine.Stats()
	if err != nil {
		return "catalog: " + err.Error()
	}
	active := 0
	for state, n := range s.ByState {
		if !state.Final() {
			active += n
		}
	}
	volumes, err := a.volumes.List(volume.Filter{})
	if err != nil {
		return "catalog: " + err.Error()
	}
	line := fmt.Sprintf("%d volumes, %d migrations", len(volumes), active)
	if s.BytesPerSecond > 0 {
		line += fmt.Sprintf(" at %.0f MB/s", s.BytesPerSecond/1e6)
	}
	return line
}

// Close ends the agent, in a bounded time: requests and migrations are let go where they are, exports are drained.
// What is under way goes on after the next start.
func (a *Agent) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	a.stop()
	var problems []error
	for i := len(a.closers) - 1; i >= 0; i-- {
		c := a.closers[i]
		if err := c.end(ctx); err != nil {
			problems = append(problems, fmt.Errorf("close %s: %w", c.part, err))
		}
	}
	a.closers = nil
	a.served.Wait()
	return errors.Join(problems...)
}

// onClose remembers how a part is ended.
func (a *Agent) onClose(part string, end func(ctx context.Context) error) {
	a.closers = append(a.closers, closer{part, end})
}

// onCloseCalls is onClose for a server that waits for its calls until ctx ends, and then cancels them.
func (a *Agent) onCloseCalls(part string, end func(ctx context.Context) error) {
	a.onClose(part, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, callsWait)
		defer cancel()
		return end(ctx)
	})
}

// serve runs a server in a goroutine of the agent's own. If it ends before Close, the agent has failed.
func (a *Agent) serve(part string, run func() error) {
	a.served.Go(func() {
		err := run()
		if a.ctx.Err() != nil {
			return
		}
		select {
		case a.failed <- fmt.Errorf("%s ended: %w", part, err):
		default:
		}
	})
}
