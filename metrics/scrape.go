package metrics

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
)

// namespace begins every name.
const namespace = "cvold"

// subsystem is one file of this package: what it has, and how it is read.
type subsystem struct {
	name  string
	descs []*prometheus.Desc
	// read sends the metrics. An error says that some are missing.
	read func(send chan<- prometheus.Metric) error
}

// scrape reads all subsystems, one after the other, and says of each whether it could be read.
type scrape struct {
	subsystems []subsystem
	log        *slog.Logger
}

var scrapeSuccess = desc("scrape", "success", "Whether the numbers of a subsystem could be read (1) or some are missing (0).", "subsystem")

// Describe implements prometheus.Collector.
func (s *scrape) Describe(send chan<- *prometheus.Desc) {
	send <- scrapeSuccess
	for _, sub := range s.subsystems {
		for _, d := range sub.descs {
			send <- d
		}
	}
}

// Collect implements prometheus.Collector.
func (s *scrape) Collect(send chan<- prometheus.Metric) {
	for _, sub := range s.subsystems {
		success := 1.0
		if err := sub.read(send); err != nil {
			success = 0
			s.log.Warn("metrics are missing", "subsystem", sub.name, "error", err)
		}
		gauge(send, scrapeSuccess, success, sub.name)
	}
}

// desc describes cvold_SUBSYSTEM_NAME.
func desc(subsystem, name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, subsystem, name), help, labels, nil)
}

// gauge sends what may go up and down.
func gauge[N ~int | ~int64 | ~uint64 | ~float64](send chan<- prometheus.Metric, d *prometheus.Desc, value N, labels ...string) {
	send <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value), labels...)
}

// counter sends what only grows while the process lives.
func counter[N ~int64 | ~uint64 | ~float64](send chan<- prometheus.Metric, d *prometheus.Desc, value N, labels ...string) {
	send <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
}
