package migration

import (
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/transfer"
)

// Totals are the sums of the transfers of this process.
type Totals struct {
	SentBytes, ZeroBytes, SkippedBytes, ResumedBytes, VerifiedBytes int64
	DataChunks, ZeroChunks, Mismatches, Retries                     int64
}

// Stats is what there is to count at one moment.
type Stats struct {
	Totals
	// BytesPerSecond is the sum over what copies now.
	BytesPerSecond float64
	// Succeeded and Failed count what this process has ended.
	Succeeded, Failed int64
	// ByState counts the source's records, GuestsByState the target's.
	ByState       map[catalog.MigrationState]int
	GuestsByState map[catalog.GuestState]int
	// Limits are those that migrations share.
	Limits []Limit
}

// Stats counts; it reads the catalog.
func (e *Engine) Stats() (Stats, error) {
	s := Stats{ByState: map[catalog.MigrationState]int{}, GuestsByState: map[catalog.GuestState]int{}, Limits: e.sharedLimits()}
	all, err := e.all()
	if err != nil {
		return s, err
	}
	for _, m := range all {
		s.ByState[m.State]++
	}
	guests, err := e.target.all()
	if err != nil {
		return s, err
	}
	for _, g := range guests {
		s.GuestsByState[g.State]++
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s.Totals, s.Succeeded, s.Failed = e.totals, e.succeeded, e.failed
	for _, r := range e.runs {
		p := r.progress.Snapshot()
		s.Totals.add(p)
		s.BytesPerSecond += p.BytesPerSecond
	}
	return s, nil
}

func (t *Totals) add(p transfer.ProgressSnapshot) {
	t.SentBytes += p.SentBytes
	t.ZeroBytes += p.ZeroBytes
	t.ResumedBytes += p.ResumedBytes
	t.VerifiedBytes += p.VerifiedBytes
	t.DataChunks += p.DataChunks
	t.ZeroChunks += p.ZeroChunks
	t.SkippedBytes += p.SkippedBytes
	t.Mismatches += p.Mismatches
	t.Retries += p.Retries
}

// ended counts a migration that has ended, observes how long it took, and tidies up.
func (e *Engine) ended(m catalog.Migration, state catalog.MigrationState) {
	e.mu.Lock()
	if state == catalog.StateSucceeded {
		e.succeeded++
	} else {
		e.failed++
	}
	e.mu.Unlock()
	e.o.Logger.Info("migration ended", "migration", m.ID, "volume", m.VolumeID, "target", m.TargetHost, "state", state, "reason", m.Reason)
	e.sweepManifests(false)
	if e.o.Duration != nil {
		e.o.Duration.Observe(time.Since(m.CreatedAt).Seconds())
	}
}
