package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cvold/cvold/agent/catalog"
)

var (
	migrationsByState = desc("", "migrations",
		"Migrations in the catalog, by this agent's role in them and their state. Ended ones are kept for a while.", "role", "state")
	migrationsFinished = desc("", "migrations_finished_total",
		"Migrations from this agent that have ended since it was started, by outcome.", "outcome")
	migrationsAwaitingCommit = desc("", "migrations_awaiting_commit",
		"Migrations past the point of no return whose target has not taken over yet: their volumes are served by nobody.")
	migrationsInDoubt = desc("", "migrations_in_doubt",
		"Migrations to this agent whose outcome nobody can tell: they need an operator (cvol migration resolve).")
)

// The states, so that each is there with 0 before it is first reached.
var (
	sourceStates = []catalog.MigrationState{
		catalog.StateAccepted, catalog.StatePreparing, catalog.StateCopying, catalog.StateReadying, catalog.StateCommitting,
		catalog.StateDisposing, catalog.StateRenaming, catalog.StateForgetting, catalog.StateSucceeded,
		catalog.StateAborting, catalog.StateFailed,
	}
	targetStates = []catalog.GuestState{
		catalog.GuestPreparing, catalog.GuestPrepared, catalog.GuestReady, catalog.GuestCommitted,
		catalog.GuestAborting, catalog.GuestAborted, catalog.GuestInDoubt,
	}
)

// migrations of both roles.
func migrations(m Migrations) subsystem {
	return subsystem{
		name:  "migrations",
		descs: []*prometheus.Desc{migrationsByState, migrationsFinished, migrationsAwaitingCommit, migrationsInDoubt},
		read: func(send chan<- prometheus.Metric) error {
			s, err := m.Stats()
			if err != nil {
				return err
			}
			for _, state := range sourceStates {
				gauge(send, migrationsByState, s.ByState[state], "source", string(state))
			}
			for _, state := range targetStates {
				gauge(send, migrationsByState, s.GuestsByState[state], "target", string(state))
			}
			counter(send, migrationsFinished, s.Succeeded, "succeeded")
			counter(send, migrationsFinished, s.Failed, "failed")
			gauge(send, migrationsAwaitingCommit, s.ByState[catalog.StateCommitting])
			gauge(send, migrationsInDoubt, s.GuestsByState[catalog.GuestInDoubt])
			return nil
		},
	}
}

// durationBuckets reach from an empty volume to some terabytes, in seconds.
var durationBuckets = []float64{1, 5, 15, 60, 300, 900, 3600, 3 * 3600, 12 * 3600, 24 * 3600}

// MigrationDuration makes the histogram of how long ended migrations took, in seconds, from acceptance to end. It is
// classic and native at once: scrapers that know native histograms see steps of a tenth. Hand it to the engine as its
// observer, and to New.
func MigrationDuration() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: namespace, Name: "migration_duration_seconds",
		Help:                            "How long ended migrations took, from acceptance to end.",
		Buckets:                         durationBuckets,
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  160,
		NativeHistogramMinResetDuration: time.Hour,
	})
}
