package metrics

import "github.com/prometheus/client_golang/prometheus"

var (
	nbdConnections = desc("nbd", "connections", "Connections to the NBD server now, handshakes included.")
	nbdAccepted    = desc("nbd", "connections_accepted_total", "Connections that the NBD server took.")
	nbdRejected    = desc("nbd", "connections_rejected_total", "Connections that the NBD server closed because of a limit.")
	nbdBroken      = desc("nbd", "connections_broken_total", "Connections that ended in the middle of a message or a request.")
	nbdExports     = desc("nbd", "exports", "Exports of the NBD server now, those of migrations among them.")
	nbdRequests    = desc("nbd", "requests_total", "Requests that devices answered, errors among them.", "command")
	nbdErrors      = desc("nbd", "errors_total", "Requests answered with an error: refused before they reached the device, or failed by it.", "kind")
	nbdRead        = desc("nbd", "read_bytes_total", "Bytes that clients read.")
	nbdWritten     = desc("nbd", "written_bytes_total", "Bytes that clients wrote as data.")
)

// nbdServer is the NBD server over all its exports.
func nbdServer(n NBD) subsystem {
	return subsystem{
		name: "nbd",
		descs: []*prometheus.Desc{
			nbdConnections, nbdAccepted, nbdRejected, nbdBroken, nbdExports, nbdRequests, nbdErrors, nbdRead, nbdWritten,
		},
		read: func(send chan<- prometheus.Metric) error {
			s := n.Stats()
			gauge(send, nbdConnections, s.Connections)
			counter(send, nbdAccepted, s.Accepted)
			counter(send, nbdRejected, s.Rejected)
			counter(send, nbdBroken, s.Broken)
			gauge(send, nbdExports, len(s.Exports))
			counter(send, nbdRequests, s.Reads, "read")
			counter(send, nbdRequests, s.Writes, "write")
			counter(send, nbdRequests, s.Zeroes, "write_zeroes")
			counter(send, nbdRequests, s.Trims, "trim")
			counter(send, nbdRequests, s.Flushes, "flush")
			counter(send, nbdRequests, s.Caches, "cache")
			counter(send, nbdRequests, s.Statuses, "block_status")
			counter(send, nbdErrors, s.Refused, "refused")
			counter(send, nbdErrors, s.Failed, "failed")
			counter(send, nbdRead, s.BytesRead)
			counter(send, nbdWritten, s.BytesWritten)
			return nil
		},
	}
}
