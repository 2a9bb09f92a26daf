package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cvold/cvold/internal/version"
)

// buildInfo says which agent this is, as labels of a 1.
func buildInfo(v version.Info) prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info",
		Help:        "The running build of cvold; always 1.",
		ConstLabels: prometheus.Labels{"version": v.Version, "commit": v.Commit, "goversion": v.Go},
	})
	g.Set(1)
	return g
}
