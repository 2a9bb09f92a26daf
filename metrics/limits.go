package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cvold/cvold/agent/migration"
)

var (
	limitBytes = desc("limit", "bytes_per_second",
		"What transfers may copy in a second; 0 is no limit. That of the background is found from the foreground's latency.", "limit", "backend")
	limitOperations = desc("limit", "operations_per_second", "How many chunks transfers may copy in a second; 0 is no limit.", "limit", "backend")
	limitPassed     = desc("limit", "passed_bytes_total", "Bytes that a limit has let through.", "limit", "backend")
	limitPassedOps  = desc("limit", "passed_operations_total", "Chunks that a limit has let through.", "limit", "backend")
	limitWaited     = desc("limit", "waited_seconds_total", "How long transfers have waited at a limit, each for itself.", "limit", "backend")

	foregroundRequests = desc("foreground", "requests_total", "Reads and writes of exports that devices were timed for, those of migrations not among them.")
	foregroundSlow     = desc("foreground", "slow_requests_total", "Those of them that took longer than background_latency.")
)

// limits are those that transfers share.
func limits(m Migrations) subsystem {
	return subsystem{
		name:  "limits",
		descs: []*prometheus.Desc{limitBytes, limitOperations, limitPassed, limitPassedOps, limitWaited},
		read: func(send chan<- prometheus.Metric) error {
			s, err := m.Stats()
			if err != nil {
				return err
			}
			for _, l := range s.Limits {
				backend := ""
				if l.Kind == migration.LimitOfBackend {
					backend = l.Name
				}
				labels := []string{string(l.Kind), backend}
				gauge(send, limitBytes, l.Rate.Bytes, labels...)
				gauge(send, limitOperations, l.Rate.Operations, labels...)
				counter(send, limitPassed, l.Stats.Bytes, labels...)
				counter(send, limitPassedOps, l.Stats.Operations, labels...)
				counter(send, limitWaited, l.Stats.Waited.Seconds(), labels...)
			}
			return nil
		},
	}
}

// foreground is what background transfers yield to.
func foreground(f Foreground) subsystem {
	return subsystem{
		name:  "foreground",
		descs: []*prometheus.Desc{foregroundRequests, foregroundSlow},
		read: func(send chan<- prometheus.Metric) error {
			s := f.Stats()
			counter(send, foregroundRequests, s.Requests)
			counter(send, foregroundSlow, s.Slow)
			return nil
		},
	}
}
