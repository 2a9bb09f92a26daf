package migration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/transfer"
)

// Limits of the engine.
const (
	// activeMax is how many migrations copy at the same time; more wait their turn, so that a node's memory and disks
	// stay usable.
	activeMax = 4
	// DefaultRetryLimit is how often a step before the point of no return fails in a row before the migration is
	// aborted. With backoffMax it bridges a restart of the peer and a short cut of the link.
	DefaultRetryLimit = 10
	// backoffMin and backoffMax bound the pause after a failure; it doubles in between.
	backoffMin = time.Second
	backoffMax = 30 * time.Second
	// eventsMax is how many lines of history a migration keeps: the first and the last ones.
	eventsMax = 100
	// historyMax is how many ended migrations the catalog keeps.
	historyMax = 1000
	// closeWait bounds how long Close waits for the migrations to let go of their devices.
	closeWait = 20 * time.Second
)

// errShutdown is the cause with which runs are ended by Close: no verdict.
var errShutdown = errors.New("agent shuts down")

// Options are the parts that an Engine and a Target are made of.
type Options struct {
	// Node is this agent's node name.
	Node    string
	Store   catalog.Store
	Leaser  catalog.Leaser
	Volumes *volume.Manager
	// Peer finds another node's agent; ErrInvalid for a node that is not configured. Never asked for Node itself.
	Peer func(node string) (Peer, error)
	// Dial connects to a target that node serves. The engine closes the device.
	Dial func(ctx context.Context, node string, a NBDAddress) (dataplane.Device, error)
	// Directory is the state directory; migrations/ and manifests/ in it are the engine's.
	Directory string
	// MinimumClass is the least verification after which a source is deleted; below it is kept.
	MinimumClass transfer.Class
	// Workers of a transfer; 0 is transfer's default.
	Workers int
	// Limits of transfers.
	Limits Limits
	// RetryLimit: see DefaultRetryLimit, which 0 means.
	RetryLimit int
	// Backoff is the first pause after a failure; 0 means backoffMin. Tests shorten it.
	Backoff time.Duration
	// Duration observes the seconds that ended migrations took; may be nil.
	Duration Observer
	Logger   *slog.Logger
	// Touch is called before and after everything that a step touches; an error ends the step as a crash would. For
	// tests; may be nil.
	Touch func(ctx context.Context, migration string, t Touch, after bool) error
}

// Observer takes a duration in seconds. A prometheus.Histogram is one.
type Observer interface{ Observe(seconds float64) }

// Engine is the source's half: it runs the migrations of volumes that this agent owns, each in a goroutine of its own.
// All methods may be called at the same time. Close it before the store and the volumes.
type Engine struct {
	o      Options
	target *Target
	slots  chan struct{}
	ctx    context.Context
	stop   context.CancelCauseFunc
	wg     sync.WaitGroup

	mu   sync.Mutex
	runs map[string]*run
	// limiting is held while limits are changed by more than one step.
	limiting sync.Mutex
	closed   bool
	totals   Totals
	// succeeded and failed count what has ended.
	succeeded, failed int64
}

// NewEngine makes the engine over o and the target's half of the same agent. Start it.
func NewEngine(o Options, target *Target) (*Engine, error) {
	for _, dir := range []string{"migrations", "manifests"} {
		if err := os.MkdirAll(filepath.Join(o.Directory, dir), 0o700); err != nil {
			return nil, fmt.Errorf("make the migration directories: %w", err)
		}
	}
	if o.RetryLimit == 0 {
		o.RetryLimit = DefaultRetryLimit
	}
	if o.Backoff == 0 {
		o.Backoff = backoffMin
	}
	o.Limits = o.Limits.complete(o.Volumes.Backends())
	ctx, stop := context.WithCancelCause(context.Background())
	return &Engine{o: o, target: target, slots: make(chan struct{}, activeMax), ctx: ctx, stop: stop, runs: map[string]*run{}}, nil
}

// Start goes on with every migration that the catalog has under way.
func (e *Engine) Start(context.Context) error {
	e.sweepManifests(true)
	all, err := e.all()
	if err != nil {
		return err
	}
	e.sweepCheckpoints(all)
	for _, m := range all {
		if !m.State.Final() {
			e.launch(m.ID)
		}
	}
	return nil
}

// Close ends all runs where they are, which is no verdict on them, and waits a bounded time.
func (e *Engine) Close(ctx context.Context) error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.stop(errShutdown)
	done := make(chan struct{})
	go func() { e.wg.Wait(); close(done) }()
	ctx, cancel := context.WithTimeout(ctx, closeWait)
	defer cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close migrations: %w", context.Cause(ctx))
	}
}

// launch starts the run of a migration unless it runs.
func (e *Engine) launch(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || e.runs[id] != nil {
		return
	}
	r := newRun(e, id)
	e.runs[id] = r
	e.wg.Add(1)
	go func() {
		defer e.wg.Done()
		r.loop(e.ctx)
		e.mu.Lock()
		e.totals.add(r.progress.Snapshot())
		delete(e.runs, id)
		e.mu.Unlock()
		close(r.done)
	}()
}

// running is the run of a migration, or nil.
func (e *Engine) running(id string) *run {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.runs[id]
}

// peer is the other half of a migration: another node's agent, or this one's own target.
func (e *Engine) peer(node string) (Peer, error) {
	if node == e.o.Node {
		return &local{Peer: Served(e, e.target), target: e.target}, nil
	}
	return e.o.Peer(node)
}

// touch runs fn as the touch t of migration id, with the hook of tests around it.
func (o *Options) touch(ctx context.Context, id string, t Touch, fn func() error) error {
	if o.Touch != nil {
		if err := o.Touch(ctx, id, t, false); err != nil {
			return err
		}
	}
	err := fn()
	if o.Touch != nil && err == nil {
		return o.Touch(ctx, id, t, true)
	}
	return err
}

func (o *Options) checkpointPath(id string) string {
	return filepath.Join(o.Directory, "migrations", id+checkpointSuffix)
}

func (o *Options) manifestPath(id string) string {
	return filepath.Join(o.Directory, "manifests", id+manifestSuffix)
}
