package nbd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"
)

// welcome starts a goroutine for the connection, or closes it when there are too many.
func (s *Server) welcome(conn net.Conn, o ListenOptions) {
	if !s.register(conn) {
		s.rejected.Add(1)
		s.log.Warn("too many connections", "client", conn.RemoteAddr().String())
		conn.Close()
		return
	}
	s.accepted.Add(1)
	go s.handle(conn, o)
}

func (s *Server) register(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	limits := &s.shared.limits
	if s.isClosed() || len(s.connections) >= limits.Connections || s.handshakes >= limits.Handshakes {
		return false
	}
	s.connections[conn] = struct{}{}
	s.handshakes++
	s.running.Add(1)
	return true
}

// enrol registers a connection that needs no handshake. False: the server was closed.
func (s *Server) enrol(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed() {
		return false
	}
	s.connections[conn] = struct{}{}
	s.running.Add(1)
	return true
}

func (s *Server) handshakeEnded() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handshakes--
}

func (s *Server) forget(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.connections, conn)
	s.running.Done()
}

// handle is the life of a connection.
func (s *Server) handle(raw net.Conn, o ListenOptions) {
	defer s.forget(raw)
	defer raw.Close()
	log := s.log.With("client", raw.RemoteAddr().String())
	err := guard("connection", func() error {
		conn, session, err := s.negotiate(raw, o)
		if err != nil {
			return err
		}
		log = log.With("export", session.Export)
		log.Info("client connected", "tls", session.TLS)
		return s.transmit(conn, raw, session, log)
	})
	if err == nil || errors.Is(err, errAborted) {
		log.Debug("client left")
		return
	}
	s.broken.Add(1)
	if p := (*panicError)(nil); errors.As(err, &p) {
		log.Error("connection panicked", "error", err, "stack", string(p.stack))
		return
	}
	log.Info("connection ended", "error", err)
}

// negotiate returns what was agreed on, and the connection to go on with: raw, or TLS over it.
func (s *Server) negotiate(raw net.Conn, o ListenOptions) (net.Conn, Session, error) {
	defer s.handshakeEnded()
	deadline := time.Now().Add(s.shared.limits.HandshakeTimeout)
	if err := raw.SetDeadline(deadline); err != nil {
		return nil, Session{}, fmt.Errorf("set the handshake's deadline: %w", err)
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	tuneSocket(raw)
	n := &negotiation{
		conn: raw, tls: s.tls, require: o.RequireTLS, limits: s.shared.limits,
		find: s.find, list: func() []*served { return s.listed(new(int)) },
	}
	session, err := n.run(ctx)
	if err != nil {
		return nil, Session{}, fmt.Errorf("negotiate: %w", err)
	}
	return n.conn, session, raw.SetDeadline(time.Time{})
}

// transmit enters transmission with nothing but the connection and its session. The export may have been removed since,
// or be another one of that name: it must still fit what the client was told, and admit it.
func (s *Server) transmit(conn, raw net.Conn, session Session, log *slog.Logger) error {
	x := s.find(session.Export)
	if x == nil {
		return fmt.Errorf("enter transmission with export %s: %w", session.Export, ErrNoExport)
	}
	now, err := x.session()
	if err != nil {
		return err
	}
	if now.Size < session.Size || now.Flags|session.offered() != session.Flags || now.MinBlock != session.MinBlock {
		return fmt.Errorf("export %s is not what the client was told: %w", session.Export, ErrNoExport)
	}
	t, err := newTransmission(conn, raw, x, session, &s.shared, log)
	if err != nil {
		return err
	}
	if err := x.admit(t.client); err != nil {
		return err
	}
	return t.run()
}
