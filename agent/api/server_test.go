package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cvold/cvold/agent/catalog"
)

// pipes is a listener over net.Pipe: connections of root without a kernel, so that time can be a bubble's.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// dial is a client's end of a connection of caller.
func (p *pipes) dial(caller Caller) net.Conn {
	a, b := net.Pipe()
	p.conns <- &conn{Conn: b, identity: identity{caller: caller, known: true}, done: func() {}}
	return a
}

// inBubble runs fn with a server over o whose clock is the bubble's.
func inBubble(t *testing.T, o Options, fn func(t *testing.T, s *Server, p *pipes)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		p := newPipes()
		served := make(chan error, 1)
		go func() { served <- s.http.Serve(p) }()
		fn(t, s, p)
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

// TestSlowClients: who does not send a header, a body, or read an answer, is cut off in its time.
func TestSlowClients(t *testing.T) {
	outside := newRig(t)
	for i := range 50 {
		outside.put(newVolume(func(v *catalog.Volume) { v.DisplayName = fmt.Sprint(strings.Repeat("n", 200), i) }))
	}
	for name, c := range map[string]struct {
		send  string
		after time.Duration
		says  string
	}{
		"no header":   {"GET /v3", headerTimeout, ""},
		"no body":     {"POST /v3/volumes HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n{", bodyTimeout, "not received whole"},
		"no requests": {"GET /v1/version HTTP/1.1\r\nHost: h\r\n\r\n", idleTimeout, `"api":"v1"`},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, outside.o, func(t *testing.T, _ *Server, p *pipes) {
				client := p.dial(root)
				defer client.Close()
				began := time.Now()
				go func() { _, _ = io.WriteString(client, c.send) }()
				answer, _ := io.ReadAll(client)
				// After an unread body net/http waits half a second more for the client to take the answer.
				if took := time.Since(began); took < c.after || took > c.after+time.Second {
					t.Errorf("cut off after %s, want %s", took, c.after)
				}
				if !strings.Contains(string(answer), c.says) {
					t.Errorf("%q", answer)
				}
			})
		})
	}
	t.Run("no reader", func(t *testing.T) {
		inBubble(t, outside.o, func(t *testing.T, s *Server, p *pipes) {
			client := p.dial(root)
			defer client.Close()
			_, _ = io.WriteString(client, "GET /v3/volumes/detail HTTP/1.1\r\nHost: h\r\n\r\n")
			<-time.After(writeTimeout - time.Second)
			if s.running() != 1 {
				t.Error("gave up too early")
			}
			<-time.After(2 * time.Second)
			synctest.Wait()
			if s.running() != 0 {
				t.Error("still waits for the client to read")
			}
		})
	})
}

func (s *Server) running() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active
}

// TestLongPollOutlivesTimeouts: none of the limits ends a request that only waits, and the connection stays good.
func TestLongPollOutlivesTimeouts(t *testing.T) {
	outside := newRig(t)
	fm := outside.migrations
	id := "11111111-1111-4111-8111-111111111111"
	v := fm.views[id]
	v.ID, v.State, v.Role = id, catalog.StateCopying, "source"
	fm.views[id] = v
	inBubble(t, outside.o, func(t *testing.T, _ *Server, p *pipes) {
		client := p.dial(root)
		defer client.Close()
		in := bufio.NewReader(client)
		for range 2 {
			go func() {
				_, _ = fmt.Fprintf(client, "GET /v1/migrations/%s/wait?since=copying&timeout=60s HTTP/1.1\r\nHost: h\r\n\r\n", id)
			}()
			resp, err := http.ReadResponse(in, nil)
			if err != nil || resp.StatusCode != 200 {
				t.Fatalf("%v %v", resp, err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
		}
	})
}

// TestWorkOutlivesTheClient: a changing call goes on when its client leaves.
func TestWorkOutlivesTheClient(t *testing.T) {
	r := newRig(t)
	begun, release, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	r.volumes.hold = func(ctx context.Context) error {
		close(begun)
		<-release
		done <- ctx.Err()
		return nil
	}
	socket := r.serve(t)
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, "POST /v3/volumes HTTP/1.1\r\nHost: h\r\nContent-Length: 23\r\n\r\n{\"volume\": {\"size\": 1}}")
	<-begun
	c.Close()
	close(release)
	if err := <-done; err != nil {
		t.Errorf("work ended with its client: %v", err)
	}
}

// TestClose: new requests are refused, those in flight are waited for, and in the end cut off.
func TestClose(t *testing.T) {
	r := newRig(t)
	begun, release := make(chan struct{}, 2), make(chan struct{})
	var once sync.Once
	r.volumes.hold = func(ctx context.Context) error {
		begun <- struct{}{}
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	answers := make(chan int, 2)
	post := func() { answers <- r.ask(root, "POST /v3/volumes", `{"volume": {"size": 1}}`).Code }
	go post()
	<-begun
	short, cancel := context.WithCancel(context.Background())
	closed := make(chan error, 1)
	go func() { closed <- r.Close(context.Background()) }()
	<-r.soft.Done()
	if code := r.ask(root, "GET /v1/version", "").Code; code != 503 {
		t.Errorf("answered while closing: %d", code)
	}
	once.Do(func() { close(release) })
	if err := <-closed; err != nil || <-answers != 202 {
		t.Errorf("close: %v", err)
	}

	o := r.o
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	r.volumes.hold = func(ctx context.Context) error {
		begun <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	r.Server = s
	go post()
	<-begun
	go func() { closed <- s.Close(short) }()
	<-s.soft.Done()
	cancel()
	if err := <-closed; !errors.Is(err, context.Canceled) {
		t.Errorf("close of what hangs: %v", err)
	}
	if code := <-answers; code != 503 {
		t.Errorf("cut off with %d", code)
	}
}

// TestRequestsInFlight: others fill their places and cannot take the admins'.
func TestRequestsInFlight(t *testing.T) {
	r := newRig(t)
	for range maxOtherRequests {
		if _, err := r.enter(nobody); err != nil {
			t.Fatal(err)
		}
	}
	if w := r.ask(nobody, "GET /v3/volumes", ""); w.Code != 503 {
		t.Errorf("one too many: %d", w.Code)
	}
	r.want(200, "GET /v3/volumes", "", nil)
	for range maxAdminRequests {
		if _, err := r.enter(root); err != nil {
			t.Fatal(err)
		}
	}
	r.want(503, "GET /v3/volumes", "", nil)
}

func TestConnectionLimits(t *testing.T) {
	l := &listener{}
	for range maxOtherConns {
		if !l.take(false) {
			t.Fatal("too few places")
		}
	}
	if l.take(false) || !l.take(true) {
		t.Error("places of others and of admins are not apart")
	}
	c := &conn{Conn: nopConn{}, done: func() { l.give(false) }}
	for range 2 { // a second Close gives no second place
		_ = c.Close()
	}
	if !l.take(false) || l.take(false) {
		t.Error("a closed connection gives one place")
	}
}

type nopConn struct{ net.Conn }

func (nopConn) Close() error { return nil }

// TestConnectionsPastTheLimitAreClosed at a real socket, where the caller is this process.
func TestConnectionsPastTheLimitAreClosed(t *testing.T) {
	r := newRig(t)
	r.judge.ownUID = 1 << 31
	socket := r.serve(t)
	limit := maxOtherConns
	if (judge{ownUID: 1 << 31}).caller(uint32(os.Geteuid()), 1, nil).Admin {
		limit = maxAdminConns
	}
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for range limit {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	extra, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer extra.Close()
	_ = extra.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := extra.Read(make([]byte, 1)); n > 0 || err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("read %d, %v", n, err)
	} else if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
		t.Error("the connection past the limit was left open")
	}
}

// TestAccessLog: reads at debug, changing calls at info with their caller.
func TestAccessLog(t *testing.T) {
	r := newRig(t)
	r.ask(nobody, "GET /v3/volumes", "")
	r.ask(nobody, "POST /v3/volumes", "{}")
	r.ask(peerRoot, "POST /v3/volumes", "{}")
	lines := strings.Split(strings.TrimSpace(r.log.String()), "\n")
	for i, want := range [][]string{
		{"level=DEBUG", "method=GET", "path=/v3/volumes", "status=200", "uid=65534", "request_id=req-"},
		{"level=INFO", "method=POST", "status=403", "uid=65534", "error="},
		{"level=INFO", "status=400", "uid=0", "from_node=node2"},
	} {
		for _, w := range want {
			if i >= len(lines) || !strings.Contains(lines[i], w) {
				t.Fatalf("line %d has no %s: %v", i, w, lines)
			}
		}
	}
}

func TestPathsAreCleaned(t *testing.T) {
	r := newRig(t)
	for path, want := range map[string][2]string{
		"/v3/":                     {"/v3", ""},
		"//v3//volumes/":           {"/v3/volumes", ""},
		"/v3/p/volumes/detail":     {"/v3/volumes/detail", "p"},
		"/v3/volumes/volumes":      {"/v3/volumes/volumes", ""},
		"/v3/p/servers/detail":     {"/v3/p/servers/detail", ""},
		"/v3/p/../volumes":         {"/v3/volumes", ""},
		"/v1/migrations/../status": {"/v1/status", ""},
		"":                         {"/", ""},
		"/v3/p/volumes/x/../../":   {"/v3/p", ""},
	} {
		if got, project := r.table.clean(path); got != want[0] || project != want[1] {
			t.Errorf("%q: %q %q", path, got, project)
		}
	}
	if w := r.ask(nobody, "GET /v3/p/../../v1/status", ""); w.Code != 403 {
		t.Errorf("dots lead past the table: %d", w.Code)
	}
	if w := r.ask(nobody, "GET /v3/volumes/..%2f..%2fv1%2fstatus", ""); w.Code != 403 && w.Code != 404 {
		t.Errorf("escaped dots lead past the table: %d", w.Code)
	}
}
