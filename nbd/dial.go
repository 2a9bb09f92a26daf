package nbd

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/cvold/cvold/dataplane"
)

const (
	// defaultDialTimeout bounds the handshake of one connection: a TLS handshake over a bad link takes seconds.
	defaultDialTimeout = 30 * time.Second
	// defaultDialRequests fills a link of 10 Gbit/s and 10 ms with requests of 1 MiB.
	defaultDialRequests = 16
	// maxDialConnections and maxDialRequests keep a slip in a configuration from flooding a server.
	maxDialConnections = 64
	maxDialRequests    = 1024
)

// DialOptions says which export to open and how.
type DialOptions struct {
	// Network is "tcp" or "unix", Address what net.Dial takes with it.
	Network, Address string
	// Export is the name; empty is the server's default export.
	Export string
	// TLS demands STARTTLS when it is not nil. Without a ServerName the host of Address is verified.
	TLS *tls.Config
	// Connections wanted, by default 1. One is used where the server does not say CAN_MULTI_CONN.
	Connections int
	// Requests in flight on each connection, by default 16; callers beyond them wait.
	Requests int
	// Timeout of the handshake of a connection and, when it is not zero, of each request: a request that takes longer
	// ends the device with ErrAbandoned. Zero: 30 s for the handshake, none for requests.
	Timeout time.Duration
	// Logger is told when a connection breaks; nil discards.
	Logger *slog.Logger

	identity identity // of a client that connects again
}

func (o DialOptions) withDefaults() (DialOptions, error) {
	preset(&o.Connections, 1)
	preset(&o.Requests, defaultDialRequests)
	preset(&o.Logger, slog.New(slog.DiscardHandler))
	if o.Connections < 1 || o.Connections > maxDialConnections || o.Requests < 1 || o.Requests > maxDialRequests {
		return o, fmt.Errorf("%d connections of %d requests: %w", o.Connections, o.Requests, dataplane.ErrOutOfRange)
	}
	return o, nil
}

func (o DialOptions) handshakeTimeout() time.Duration {
	if o.Timeout > 0 {
		return o.Timeout
	}
	return defaultDialTimeout
}

// Dial opens an export of an NBD server. ctx is for dialling only. Beside network and TLS errors: ErrNoExport (also
// dataplane.ErrNotFound), ErrRefused, ErrTLSRequired, ErrNoTLS, ErrProtocol. The caller closes the device.
func Dial(ctx context.Context, o DialOptions) (*Device, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	first, err := o.connect(ctx)
	if err != nil {
		return nil, err
	}
	connections := []negotiated{first}
	if !first.session.has(canMultiConn) {
		o.Connections = 1
	}
	for len(connections) < o.Connections {
		next, err := o.connect(ctx)
		if err == nil && !sameExport(first.session, next.session) {
			next.raw.Close()
			err = fmt.Errorf("export %s changed between two connections: %w", o.Export, ErrProtocol)
		}
		if err != nil {
			closeAll(connections)
			return nil, err
		}
		connections = append(connections, next)
	}
	return newDevice(connections, o), nil
}

// negotiated is a connection that is ready for transmission.
type negotiated struct {
	conn    net.Conn // with TLS the secured one
	raw     net.Conn // the socket below it
	session Session
}

func sameExport(a, b Session) bool {
	return a.Size == b.Size && a.Flags == b.Flags && a.MinBlock == b.MinBlock && a.MaxPayload == b.MaxPayload &&
		a.Allocation == b.Allocation
}

func closeAll(connections []negotiated) {
	for _, c := range connections {
		c.raw.Close()
	}
}

// connect dials and negotiates one connection.
func (o DialOptions) connect(ctx context.Context) (negotiated, error) {
	ctx, cancel := context.WithTimeout(ctx, o.handshakeTimeout())
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, o.Network, o.Address)
	if err != nil {
		return negotiated{}, fmt.Errorf("connect to NBD server: %w", err)
	}
	tuneSocket(raw)
	conn, session, err := o.negotiate(ctx, raw)
	if err != nil {
		raw.Close()
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		return negotiated{}, fmt.Errorf("open export %q of %s: %w", o.Export, o.Address, err)
	}
	return negotiated{conn, raw, session}, nil
}

// negotiate runs the handshake; ctx ends it by way of the connection's deadline.
func (o DialOptions) negotiate(ctx context.Context, raw net.Conn) (net.Conn, Session, error) {
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
	h := &handshake{conn: raw, tls: o.tlsConfig(), export: o.Export, who: o.identity}
	session, err := h.run(ctx)
	if !stop() && err == nil {
		err = ctx.Err() // the deadline may be set still
	}
	return h.conn, session, err
}

// tlsConfig is TLS with the name that the server has to prove.
func (o DialOptions) tlsConfig() *tls.Config {
	if o.TLS == nil || o.TLS.ServerName != "" {
		return o.TLS
	}
	host, _, err := net.SplitHostPort(o.Address)
	if err != nil {
		return o.TLS // a unix socket: without a name and a verifier of the caller's the handshake fails
	}
	config := o.TLS.Clone()
	config.ServerName = host
	return config
}
