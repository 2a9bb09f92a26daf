package peer

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/internal/pki"
)

const (
	// headerTimeout is how long a peer may take to send a request's header.
	headerTimeout = 10 * time.Second
	// idleTimeout is how long a peer's connection may rest.
	idleTimeout = 2 * time.Minute
	// maxHeader bounds a request's header.
	maxHeader = 64 << 10
)

// ServerOptions are the parts of a Server. All are required but Forwarded and Logger.
type ServerOptions struct {
	// Local answers the calls. Tokens come to it with Node set to the caller's.
	Local migration.Peer
	// Known says whether a node is one of this agent's peers.
	Known func(node string) bool
	// TLS asks for client certificates and verifies them.
	TLS *tls.Config
	// Forwarded answers a request that node forwards for caller (JSON). nil: none are taken.
	Forwarded func(w http.ResponseWriter, r *http.Request, node string, caller []byte)
	Logger    *slog.Logger
}

// Server answers other agents.
type Server struct {
	o    ServerOptions
	http *http.Server
}

// NewServer makes a server. Serve it.
func NewServer(o ServerOptions) *Server {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{o: o}
	s.http = &http.Server{
		Handler: s.Handler(), TLSConfig: o.TLS,
		ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
	return s
}

// Serve answers on l until Close, which it owns from now on; then it returns nil.
func (s *Server) Serve(l net.Listener) error {
	err := s.http.ServeTLS(l, "", "")
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Close stops taking calls and waits for those under way until ctx ends; then it cuts them.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	return errors.Join(err, s.http.Close())
}

// Handler is the table of calls.
func (s *Server) Handler() http.Handler {
	p := s.o.Local
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+prefix+"describe", call(s, func(ctx context.Context, _ string, r migration.DescribeRequest) (migration.Description, error) {
		return p.Describe(ctx, r)
	}))
	mux.HandleFunc("POST "+prefix+"prepare", call(s, func(ctx context.Context, node string, r migration.PrepareRequest) (migration.PrepareReply, error) {
		r.Node = node
		return p.Prepare(ctx, r)
	}))
	mux.HandleFunc("POST "+prefix+"digests", call(s, func(ctx context.Context, node string, r migration.DigestsRequest) (migration.DigestsReply, error) {
		r.Node = node
		return p.Digests(ctx, r)
	}))
	mux.HandleFunc("POST "+prefix+"ready", call(s, func(ctx context.Context, node string, r migration.ReadyRequest) (migration.ReadyReply, error) {
		r.Node = node
		return p.Ready(ctx, r)
	}))
	mux.HandleFunc("POST "+prefix+"outcome", call(s, func(ctx context.Context, node string, t migration.Token) (migration.OutcomeReply, error) {
		t.Node = node
		return p.Outcome(ctx, t)
	}))
	for name, fn := range map[string]func(context.Context, migration.Token) error{
		"commit": p.Commit, "update-migrated": p.UpdateMigrated, "abort": p.Abort, "forget": p.Forget,
	} {
		mux.HandleFunc("POST "+prefix+name, call(s, func(ctx context.Context, node string, t migration.Token) (struct{}, error) {
			t.Node = node
			return struct{}{}, fn(ctx, t)
		}))
	}
	mux.HandleFunc(forwardPrefix+"/", s.forwarded)
	return mux
}

// call is the handler of one call: it knows the caller, reads the message, and answers with the reply or the error.
func call[Request, Reply any](s *Server, fn func(ctx context.Context, node string, r Request) (Reply, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		defer s.recovered(w, r)
		node, err := s.caller(r)
		if err != nil {
			answer(w, http.StatusForbidden, failure{Message: err.Error()})
			return
		}
		var request Request
		if err := decode(r.Body, maxRequest, &request); err != nil {
			answer(w, http.StatusBadRequest, failure{Message: err.Error()})
			return
		}
		reply, err := fn(r.Context(), node, request)
		if err != nil {
			s.o.Logger.Debug("peer call", "path", r.URL.Path, "node", node, "error", err)
			answer(w, statusOf(err), failure{Code: migration.Code(err), Message: err.Error()})
			return
		}
		answer(w, http.StatusOK, reply)
	}
}

// caller is the node that the certificate names.
func (s *Server) caller(r *http.Request) (string, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return "", errors.New("no certificate")
	}
	role, node, err := pki.Identity(r.TLS.PeerCertificates[0])
	if err != nil {
		return "", err
	}
	if role != pki.Peer {
		return "", fmt.Errorf("%s %s is no peer", role, node)
	}
	if !s.o.Known(node) {
		return "", fmt.Errorf("node %s is not configured as a peer here", node)
	}
	return node, nil
}

// forwarded hands a request on to the API, without the prefix.
func (s *Server) forwarded(w http.ResponseWriter, r *http.Request) {
	defer s.recovered(w, r)
	node, err := s.caller(r)
	if err == nil && s.o.Forwarded == nil {
		err = errors.New("this agent takes no forwarded requests")
	}
	if err != nil {
		answer(w, http.StatusForbidden, failure{Message: "request not taken: " + err.Error()})
		return
	}
	r.URL.Path, r.URL.RawPath = strings.TrimPrefix(r.URL.Path, forwardPrefix), ""
	r.RequestURI = r.URL.RequestURI()
	caller := []byte(r.Header.Get(callerHeader))
	r.Header.Del(callerHeader)
	s.o.Forwarded(w, r, node, caller)
}

// recovered answers for a call that panicked, so that one broken call does not end the agent.
func (s *Server) recovered(w http.ResponseWriter, r *http.Request) {
	if p := recover(); p != nil {
		s.o.Logger.Error("peer call panicked", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
		answer(w, http.StatusInternalServerError, failure{Message: "internal error"})
	}
}

func answer(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		status, text = http.StatusInternalServerError, []byte(`{"message": "internal error: an answer that cannot be written"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text) // the peer has gone: nobody is left to tell
}
