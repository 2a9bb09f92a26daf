package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/client"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/nbd"
)

const (
	// headerTimeout is how long a client may take to send a request's header.
	headerTimeout = 10 * time.Second
	// idleTimeout is how long a connection may rest between two requests.
	idleTimeout = 2 * time.Minute
	// maxHeader bounds a request's header in bytes.
	maxHeader = 64 << 10
	// maxAdminRequests and maxOtherRequests bound the requests in flight, long polls among them. Those who may only read
	// cannot take the place of the admins.
	maxAdminRequests = 256
	maxOtherRequests = 32
	// cutTime is how long Close waits for requests that it has cut off.
	cutTime = 2 * time.Second
)

// Volumes is what the API needs of the volume manager; *volume.Manager is one.
type Volumes interface {
	Create(ctx context.Context, r volume.CreateRequest) (catalog.Volume, error)
	Delete(ctx context.Context, id string) error
	Extend(ctx context.Context, id string, size int64) (catalog.Volume, error)
	Edit(ctx context.Context, id string, e volume.Edit) (catalog.Volume, error)
	Get(id string) (catalog.Volume, error)
	List(f volume.Filter) ([]catalog.Volume, error)
	Export(ctx context.Context, id string, readOnly bool) (catalog.Attachment, error)
	Attach(ctx context.Context, id string, readOnly bool) (catalog.Attachment, error)
	Detach(ctx context.Context, attachmentID string, force bool) error
	Trouble(a catalog.Attachment) error
	Attachments(id string) []catalog.Attachment
}

// Manager is what the API needs of the volume manager for objects that are no volumes yet; *volume.Manager is one.
type Manager interface {
	Manage(ctx context.Context, r volume.ManageRequest) (catalog.Volume, error)
	Manageable(ctx context.Context, host string) ([]dataplane.Candidate, error)
	Unmanage(ctx context.Context, id string) error
}

// Types is what the API needs of the volume manager for volume types; *volume.Manager is one.
type Types interface {
	Types() ([]catalog.Type, error)
	Type(id string) (catalog.Type, error)
	CreateType(name, description string, specs map[string]string) (catalog.Type, error)
	UpdateType(id string, name, description *string) (catalog.Type, error)
	ChangeExtraSpecs(id string, set map[string]string, unset ...string) (catalog.Type, error)
	DeleteType(id string) error
	Retype(ctx context.Context, id, newType string) (catalog.Volume, error)
}

// Pools is what the API needs of the volume manager for back ends and their services; *volume.Manager is one.
type Pools interface {
	Backends() []volume.Backend
	Capabilities(ctx context.Context, b volume.Backend) (volume.Capabilities, error)
	SetService(host string, disabled bool, reason string) (catalog.Service, error)
}

// Migrations is what the API needs of the migration engine; *migration.Engine is one.
type Migrations interface {
	Accept(ctx context.Context, volumeID string, r migration.Request) (catalog.Migration, error)
	Get(id string) (migration.View, error)
	List() ([]migration.View, error)
	Wait(ctx context.Context, id string, since string) (migration.View, error)
	Abort(ctx context.Context, id, reason string) error
	Preempt(ctx context.Context, volumeID, reason string) error
	Resolve(ctx context.Context, id, owner string) error
	Manifest(volumeID string) (path string, err error)
	AllLimits() ([]migration.Limit, error)
	LimitNode(c migration.LimitChange) (migration.Limit, error)
	LimitBackend(name string, c migration.LimitChange) (migration.Limit, error)
	LimitMigration(id string, c migration.LimitChange) (migration.Limit, error)
}

// Forwarder takes requests to other agents.
type Forwarder interface {
	// Forward sends r (its path, query, header and body) to node's agent, to be answered for caller. The caller closes
	// the answer's body.
	Forward(ctx context.Context, node string, r *http.Request, caller Caller) (*http.Response, error)
	// Nodes are the other agents, each by its node name.
	Nodes() []string
}

// Options are the parts that a Server answers from. Node, Store, Volumes, Types, Pools, Manager, Migrations, Status, Config,
// URIs, Exports, Backup and Rebuild are required.
type Options struct {
	// Node is this agent's node name.
	Node    string
	Version client.Version
	// Store is read for what the volumes' records point to: types, services, attachments.
	Store      catalog.Store
	Volumes    Volumes
	Types      Types
	Pools      Pools
	Manager    Manager
	Migrations Migrations
	// Peers may be nil: then this agent is alone.
	Peers Forwarder
	// Status makes the answer to GET /v1/status.
	Status func(ctx context.Context) client.Status
	// Config are all options of the agent, secrets hidden, in the order of its sections.
	Config func() []client.Setting
	// URIs says where an NBD export is found: on this node, and over TCP (empty if it is not).
	URIs func(export string) (unix, tcp string)
	// Exports are what the NBD server serves now.
	Exports func() []nbd.ExportStats
	// Backup makes a copy of the catalog and opens it. The file has no name any more; the caller closes it.
	Backup func() (*os.File, error)
	// Rebuild makes records of objects whose records were lost; with dryRun it only says which.
	Rebuild func(ctx context.Context, dryRun bool) (client.RebuildAnswer, error)
	// Metrics answers GET /metrics; nil if there are none.
	Metrics http.Handler
	// AdminGroup is the name or number of the group whose members are admins; empty for none.
	AdminGroup string
	// Logger may be nil.
	Logger *slog.Logger
}

// Server answers the API. All methods may be called at the same time. It uses its parts until Close has returned.
type Server struct {
	o     Options
	log   *slog.Logger
	judge judge
	table table
	http  *http.Server
	// soft ends when Close begins, hard when it gives up waiting.
	soft, hard       context.Context
	endSoft, endHard context.CancelFunc
	admins, others   chan struct{}
	streams, backups chan struct{}

	// held is why every request is refused now; nil if none is.
	held atomic.Pointer[string]

	mu     sync.Mutex
	closed bool
	active int
	idle   chan struct{} // closed when closed and active is 0
}

// New makes a server. Serve it, or hand its Handler to the one that takes requests from peers.
func New(o Options) (*Server, error) {
	j, err := newJudge(o.AdminGroup)
	if err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		o: o, log: o.Logger, judge: j, idle: make(chan struct{}),
		admins: make(chan struct{}, maxAdminRequests), others: make(chan struct{}, maxOtherRequests),
		streams: make(chan struct{}, maxStreams), backups: make(chan struct{}, 1),
	}
	s.soft, s.endSoft = context.WithCancel(context.Background())
	s.hard, s.endHard = context.WithCancel(context.Background())
	s.table = newTable(routes(), func(rt route, r *http.Request) {
		x := r.Context().Value(exchangeKey{}).(*exchange)
		x.r = r
		if err := s.answer(rt, x); err != nil {
			x.fail(err)
		}
	})
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnContext:       connContext,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// connContext puts the caller of a connection into the context of its requests.
func connContext(ctx context.Context, c net.Conn) context.Context {
	from, ok := c.(*conn)
	if !ok {
		return ctx
	}
	if from.loopback != nil {
		ctx = context.WithValue(ctx, loopbackKey{}, from.loopback)
	}
	if from.known {
		ctx = WithCaller(ctx, from.caller)
	}
	return ctx
}

// Handler answers requests whose context has a Caller; all others are refused.
func (s *Server) Handler() http.Handler { return s }

// Serve answers what comes through l, which it closes, until Close; then it returns nil. The caller of a request is the
// process at the other end of the unix socket; through any other kind of listener nobody may do anything.
func (s *Server) Serve(l net.Listener) error {
	return s.serve(&listener{Listener: l, identify: s.judge.unixCaller})
}

func (s *Server) serve(l *listener) error {
	err := s.http.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve the API on %s: %w", l.Addr(), err)
}

// Close refuses new requests, ends long polls, and waits for the requests in flight, those that came through Handler among
// them. When ctx ends before they have, it cancels them, waits a moment more, and returns the error of ctx. A second Close waits too.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		if s.active == 0 {
			close(s.idle)
		}
	}
	s.mu.Unlock()
	s.endSoft()
	defer s.endHard()
	err := s.http.Shutdown(ctx)
	select {
	case <-s.idle:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil {
		return nil
	}
	s.endHard()
	err = errors.Join(err, s.http.Close())
	select {
	case <-s.idle:
	case <-time.After(cutTime):
		err = errors.Join(err, errors.New("requests in flight do not end"))
	}
	return fmt.Errorf("close the API: %w", err)
}

// Hold refuses every request from now on, with the reason (503), until Release.
func (s *Server) Hold(reason string) { s.held.Store(&reason) }

// Release ends Hold.
func (s *Server) Release() { s.held.Store(nil) }

// begin counts a request; false once the server closes.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.active++
	}
	return !s.closed
}

func (s *Server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active--; s.closed && s.active == 0 {
		close(s.idle)
	}
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := s.newExchange(w, r)
	defer x.logged()
	defer x.recovered()
	x.w.Header().Set(requestHeader, x.requestID)
	if !s.begin() {
		x.fail(fault{http.StatusServiceUnavailable, "the agent is stopping"})
		return
	}
	defer s.end()
	if why := s.held.Load(); why != nil {
		x.fail(fault{http.StatusServiceUnavailable, *why})
		return
	}
	if x.cinder() {
		microversion(x)
	}
	caller, known := CallerFrom(r.Context())
	x.caller = caller
	if l := loopbackFrom(r.Context()); l != nil {
		if err := l.guard(r); err != nil {
			x.fail(err)
			return
		}
	}
	if err := s.judge.allow(caller, known, anyone); err != nil {
		x.fail(err)
		return
	}
	leave, err := s.enter(caller)
	if err != nil {
		x.fail(err)
		return
	}
	defer leave()
	s.table.serve(x.w, x.r, x.fail)
}

// enter takes a place among the requests in flight.
func (s *Server) enter(c Caller) (leave func(), err error) {
	places := s.others
	if c.Admin {
		places = s.admins
	}
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	default:
		return nil, fault{http.StatusServiceUnavailable, fmt.Sprintf("%d requests are in flight, no more are taken", cap(places))}
	}
}

// answer lets the route's handler answer, here or at the node whose request it is.
func (s *Server) answer(rt route, x *exchange) error {
	if err := s.judge.allow(x.caller, true, rt.who); err != nil {
		return err
	}
	node, err := s.locate(rt.home, x)
	if err != nil {
		return err
	}
	if node != "" {
		return x.forward(node)
	}
	return rt.handle(s, x)
}
