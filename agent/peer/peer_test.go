package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/internal/pki"
	"github.com/cvold/cvold/transfer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakePeer answers every call by err, and remembers the token.
type fakePeer struct {
	migration.Peer
	err   error
	token migration.Token
	hang  bool
}

func (f *fakePeer) Prepare(ctx context.Context, r migration.PrepareRequest) (migration.PrepareReply, error) {
	f.token = r.Token
	if f.hang {
		<-ctx.Done()
		return migration.PrepareReply{}, ctx.Err()
	}
	return migration.PrepareReply{StoreID: "store", Class: transfer.Cached}, f.err
}

func (f *fakePeer) Describe(context.Context, migration.DescribeRequest) (migration.Description, error) {
	panic("described to death")
}

func (f *fakePeer) Commit(_ context.Context, t migration.Token) error { f.token = t; return f.err }

// fleet is a directory of certificates.
type fleet struct {
	t   *testing.T
	dir string
}

func newFleet(t *testing.T, peers ...string) fleet {
	t.Helper()
	f := fleet{t, filepath.Join(t.TempDir(), "pki")}
	authority, err := pki.NewAuthority(f.dir)
	f.check(err)
	for _, name := range peers {
		f.check(authority.Issue(name, pki.Peer, nil))
	}
	f.check(authority.Issue("stranger", pki.Client, nil))
	return f
}

func (f fleet) check(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f fleet) files(name string) pki.Files {
	return pki.Files{CA: filepath.Join(f.dir, "ca.pem"), Cert: filepath.Join(f.dir, name+".pem"), Key: filepath.Join(f.dir, name+".key")}
}

// serve runs a server of node b that knows a, and gives its address.
func (f fleet) serve(p migration.Peer, forwarded func(http.ResponseWriter, *http.Request, string, []byte)) string {
	f.t.Helper()
	credentials, err := pki.LoadPeer(f.files("b"))
	f.check(err)
	s := NewServer(ServerOptions{
		Local: p, TLS: credentials.Server(pki.Peer), Forwarded: forwarded,
		Known: func(node string) bool { return node == "a" },
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	f.check(err)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	f.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.Close(ctx)
		f.check(<-done)
	})
	return l.Addr().String()
}

// client is that of node name for the peer at address, which should be node b.
func (f fleet) client(name, address string) *Client {
	f.t.Helper()
	credentials, err := pki.LoadPeer(f.files(name))
	f.check(err)
	p := NewPeers(map[string]string{"b": address}, 0, credentials.Client)
	f.t.Cleanup(p.Close)
	c, err := p.Peer("b")
	f.check(err)
	return c
}

func TestErrorsKeepTheirKind(t *testing.T) {
	f, p := newFleet(t, "a", "b"), &fakePeer{}
	c := f.client("a", f.serve(p, nil))
	for _, kind := range []error{
		migration.ErrAborted, migration.ErrStale, migration.ErrRefused, migration.ErrRootDiffers,
		migration.ErrInDoubt, migration.ErrUnknown, migration.ErrNoSpace, migration.ErrBusy,
	} {
		p.err = fmt.Errorf("the reason: %w", kind)
		_, err := c.Prepare(t.Context(), migration.PrepareRequest{})
		if !errors.Is(err, kind) || !strings.Contains(err.Error(), "the reason") {
			t.Errorf("%v came over as %v", kind, err)
		}
		if err := c.Commit(t.Context(), migration.Token{}); !errors.Is(err, kind) {
			t.Errorf("%v came over as %v", kind, err)
		}
	}
	p.err = errors.New("disk on fire")
	_, err := c.Prepare(t.Context(), migration.PrepareRequest{})
	if err == nil || migration.Code(err) != "" || !strings.Contains(err.Error(), "disk on fire") || !strings.Contains(err.Error(), "node b") {
		t.Errorf("another error came over as %v", err)
	}
	p.err = nil
	if reply, err := c.Prepare(t.Context(), migration.PrepareRequest{}); err != nil || reply.StoreID != "store" {
		t.Errorf("good call: %+v, %v", reply, err)
	}
}

func TestTheCertificateNamesTheCaller(t *testing.T) {
	f, p := newFleet(t, "a", "b"), &fakePeer{}
	c := f.client("a", f.serve(p, nil))
	k := migration.Token{MigrationID: "m", Attempt: 3, Epoch: 7, StoreID: "s", Node: "forged"}
	f.check(c.Commit(t.Context(), k))
	if k.Node = "a"; p.token != k {
		t.Errorf("the token came over as %+v", p.token)
	}
	if _, err := c.Prepare(t.Context(), migration.PrepareRequest{Token: k}); err != nil || p.token.Node != "a" {
		t.Errorf("prepare by %q: %v", p.token.Node, err)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	f := newFleet(t, "a", "b", "c")
	address := f.serve(&fakePeer{}, nil)
	if err := f.client("c", address).Commit(t.Context(), migration.Token{}); err == nil || !strings.Contains(err.Error(), "node c is not configured") {
		t.Errorf("a node that is not configured: %v", err)
	}
	other := newFleet(t, "a")
	if err := other.client("a", address).Commit(t.Context(), migration.Token{}); err == nil {
		t.Error("a certificate of another authority was admitted")
	}
	credentials, err := pki.LoadClient(f.files("stranger"))
	f.check(err)
	p := NewPeers(map[string]string{"b": address}, 0, credentials.Client)
	defer p.Close()
	c, err := p.Peer("b")
	f.check(err)
	if err := c.Commit(t.Context(), migration.Token{}); err == nil {
		t.Error("an NBD client's certificate was admitted")
	}
	if err := f.client("a", f.serveAs("c")).Commit(t.Context(), migration.Token{}); err == nil {
		t.Error("node c was taken for node b")
	}
	if _, err := p.Peer("nobody"); !errors.Is(err, migration.ErrInvalid) || !strings.Contains(err.Error(), "[peer:nobody]") {
		t.Errorf("a node without a section: %v", err)
	}
}

// serveAs is a TLS listener with the certificate of name, which answers nothing.
func (f fleet) serveAs(name string) string {
	f.t.Helper()
	credentials, err := pki.LoadPeer(f.files(name))
	f.check(err)
	l, err := tls.Listen("tcp", "127.0.0.1:0", credentials.Server(pki.Peer))
	f.check(err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		}
	}()
	f.t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

func TestBadCalls(t *testing.T) {
	f, p := newFleet(t, "a", "b"), &fakePeer{}
	c := f.client("a", f.serve(p, nil))
	if _, err := c.Describe(t.Context(), migration.DescribeRequest{}); err == nil || !strings.Contains(err.Error(), "internal error") {
		t.Errorf("a call that panics: %v", err)
	}
	for name, body := range map[string]io.Reader{
		"no JSON":    strings.NewReader("nonsense"),
		"two values": strings.NewReader(`{} {}`),
		"too large":  io.MultiReader(strings.NewReader(`{"store_id": "`), bytes.NewReader(make([]byte, maxRequest))),
	} {
		answer, err := c.http.Post("https://"+c.address+prefix+"commit", "application/json", body)
		if err != nil {
			continue // cut while it was still sending is as good
		}
		if answer.StatusCode < 400 {
			t.Errorf("%s: status %d", name, answer.StatusCode)
		}
		answer.Body.Close()
	}
	if p.token != (migration.Token{}) {
		t.Error("a bad call was carried out")
	}
	p.hang = true
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Prepare(ctx, migration.PrepareRequest{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a peer that hangs: %v", err)
	}
}

func TestForward(t *testing.T) {
	f := newFleet(t, "a", "b")
	type seen struct{ Method, URI, Body, Node, Caller, Header, Leak string }
	address := f.serve(&fakePeer{}, func(w http.ResponseWriter, r *http.Request, node string, caller []byte) {
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusAccepted)
		_ = json.NewEncoder(w).Encode(seen{r.Method, r.RequestURI, string(body), node, string(caller), r.Header.Get("X-Project-Id"), r.Header.Get(callerHeader)})
	})
	c := f.client("a", address)
	r, err := http.NewRequest(http.MethodPost, "/v3/volumes/x%20y/action?a=b", strings.NewReader("body"))
	f.check(err)
	r.Header.Set("X-Project-Id", "project")
	r.Header.Set(callerHeader, `{"admin": true}`)
	answer, err := c.Forward(t.Context(), r, []byte(`{"uid":7}`))
	f.check(err)
	defer answer.Body.Close()
	var got seen
	f.check(json.NewDecoder(answer.Body).Decode(&got))
	want := seen{"POST", "/v3/volumes/x%20y/action?a=b", "body", "a", `{"uid":7}`, "project", ""}
	if got != want || answer.StatusCode != http.StatusAccepted {
		t.Errorf("forwarded %+v with %d, want %+v", got, answer.StatusCode, want)
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{`{}`, `{"migration_id":"m","attempt":1,"epoch":2}`, `{"runs":[{"first":0,"count":3,"zero":true}]}`, `[`, `{} {}`, "\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var prepare migration.PrepareRequest
		var digests migration.DigestsReply
		var ready migration.ReadyRequest
		for _, into := range []any{&prepare, &digests, &ready} {
			if decode(bytes.NewReader(text), maxRequest, into) == nil {
				if _, err := json.Marshal(into); err != nil {
					t.Errorf("what was read cannot be written: %v", err)
				}
			}
		}
	})
}
