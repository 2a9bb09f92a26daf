package nbd

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"
)

// Observer is told durations in seconds; a prometheus.Histogram is one.
type Observer interface{ Observe(float64) }

// Counts are totals since the server, or the export, began.
type Counts struct {
	// Requests answered, by command.
	Reads, Writes, Zeroes, Trims, Flushes, Caches, Statuses uint64
	// Refused requests, which never reached the device: unknown, misplaced, unaligned, not allowed.
	Refused uint64
	// Failed requests: the device's errors.
	Failed uint64
	// BytesRead and BytesWritten are payload of requests that succeeded.
	BytesRead, BytesWritten uint64
}

// ServerStats is what a server has done and holds.
type ServerStats struct {
	// Connections open now, handshakes included.
	Connections int
	// Accepted connections; Rejected ones because of a limit; Broken ones, that ended other than by NBD_OPT_ABORT,
	// NBD_CMD_DISC or the end of the stream between two messages.
	Accepted, Rejected, Broken uint64
	// Counts over all exports, removed ones included.
	Counts
	// Exports by name.
	Exports []ExportStats
}

// ExportStats is one export and who uses it.
type ExportStats struct {
	Name     string
	ReadOnly bool
	// Clients in the order of their coming.
	Clients []ClientStats
	Counts
}

// ClientStats is one connection to an export, and what it has done.
type ClientStats struct {
	Client
	Since time.Time
	Counts
}

// counters are Counts in the making.
type counters struct {
	reads, writes, zeroes, trims, flushes atomic.Uint64
	caches, statuses                      atomic.Uint64
	refused, failed                       atomic.Uint64
	bytesRead, bytesWritten               atomic.Uint64
}

func (c *counters) snapshot() Counts {
	return Counts{
		Reads: c.reads.Load(), Writes: c.writes.Load(), Zeroes: c.zeroes.Load(), Trims: c.trims.Load(),
		Flushes: c.flushes.Load(), Caches: c.caches.Load(), Statuses: c.statuses.Load(), Refused: c.refused.Load(), Failed: c.failed.Load(),
		BytesRead: c.bytesRead.Load(), BytesWritten: c.bytesWritten.Load(),
	}
}

// count books a request that was answered with code.
func (c *counters) count(r *request, code uint32) {
	if r.refused.code != 0 {
		c.refused.Add(1)
		return
	}
	if code != 0 {
		c.failed.Add(1)
	}
	n := r.length
	if code != 0 {
		n = 0
	}
	switch r.command {
	case cmdRead:
		c.reads.Add(1)
		c.bytesRead.Add(n)
	case cmdWrite:
		c.writes.Add(1)
		c.bytesWritten.Add(n)
	case cmdWriteZeroes:
		c.zeroes.Add(1)
	case cmdTrim:
		c.trims.Add(1)
	case cmdFlush:
		c.flushes.Add(1)
	case cmdCache:
		c.caches.Add(1)
	case cmdBlockStatus:
		c.statuses.Add(1)
	}
}

// Stats may be called at any time; its parts are not of one instant.
func (s *Server) Stats() ServerStats {
	stats := ServerStats{
		Accepted: s.accepted.Load(), Rejected: s.rejected.Load(), Broken: s.broken.Load(),
		Counts: s.shared.counters.snapshot(),
	}
	for _, x := range s.listed(&stats.Connections) {
		stats.Exports = append(stats.Exports, x.stats())
	}
	slices.SortFunc(stats.Exports, func(a, b ExportStats) int { return cmp.Compare(a.Name, b.Name) })
	return stats
}
