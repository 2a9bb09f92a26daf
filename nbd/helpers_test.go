package nbd

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvold/cvold/dataplane"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what must happen soon; a test that needs it all has failed.
const patience = 20 * time.Second

// memory is a device in memory, with a hook before each call.
type memory struct {
	mu    sync.Mutex
	data  []byte
	info  dataplane.Info
	syncs atomic.Int64
	calls []string // as they began
	// hook may fail, block or panic in place of the call; nil does nothing. Set it by setHook beside other programs.
	hook func(call string, off, n int64) error
}

func newMemory(size int) *memory {
	return &memory{data: make([]byte, size), info: dataplane.Info{MinBlock: 1, PreferredBlock: 4096, FastZero: true}}
}

func (m *memory) begin(call string, off, n int64) error {
	m.mu.Lock()
	m.calls = append(m.calls, call)
	hook := m.hook
	m.mu.Unlock()
	if hook != nil {
		if err := hook(call, off, n); err != nil {
			return err
		}
	}
	return dataplane.CheckRange(off, n, int64(len(m.data)), m.info.MinBlock)
}

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	if err := m.begin("read", off, int64(len(p))); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return copy(p, m.data[off:]), nil
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if err := m.begin("write", off, int64(len(p))); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return copy(m.data[off:], p), nil
}

func (m *memory) Sync() error {
	m.syncs.Add(1)
	return m.begin("sync", 0, 0)
}

func (m *memory) Size() (int64, error) { return int64(len(m.data)), nil }

func (m *memory) ZeroAt(off, n int64, mode dataplane.ZeroMode) error {
	if err := m.begin(fmt.Sprintf("zero unmap=%v fast=%v", mode.MayUnmap, mode.FastOnly), off, n); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.data[off : off+n])
	return nil
}

func (m *memory) Discard(off, n int64) error { return m.begin("discard", off, n) }

func (m *memory) Extents(ctx context.Context, off, n int64, fn func(dataplane.Extent) error) error {
	return dataplane.AllData(ctx, off, n, fn)
}

func (m *memory) Info() dataplane.Info { return m.info }
func (m *memory) Close() error         { return nil }

func (m *memory) setHook(hook func(call string, off, n int64) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hook = hook
}

// seen is how often each call was made.
func (m *memory) seen() map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := map[string]int{}
	for _, call := range m.calls {
		seen[call]++
	}
	return seen
}

// called are the calls so far.
func (m *memory) called() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.calls)
}

func (m *memory) contents() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return bytes.Clone(m.data)
}

// on is a hook for the calls of one name.
func on(call string, do func() error) func(string, int64, int64) error {
	return func(name string, _, _ int64) error {
		if name == call {
			return do()
		}
		return nil
	}
}

// pattern is bytes that tell their place.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7 + i>>8 + 1)
	}
	return p
}

func timeLimit(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// startServer makes a server that is closed with the test.
func startServer(t testing.TB, o ServerOptions, exports ...Export) *Server {
	t.Helper()
	s := NewServer(o)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("close the server: %v", err)
		}
	})
	for _, e := range exports {
		if err := s.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// listen serves on a new socket, unix or tcp, and returns how to dial it.
func listen(t testing.TB, s *Server, network string, o ListenOptions) DialOptions {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "nbd.sock")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l, o) }()
	t.Cleanup(func() {
		s.Close(timeLimit(t))
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return DialOptions{Network: network, Address: l.Addr().String()}
}

// serveOne serves one device as export "disk" on a unix socket.
func serveOne(t testing.TB, device dataplane.Device) (*Server, DialOptions) {
	t.Helper()
	s := startServer(t, ServerOptions{}, NewExport("disk", "a test", device))
	o := listen(t, s, "unix", ListenOptions{})
	o.Export = "disk"
	return s, o
}

func dial(t testing.TB, o DialOptions) *Device {
	t.Helper()
	d, err := Dial(timeLimit(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func mustWrite(t testing.TB, d dataplane.Device, p []byte, off int64) {
	t.Helper()
	if n, err := d.WriteAt(p, off); err != nil || n != len(p) {
		t.Fatalf("WriteAt(%d, %d) = %d, %v", len(p), off, n, err)
	}
}

func mustRead(t testing.TB, d dataplane.Device, n int, off int64) []byte {
	t.Helper()
	p := make([]byte, n)
	if got, err := d.ReadAt(p, off); err != nil || got != n {
		t.Fatalf("ReadAt(%d, %d) = %d, %v", n, off, got, err)
	}
	return p
}

func wantError(t testing.TB, err error, wants ...error) {
	t.Helper()
	for _, want := range wants {
		if !errors.Is(err, want) {
			t.Errorf("error is %v, want %v", err, want)
		}
	}
}

// await polls until what holds.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	ctx, poll := timeLimit(t), time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for !holds() {
		select {
		case <-poll.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// authority is a certificate authority with a server's and a client's certificate, also as files for other programs.
type authority struct {
	dir            string
	pool           *x509.CertPool
	cert           *x509.Certificate
	key            *ecdsa.PrivateKey
	server, client tls.Certificate
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir(), pool: x509.NewCertPool()}
	a.key = newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	a.file(t, "ca-cert.pem", "CERTIFICATE", der)
	a.server = a.issue(t, "server", 2)
	a.client = a.issue(t, "client", 3)
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) issue(t testing.TB, name string, serial int64) tls.Certificate {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost", name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	a.file(t, name+"-cert.pem", "CERTIFICATE", der)
	a.file(t, name+"-key.pem", "PRIVATE KEY", keyDER)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) file(t testing.TB, name, kind string, der []byte) {
	t.Helper()
	data := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(filepath.Join(a.dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (a *authority) serverConfig() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{a.server}, ClientCAs: a.pool, ClientAuth: tls.RequireAndVerifyClientCert}
}

func (a *authority) clientConfig() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{a.client}, RootCAs: a.pool}
}

func openFile(t testing.TB, path string, size int64) *os.File {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	if err := file.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return file
}
