package metrics

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/internal/version"
	"github.com/cvold/cvold/nbd"
	"github.com/cvold/cvold/transfer"
)

const (
	// maxScrapes bounds the scrapes at the same time: a pair of Prometheus servers, and a person beside them.
	maxScrapes = 4
	// scrapeTimeout bounds one scrape; it is above backendTimeout, so that one slow back end does not cost the rest.
	scrapeTimeout = 20 * time.Second
)

// Migrations are counted by the engine.
type Migrations interface {
	Stats() (migration.Stats, error)
}

// NBD requests are counted by the server.
type NBD interface{ Stats() nbd.ServerStats }

// Foreground requests are counted by what background transfers yield to.
type Foreground interface {
	Stats() transfer.BackgroundStats
}

// Volumes are counted by the manager.
type Volumes interface{ Stats() volume.Stats }

// Backends are known by the manager, and asked for their capacity themselves.
type Backends interface{ Backends() []volume.Backend }

// Sources are what is read at each scrape. A nil one has no metrics.
type Sources struct {
	Build      version.Info
	Migrations Migrations
	NBD        NBD
	Foreground Foreground
	Volumes    Volumes
	Backends   Backends
	// Durations is what MigrationDuration returned; it was handed to the engine too.
	Durations prometheus.Collector
	// Logger is told why a subsystem could not be read; may be nil.
	Logger *slog.Logger
}

// Registry holds the agent's metrics. It is no global: each agent of a process has its own.
type Registry struct {
	prometheus *prometheus.Registry
	backends   *backends
}

// New makes a registry over the sources. Close it before they close.
func New(s Sources) *Registry {
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Registry{prometheus: prometheus.NewRegistry()}
	var all []subsystem
	if s.Migrations != nil {
		all = append(all, transfers(s.Migrations), migrations(s.Migrations), limits(s.Migrations))
	}
	if s.NBD != nil {
		all = append(all, nbdServer(s.NBD))
	}
	if s.Foreground != nil {
		all = append(all, foreground(s.Foreground))
	}
	if s.Volumes != nil {
		all = append(all, volumes(s.Volumes))
	}
	if s.Backends != nil {
		r.backends = newBackends(s.Backends)
		all = append(all, r.backends.subsystem())
	}
	r.prometheus.MustRegister(
		&scrape{subsystems: all, log: s.Logger}, buildInfo(s.Build), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	if s.Durations != nil {
		r.prometheus.MustRegister(s.Durations)
	}
	return r
}

// Handler answers scrapes, in the format that the scraper asks for.
func (r *Registry) Handler() http.Handler {
	return promhttp.HandlerFor(r.prometheus, promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError,
		Registry:            r.prometheus,
		MaxRequestsInFlight: maxScrapes,
		Timeout:             scrapeTimeout,
		EnableOpenMetrics:   true,
	})
}

// Close waits for back ends that still work on an answer, until ctx ends.
func (r *Registry) Close(ctx context.Context) error {
	if r.backends == nil {
		return nil
	}
	return r.backends.close(ctx)
}
