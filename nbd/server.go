package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// ServerOptions says how a Server behaves. The zero value serves plain connections with the default limits.
type ServerOptions struct {
	// TLS offers STARTTLS when it is not nil. Clients are identified by certificate only if it verifies them.
	TLS *tls.Config
	// Limits of what clients can make the server hold.
	Limits Limits
	// Logger is told of connections and their ends; nil discards.
	Logger *slog.Logger
	// RequestSeconds observes each request from when it was read to when its reply was written; nil for none.
	RequestSeconds Observer
}

// ListenOptions says how connections of one listener are served.
type ListenOptions struct {
	// RequireTLS answers everything before STARTTLS with NBD_REP_ERR_TLS_REQD (FORCEDTLS mode).
	RequireTLS bool
}

// Server serves exports to any number of listeners. All methods may be called at the same time. Close it.
type Server struct {
	tls    *tls.Config
	log    *slog.Logger
	shared shared

	accepted, rejected, broken atomic.Uint64

	mu          sync.Mutex
	closed      chan struct{}
	exports     map[string]*served
	draining    map[string]*served // removed, with requests perhaps still in flight
	listeners   map[net.Listener]struct{}
	connections map[net.Conn]struct{} // sockets, with handshakes
	handshakes  int
	running     sync.WaitGroup // connections
}

// NewServer returns a server without exports and listeners.
func NewServer(o ServerOptions) *Server {
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	limits := o.Limits.withDefaults()
	return &Server{
		tls: o.TLS, log: log,
		shared:      shared{limits: limits, budget: newBudget(limits.TotalBytes), observer: o.RequestSeconds},
		closed:      make(chan struct{}),
		exports:     map[string]*served{},
		draining:    map[string]*served{},
		listeners:   map[net.Listener]struct{}{},
		connections: map[net.Conn]struct{}{},
	}
}

// Add serves an export from now on. ErrExportExists while one of that name is served, or was removed and still has
// requests in flight; ErrInvalidExport; ErrServerClosed.
func (s *Server) Add(e Export) error {
	x, err := newServed(e)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed() {
		return ErrServerClosed
	}
	if old := s.draining[e.Name]; old != nil && old.gate.drained() {
		delete(s.draining, e.Name)
	}
	if s.exports[e.Name] != nil || s.draining[e.Name] != nil {
		return fmt.Errorf("add export %s: %w", e.Name, ErrExportExists)
	}
	s.exports[e.Name] = x
	return nil
}

// Remove is the write fence: when it has returned nil no request of the export is in flight and none can start. A
// request that was read before and not yet begun is answered NBD_ESHUTDOWN, connections are closed once their replies
// have left. The device stays open.
//
// If ctx ends before that, its error is returned and the export stays removed, with requests perhaps still in flight:
// Remove may then be called again to wait for them. ErrNoExport when nothing of that name is served or in flight.
func (s *Server) Remove(ctx context.Context, name string) error {
	x, err := s.retire(name)
	if err != nil {
		return err
	}
	if err := x.gate.wait(ctx); err != nil {
		x.each((*transmission).cut)
		return fmt.Errorf("drain export %s: %w", name, err)
	}
	x.drain(ctx, s.shared.limits.DrainTimeout)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining[name] == x {
		delete(s.draining, name)
	}
	return nil
}

// retire closes the export's fence and moves it to those that drain.
func (s *Server) retire(name string) (*served, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.exports[name]
	if x == nil {
		x = s.draining[name]
	}
	if x == nil {
		return nil, fmt.Errorf("remove export %s: %w", name, ErrNoExport)
	}
	delete(s.exports, name)
	s.draining[name] = x
	x.retire()
	return x, nil
}

// Serve accepts connections from l until the server is closed, and then returns nil. It owns and closes l.
func (s *Server) Serve(l net.Listener, o ListenOptions) error {
	defer l.Close()
	if !s.adopt(l) {
		return nil
	}
	defer s.disown(l)
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			s.welcome(conn, o)
		case s.isClosed():
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept on %v: %w", l.Addr(), err)
		default:
			s.log.Warn("accept failed", "listener", l.Addr().String(), "error", err)
			if !s.pause(acceptRetry) {
				return nil
			}
		}
	}
}

// pause reports false when the server was closed meanwhile.
func (s *Server) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.closed:
		return false
	}
}

func (s *Server) adopt(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed() {
		return false
	}
	s.listeners[l] = struct{}{}
	return true
}

func (s *Server) disown(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

func (s *Server) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// Close removes all exports as Remove does, ends all connections and listeners, and waits until all has ended or ctx
// has, whose error it then returns. It may be called again.
func (s *Server) Close(ctx context.Context) error {
	exports := s.shut()
	var failed error
	for _, x := range exports {
		if err := x.gate.wait(ctx); err != nil {
			failed = fmt.Errorf("drain export %s: %w", x.Name, err)
		}
	}
	var drains sync.WaitGroup
	for _, x := range exports {
		drains.Go(func() { x.drain(ctx, s.shared.limits.DrainTimeout) })
	}
	drains.Wait()
	if err := s.finish(ctx); failed == nil {
		failed = err
	}
	return failed
}

// shut lets nobody in, and returns the exports that may have requests in flight, all retired.
func (s *Server) shut() []*served {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isClosed() {
		close(s.closed)
	}
	for l := range s.listeners {
		l.Close()
	}
	for name, x := range s.exports {
		x.retire()
		delete(s.exports, name)
		s.draining[name] = x
	}
	var exports []*served
	for _, x := range s.draining {
		exports = append(exports, x)
	}
	return exports
}

// finish cuts what is left and waits for its goroutines.
func (s *Server) finish(ctx context.Context) error {
	s.mu.Lock()
	for conn := range s.connections {
		conn.Close()
	}
	s.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		s.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		s.shared.buffers.empty()
		return nil
	case <-ctx.Done():
		return fmt.Errorf("connections still have requests in flight: %w", context.Cause(ctx))
	}
}

func (s *Server) find(name string) *served {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.exports[name]
}

// listed are the exports now, in no order, and into connections goes their number.
func (s *Server) listed(connections *int) []*served {
	s.mu.Lock()
	defer s.mu.Unlock()
	*connections = len(s.connections)
	exports := make([]*served, 0, len(s.exports))
	for _, x := range s.exports {
		exports = append(exports, x)
	}
	return exports
}
