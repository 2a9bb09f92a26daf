package transfer

import (
	"sync"
	"time"
)

// Phases of a transfer, as Progress names them. A caller may set others.
const (
	PhaseCopying   = "copying"
	PhaseComparing = "comparing"
	// PhaseRechecking: what an earlier run verified is read back again.
	PhaseRechecking = "rechecking"
	PhaseDone       = "done"
)

const (
	// rateWindow is the time over which the rate is measured: long enough to be calm, short enough to show a change.
	rateWindow = 30 * time.Second
	// rateStep is the least time between two samples of it; it bounds their number.
	rateStep = time.Second
)

// Progress counts what a transfer has done. The zero value is ready; safe for concurrent use. It may be handed to
// several Copy calls one after the other (retries of one transfer): SentBytes and Mismatches go on.
type Progress struct {
	mu      sync.Mutex
	now     ProgressSnapshot
	samples []sample // ascending
	counted bool     // what chunks are was counted in a round before
}

// sample is how many bytes were verified at a time.
type sample struct {
	at    time.Time
	bytes int64
}

// ProgressSnapshot is the state of a transfer at one instant.
type ProgressSnapshot struct {
	Phase string `json:"phase"`
	// TotalBytes is the volume's size; VerifiedBytes of them are verified, durably.
	TotalBytes    int64 `json:"total_bytes"`
	VerifiedBytes int64 `json:"verified_bytes"`
	// ZeroBytes of those verified by this process were zeroes, and not sent as data.
	ZeroBytes int64 `json:"zero_bytes"`
	// SkippedBytes of those verified by this process were data that the target held already, and were not sent.
	SkippedBytes int64 `json:"skipped_bytes"`
	// SentBytes were written to the target as data, verified or not, copies of copies included.
	SentBytes int64 `json:"sent_bytes"`
	// ResumedBytes were verified when the last Copy began.
	ResumedBytes int64 `json:"resumed_bytes"`
	// RecheckedBytes of those resumed were read back again.
	RecheckedBytes int64 `json:"rechecked_bytes,omitempty"`
	// DataChunks and ZeroChunks are what this process verified.
	DataChunks int64 `json:"data_chunks"`
	ZeroChunks int64 `json:"zero_chunks"`
	// Mismatches counts chunks that were read back and differed.
	Mismatches int64 `json:"mismatches"`
	// Retries counts requests that failed and were made again.
	Retries int64 `json:"retries"`
	// BytesPerSecond is the rate at which bytes became verified in the last half minute.
	BytesPerSecond float64 `json:"bytes_per_second"`
	// ETA is how long the rest takes at that rate, in nanoseconds; 0: not known, or nothing left.
	ETA time.Duration `json:"eta"`
	// Started is when the first Copy began; zero before.
	Started time.Time `json:"started"`
}

// SetPhase names what is being done now.
func (p *Progress) SetPhase(phase string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Phase = phase
}

// Snapshot is the state now.
func (p *Progress) Snapshot() ProgressSnapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.now
	s.BytesPerSecond = p.rate(time.Now())
	if left := s.TotalBytes - s.VerifiedBytes; left > 0 && s.BytesPerSecond > 0 {
		s.ETA = time.Duration(min(float64(left)/s.BytesPerSecond, maxETA.Seconds()) * float64(time.Second))
	}
	return s
}

// maxETA keeps the duration from overflowing.
const maxETA = 100 * 365 * 24 * time.Hour

// begin starts a Copy: so many bytes are verified already.
func (p *Progress) begin(phase string, total, resumed int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.now.Started.IsZero() {
		p.now.Started = now
	}
	p.now.Phase = phase
	p.now.TotalBytes, p.now.VerifiedBytes, p.now.ResumedBytes = total, resumed, resumed
	p.counted = false
	p.samples = append(p.samples[:0], sample{now, resumed})
}

// again starts another round of a Copy: so many bytes are verified still. If none are, all chunks come once more, and what they
// were is counted already.
func (p *Progress) again(phase string, verified int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Phase, p.now.VerifiedBytes = phase, verified
	p.counted = p.counted || verified == 0
	p.samples = append(p.samples[:0], sample{time.Now(), verified})
}

// sent counts bytes written to the target.
func (p *Progress) sent(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.SentBytes += n
}

// mismatches counts chunks that differed.
func (p *Progress) mismatches(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Mismatches += n
}

// rechecked counts what was read back again.
func (p *Progress) rechecked(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.RecheckedBytes += n
}

// retried counts a request made again.
func (p *Progress) retried() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Retries++
}

// counts is what one batch adds.
type counts struct {
	bytes, zeroBytes, skippedBytes int64
	dataChunks, zeroChunks         int64
}

// verified counts what has become durable.
func (p *Progress) verified(n counts) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.VerifiedBytes += n.bytes
	if !p.counted {
		p.now.ZeroBytes += n.zeroBytes
		p.now.SkippedBytes += n.skippedBytes
		p.now.DataChunks += n.dataChunks
		p.now.ZeroChunks += n.zeroChunks
	}
	now := time.Now()
	if last := p.samples[len(p.samples)-1]; now.Sub(last.at) >= rateStep {
		p.trim(now)
		p.samples = append(p.samples, sample{now, p.now.VerifiedBytes})
	}
}

// trim drops the samples that are older than the window, but for the newest of them.
func (p *Progress) trim(now time.Time) {
	i := 0
	for i+1 < len(p.samples) && now.Sub(p.samples[i+1].at) >= rateWindow {
		i++
	}
	p.samples = append(p.samples[:0], p.samples[i:]...)
}

// rate is measured from the oldest sample in the window, or from the last one before it when nothing has moved since.
func (p *Progress) rate(now time.Time) float64 {
	if len(p.samples) == 0 {
		return 0
	}
	p.trim(now)
	passed := now.Sub(p.samples[0].at)
	if passed <= 0 {
		return 0
	}
	return float64(p.now.VerifiedBytes-p.samples[0].bytes) / passed.Seconds()
}
