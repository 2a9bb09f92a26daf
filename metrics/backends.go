package metrics

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/dataplane"
)

// backendTimeout is how long a back end may take to tell its capacity.
const backendTimeout = 5 * time.Second

var (
	backendUp   = desc("backend", "up", "Whether the back end told its capacity in its time.", "backend", "driver")
	backendSize = desc("backend", "size_bytes", "Capacity of the back end.", "backend", "driver")
	backendFree = desc("backend", "free_bytes", "Capacity of the back end that is free.", "backend", "driver")
)

// backends asks drivers for their capacity. A driver that hangs costs a scrape its time, once: it is not asked again
// before it has answered.
type backends struct {
	source Backends
	ctx    context.Context
	stop   context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex
	busy map[string]bool
}

func newBackends(s Backends) *backends {
	b := &backends{source: s, busy: map[string]bool{}}
	b.ctx, b.stop = context.WithCancel(context.Background())
	return b
}

func (b *backends) subsystem() subsystem {
	return subsystem{name: "backends", descs: []*prometheus.Desc{backendUp, backendSize, backendFree}, read: b.read}
}

// capacity is what one back end said.
type capacity struct {
	stats dataplane.Stats
	err   error
}

func (b *backends) read(send chan<- prometheus.Metric) error {
	all := b.source.Backends()
	ctx, cancel := context.WithTimeout(b.ctx, backendTimeout)
	defer cancel()
	answers := make([]<-chan capacity, len(all))
	for i, one := range all {
		answers[i] = b.ask(ctx, one)
	}
	var problems []error
	for i, one := range all {
		c := await(ctx, answers[i])
		up := 1
		if c.err != nil {
			problems = append(problems, fmt.Errorf("back end %s: %w", one.Name, c.err))
			up = 0
		} else {
			gauge(send, backendSize, c.stats.Total, one.Name, one.Driver.Kind())
			gauge(send, backendFree, c.stats.Free, one.Name, one.Driver.Kind())
		}
		gauge(send, backendUp, up, one.Name, one.Driver.Kind())
	}
	return errors.Join(problems...)
}

// await takes an answer that is there, even when the time is over too.
func await(ctx context.Context, answer <-chan capacity) capacity {
	select {
	case c := <-answer:
		return c
	case <-ctx.Done():
	}
	select {
	case c := <-answer:
		return c
	default:
		return capacity{err: context.Cause(ctx)}
	}
}

// errBusy: the back end has not answered the scrape before.
var errBusy = errors.New("has not answered yet what it was asked before")

// ask begins to ask a back end; the answer comes in its own time.
func (b *backends) ask(ctx context.Context, one volume.Backend) <-chan capacity {
	answer := make(chan capacity, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy[one.Name] || b.ctx.Err() != nil {
		answer <- capacity{err: errBusy}
		return answer
	}
	b.busy[one.Name] = true
	b.wg.Go(func() {
		stats, err := one.Driver.Stats(ctx)
		answer <- capacity{stats, err}
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.busy, one.Name)
	})
	return answer
}

func (b *backends) close(ctx context.Context) error {
	b.mu.Lock()
	b.stop()
	b.mu.Unlock()
	done := make(chan struct{})
	go func() { b.wg.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close metrics: a back end does not answer: %w", context.Cause(ctx))
	}
}
