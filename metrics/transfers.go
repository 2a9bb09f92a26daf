package metrics

import "github.com/prometheus/client_golang/prometheus"

var (
	transferBytes = desc("transfer", "bytes_total",
		"Bytes that transfers dealt with: sent as data, told as zeroes, there already (skipped), or verified by an earlier attempt (resumed).", "kind")
	transferVerified = desc("transfer", "verified_bytes",
		"Bytes that are verified at their target, durably, in the transfers of this process.")
	transferRate = desc("transfer", "verified_bytes_per_second",
		"Rate at which bytes became verified in the last half minute, over all transfers.")
	transferChunks     = desc("transfer", "chunks_total", "Chunks that transfers verified, by what they hold.", "kind")
	transferMismatches = desc("transfer", "mismatches_total", "Chunks that were read back at the target, differed, and were copied again.")
	transferRetries    = desc("transfer", "retries_total", "Requests of transfers that failed and were made again.")
)

// transfers are the copies of the engine's migrations.
func transfers(m Migrations) subsystem {
	return subsystem{
		name:  "transfers",
		descs: []*prometheus.Desc{transferBytes, transferVerified, transferRate, transferChunks, transferMismatches, transferRetries},
		read: func(send chan<- prometheus.Metric) error {
			s, err := m.Stats()
			if err != nil {
				return err
			}
			counter(send, transferBytes, s.SentBytes, "sent")
			counter(send, transferBytes, s.ZeroBytes, "zero")
			counter(send, transferBytes, s.SkippedBytes, "skipped")
			counter(send, transferBytes, s.ResumedBytes, "resumed")
			gauge(send, transferVerified, s.VerifiedBytes)
			gauge(send, transferRate, s.BytesPerSecond)
			counter(send, transferChunks, s.DataChunks, "data")
			counter(send, transferChunks, s.ZeroChunks, "zero")
			counter(send, transferMismatches, s.Mismatches)
			counter(send, transferRetries, s.Retries)
			return nil
		},
	}
}
