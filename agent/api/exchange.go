package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	// writeTimeout is how long the client may take to read an answer.
	writeTimeout = 30 * time.Second
	// workTimeout bounds what a changing call does. It goes on when the client leaves: half-done work helps nobody.
	workTimeout = 10 * time.Minute
)

// exchange is one request and its answer.
type exchange struct {
	s *Server
	w http.ResponseWriter
	// r is the request; its path is cleaned, in is the one that came.
	r, in *http.Request
	// caller is known if allow said so.
	caller Caller
	// project is the one of the path; empty if there was none.
	project   string
	requestID string
	began     time.Time
	// body once it was read.
	body []byte
	// status that was answered; 0 before.
	status int
	// err that was answered.
	err error
}

type exchangeKey struct{}

// newExchange begins the answer to r.
func (s *Server) newExchange(w http.ResponseWriter, r *http.Request) *exchange {
	x := &exchange{s: s, in: r, requestID: "req-" + uuid.NewString(), began: time.Now()}
	x.w = &statusWriter{ResponseWriter: w, x: x}
	cleaned, project := s.table.clean(r.URL.Path)
	x.project = project
	x.r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x))
	u := *r.URL
	u.Path, u.RawPath = cleaned, ""
	x.r.URL = &u
	return x
}

// cinder says that the request is of Cinder's dialect.
func (x *exchange) cinder() bool {
	return x.r.URL.Path == "/" || x.r.URL.Path == "/v3" || strings.HasPrefix(x.r.URL.Path, "/v3/")
}

// id is the {id} of the path.
func (x *exchange) id() string { return x.r.PathValue("id") }

// statusWriter notes the status, and gives each answer its time.
type statusWriter struct {
	http.ResponseWriter
	x *exchange
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader notes the status.
func (w *statusWriter) WriteHeader(code int) {
	if w.x.status == 0 {
		w.x.status = code
		_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(writeTimeout))
	}
	w.ResponseWriter.WriteHeader(code)
}

// Write answers 200 if nothing was answered yet.
func (w *statusWriter) Write(p []byte) (int, error) {
	if w.x.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// json answers with a body.
func (x *exchange) json(code int, v any) error {
	return x.write(code, func(body *bytes.Buffer) error { return json.NewEncoder(body).Encode(v) })
}

// write answers with the JSON that fill writes.
func (x *exchange) write(code int, fill func(body *bytes.Buffer) error) error {
	body := answers.Get().(*bytes.Buffer)
	defer recycle(body)
	if err := fill(body); err != nil {
		return err
	}
	x.w.Header().Set("Content-Type", "application/json")
	x.w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	x.w.WriteHeader(code)
	_, _ = x.w.Write(body.Bytes()) // a client that left is no error of the request
	return nil
}

// answers are buffers of answers that were sent: growing one to a list of a thousand volumes costs as much as writing it.
var answers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxIdleBody bounds a buffer that is kept for the next answer, in bytes: a list of some 4000 volumes.
const maxIdleBody = 4 << 20

func recycle(body *bytes.Buffer) {
	if body.Cap() <= maxIdleBody {
		body.Reset()
		answers.Put(body)
	}
}

// empty answers without a body.
func (x *exchange) empty(code int) error {
	x.w.Header().Set("Content-Type", "application/json")
	x.w.WriteHeader(code)
	return nil
}

// fail answers with an error.
func (x *exchange) fail(err error) {
	x.err = err
	if x.status != 0 {
		return // the answer is under way: the log says the rest
	}
	e := answerTo(err, x.cinder(), x.requestID)
	_ = x.json(e.Code, e) // client.Error always marshals
}

// recovered turns a panic of a handler into a 500.
func (x *exchange) recovered() {
	p := recover()
	switch {
	case p == nil:
	case p == http.ErrAbortHandler:
		panic(p)
	default:
		x.s.log.Error("request panicked", "request_id", x.requestID, "panic", p, "stack", string(debug.Stack()))
		x.fail(errors.New("internal error"))
	}
}

// logged writes the access log: reads at debug, changing calls at info with their caller, our own failures at error.
func (x *exchange) logged() {
	level := slog.LevelDebug
	switch {
	case x.status >= http.StatusInternalServerError && x.status != http.StatusServiceUnavailable:
		level = slog.LevelError
	case x.in.Method != http.MethodGet && x.in.Method != http.MethodHead:
		level = slog.LevelInfo
	}
	attrs := []slog.Attr{
		slog.String("method", x.in.Method), slog.String("path", x.in.URL.Path), slog.Int("status", x.status),
		slog.Duration("took", time.Since(x.began)), slog.Uint64("uid", uint64(x.caller.UID)),
		slog.String("request_id", x.requestID),
	}
	if x.caller.Forwarded {
		request := clip(x.in.Header.Get(requestHeader))
		attrs = append(attrs, slog.String("from_node", x.caller.Node), slog.String("from_request", request))
	}
	if x.err != nil {
		attrs = append(attrs, slog.Any("error", x.err))
	}
	x.s.log.LogAttrs(context.WithoutCancel(x.r.Context()), level, "request", attrs...)
}

// work is the context of a changing call. It outlives the client and ends when the server gives up waiting for it.
func (x *exchange) work() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.r.Context()), workTimeout)
	stop := context.AfterFunc(x.s.hard, cancel)
	return ctx, func() { stop(); cancel() }
}

// patience is the context of a request that only waits: it ends with the client, and as soon as the server closes.
func (x *exchange) patience(d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(x.r.Context(), d)
	stop := context.AfterFunc(x.s.soft, cancel)
	return ctx, func() { stop(); cancel() }
}
