package nbd

import "time"

// Limits bounds what clients can make the server hold. A field that is zero has the default named beside it.
type Limits struct {
	// Connections open at the same time; one more is closed at once. defaultConnections
	Connections int
	// Handshakes under way at the same time, so that strangers cannot take all connections. defaultHandshakes
	Handshakes int
	// HandshakeTimeout from accept to the first request, TLS included. defaultHandshakeTimeout
	HandshakeTimeout time.Duration
	// Options of one handshake. defaultOptions
	Options int
	// Requests in flight on one connection; the next one is not read. defaultRequests
	Requests int
	// ConnectionBytes of payload in flight on one connection, at least 32 MiB. defaultConnectionBytes
	ConnectionBytes int64
	// TotalBytes of payload in flight on all connections, at least 32 MiB. defaultTotalBytes
	TotalBytes int64
	// StallTimeout in which a client must move stallPiece bytes of a message that has begun; three quarters of it are
	// sure. defaultStallTimeout
	StallTimeout time.Duration
	// IdleTimeout between two requests. Zero means none: an attached device may be idle for days.
	IdleTimeout time.Duration
	// DrainTimeout in which replies must leave when an export is removed. defaultDrainTimeout
	DrainTimeout time.Duration
}

const (
	// A node serves tens of volumes over up to eight connections each.
	defaultConnections = 512
	// Enough for every peer to reconnect at once.
	defaultHandshakes = 64
	// A TLS handshake over a bad link takes a few seconds.
	defaultHandshakeTimeout = 20 * time.Second
	// qemu-nbd --list asks about three options for each export.
	defaultOptions = 256
	// nbdcopy keeps 64 requests in flight, the kernel 128 at most, qemu 16.
	defaultRequests = 64
	// One request of the largest size, or 32 of 1 MiB.
	defaultConnectionBytes = 32 << 20
	// What is in flight stays in the processor's caches or does not matter: more was measured to bring nothing.
	defaultTotalBytes = 64 << 20
	// With stallPiece: slower than 9 KiB/s is no client but a burden.
	defaultStallTimeout = 60 * time.Second
	// A client that reads takes what is left within a round trip.
	defaultDrainTimeout = 2 * time.Second

	// stallPiece is the progress that a peer must make within StallTimeout.
	stallPiece = 512 << 10
	// cachePiece is how much a NBD_CMD_CACHE reads at once.
	cachePiece = 256 << 10
	// maxOptionData is the longest option data that is read: two strings and a list of information requests.
	maxOptionData = 2*maxString + 1024
	// maxQueries of one NBD_OPT_LIST_META_CONTEXT or NBD_OPT_SET_META_CONTEXT are looked at.
	maxQueries = 64
	// bufferedBytes is the client's read buffer of a connection: room for many heads, while payloads mostly go past it.
	bufferedBytes = 16 << 10
	// acceptRetry is the pause after a failed accept, mostly for want of file descriptors.
	acceptRetry = 100 * time.Millisecond
)

func (l Limits) withDefaults() Limits {
	preset(&l.Connections, defaultConnections)
	preset(&l.Handshakes, defaultHandshakes)
	preset(&l.HandshakeTimeout, defaultHandshakeTimeout)
	preset(&l.Options, defaultOptions)
	preset(&l.Requests, defaultRequests)
	preset(&l.ConnectionBytes, defaultConnectionBytes)
	preset(&l.TotalBytes, defaultTotalBytes)
	preset(&l.StallTimeout, defaultStallTimeout)
	preset(&l.DrainTimeout, defaultDrainTimeout)
	l.ConnectionBytes = max(l.ConnectionBytes, maxPayload)
	l.TotalBytes = max(l.TotalBytes, maxPayload)
	return l
}

func preset[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
