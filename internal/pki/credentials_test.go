package pki

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// handshake connects client to server and sends one byte each way; it returns what either side says of the other.
func handshake(t *testing.T, server, client *tls.Config) (serverErr, clientErr error) {
	t.Helper()
	near, far := net.Pipe()
	deadline := time.Now().Add(20 * time.Second)
	for _, conn := range []net.Conn{near, far} {
		if err := conn.SetDeadline(deadline); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error)
	go func() { done <- speak(tls.Server(far, server), far) }()
	clientErr = speak(tls.Client(near, client), near)
	return <-done, clientErr
}

// speak sees a refusal that comes after its own handshake is over: in TLS 1.3 a client's often is.
func speak(conn *tls.Conn, below net.Conn) error {
	defer below.Close()
	if err := conn.Handshake(); err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() { _, err := conn.Write([]byte{1}); sent <- err }()
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		below.Close()
		<-sent
		return err
	}
	return <-sent
}

func peer(t *testing.T, files Files) *Credentials {
	t.Helper()
	c, err := LoadPeer(files)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestHandshake(t *testing.T) {
	a := authority(t, t.TempDir())
	nodeA, nodeB := peer(t, issue(t, a, "node-a", Peer)), peer(t, issue(t, a, "node-b", Peer))
	client, err := LoadClient(issue(t, a, "vm-1", Client))
	if err != nil {
		t.Fatal(err)
	}
	stranger := peer(t, issue(t, authority(t, t.TempDir()), "node-a", Peer))
	late := func(c *Credentials) *Credentials {
		return &Credentials{files: c.files, role: c.role, clock: later, current: c.current, stamps: c.stamps}
	}
	tests := []struct {
		name           string
		server, client *tls.Config
		serverErr      string // of the side that refuses; empty: it does not
		clientErr      error
	}{
		{"peer to peer", nodeB.Server(Peer), nodeA.Client("node-b"), "", nil},
		{"client to export", nodeB.Server(Peer, Client), client.Client("node-b"), "", nil},
		{"client to peer", nodeB.Server(Peer), client.Client("node-b"), ErrRole.Error(), nil},
		{"nobody is let in", nodeB.Server(), nodeA.Client("node-b"), ErrRole.Error(), nil},
		{"another node answers", nodeB.Server(Peer), nodeA.Client("node-c"), "", ErrName},
		{"a client answers", client.Server(Peer), nodeA.Client("vm-1"), "", ErrRole},
		{"the server is a stranger", stranger.Server(Peer), nodeB.Client("node-a"), "", ErrUntrusted},
		{"the client is a stranger", nodeB.Server(Peer), skipVerify(stranger.Client("node-b")), "unknown authority", nil},
		{"no certificate", nodeB.Server(Peer), &tls.Config{InsecureSkipVerify: true}, "didn't provide a certificate", nil},
		{"TLS 1.2", nodeB.Server(Peer), limitVersion(nodeA.Client("node-b")), "unsupported versions", nil},
		{"the server's has expired", nodeB.Server(Peer), late(nodeA).Client("node-b"), "", ErrExpired},
		{"the client's has expired", late(nodeB).Server(Peer), nodeA.Client("node-b"), "expired", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			serverErr, clientErr := handshake(t, test.server, test.client)
			switch {
			case test.clientErr != nil:
				if !errors.Is(clientErr, test.clientErr) || serverErr == nil {
					t.Errorf("client %v, server %v, want %v", clientErr, serverErr, test.clientErr)
				}
			case test.serverErr != "":
				if serverErr == nil || !strings.Contains(serverErr.Error(), test.serverErr) || clientErr == nil {
					t.Errorf("server %v, client %v, want %q", serverErr, clientErr, test.serverErr)
				}
			case serverErr != nil || clientErr != nil:
				t.Errorf("server %v, client %v", serverErr, clientErr)
			}
		})
	}
}

// later is a clock after the end of every certificate.
func later() time.Time { return time.Now().Add(certificateLife + time.Hour) }

// skipVerify makes a client that believes every server, so that it is the server who must refuse.
func skipVerify(c *tls.Config) *tls.Config {
	c.VerifyConnection = nil
	return c
}

func limitVersion(c *tls.Config) *tls.Config {
	c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	return c
}

func TestLoadRefuses(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(t *testing.T, a *Authority, f *Files)
		want  error
		text  string
	}{
		{"no authority", func(t *testing.T, _ *Authority, f *Files) { remove(t, f.CA) }, fs.ErrNotExist, "ca.pem"},
		{"no certificate", func(t *testing.T, _ *Authority, f *Files) { remove(t, f.Cert) }, fs.ErrNotExist, "node-a.pem"},
		{"no key", func(t *testing.T, _ *Authority, f *Files) { remove(t, f.Key) }, fs.ErrNotExist, "node-a.key"},
		{"key for all to read", func(t *testing.T, _ *Authority, f *Files) { chmod(t, f.Key, 0o644) }, ErrExposed, "chmod 600"},
		{"key of another", func(t *testing.T, a *Authority, f *Files) { f.Key = issue(t, a, "b", Peer).Key }, ErrMismatch, "b.key"},
		{"client's certificate", func(t *testing.T, a *Authority, f *Files) { *f = issue(t, a, "vm", Client) }, ErrRole, "vm.pem"},
		{"another authority", func(t *testing.T, _ *Authority, f *Files) {
			f.CA = certFile(authority(t, t.TempDir()).dir, "ca")
		}, ErrUntrusted, "node-a.pem"},
		{"key instead of certificate", func(_ *testing.T, _ *Authority, f *Files) { f.Cert = f.Key }, ErrMalformed, `no PEM block "CERTIFICATE"`},
		{"certificate instead of key", func(t *testing.T, _ *Authority, f *Files) {
			chmod(t, f.Cert, 0o600)
			f.Key = f.Cert
		}, ErrMalformed, `no PEM block "PRIVATE KEY"`},
		{"broken certificate", func(t *testing.T, _ *Authority, f *Files) {
			write(t, f.Cert, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
		}, ErrMalformed, "node-a.pem"},
		{"broken key", func(t *testing.T, _ *Authority, f *Files) {
			write(t, f.Key, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
		}, ErrMalformed, "node-a.key"},
		{"key of another kind", func(t *testing.T, _ *Authority, f *Files) { write(t, f.Key, ed25519Key(t)) }, ErrMalformed, "not ECDSA"},
		{"endless file", func(t *testing.T, _ *Authority, f *Files) { write(t, f.CA, strings.Repeat("x", maxFile+1)) }, ErrMalformed, "longer than"},
		{"directory", func(t *testing.T, _ *Authority, f *Files) { f.CA = filepath.Dir(f.CA) }, nil, "is a directory"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a := authority(t, t.TempDir())
			files := issue(t, a, "node-a", Peer)
			test.spoil(t, a, &files)
			c, err := LoadPeer(files)
			if c != nil || err == nil || (test.want != nil && !errors.Is(err, test.want)) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("got %v, want %v with %q", err, test.want, test.text)
			}
		})
	}
}

// ed25519Key is a sound key of a kind that we don't use.
func ed25519Key(t *testing.T) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLoadWatchesTheClock(t *testing.T) {
	files := issue(t, authority(t, t.TempDir()), "node-a", Peer)
	early := func() time.Time { return time.Now().Add(-time.Hour) }
	if _, err := load(files, Peer, early); !errors.Is(err, ErrNotYetValid) || !strings.Contains(err.Error(), "from 20") {
		t.Errorf("an hour early: %v", err)
	}
	if _, err := load(files, Peer, later); !errors.Is(err, ErrExpired) || !strings.Contains(err.Error(), "expired at 20") {
		t.Errorf("too late: %v", err)
	}
}

// An authority that is over takes all its certificates with it, however long they say they live.
func TestLoadWatchesTheAuthority(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	a, err := newAuthority(dir, func() time.Time { return now.Add(-authorityLife + time.Hour) })
	if err != nil {
		t.Fatal(err)
	}
	a.clock = time.Now
	files := issue(t, a, "node-a", Peer)
	if c, err := LoadPeer(files); err != nil {
		t.Errorf("in time: %v", err)
	} else if end := c.AuthorityNotAfter(); !end.Equal(certificate(t, files.CA).NotAfter) {
		t.Errorf("the authority ends %v", end)
	}
	late := func() time.Time { return now.Add(2 * time.Hour) }
	if _, err := load(files, Peer, late); !errors.Is(err, ErrExpired) || !strings.Contains(err.Error(), "authority of ") {
		t.Errorf("too late: %v", err)
	}
}

func TestRoleOfLoadClient(t *testing.T) {
	a := authority(t, t.TempDir())
	c, err := LoadClient(issue(t, a, "vm-1", Client))
	if err != nil || c.Name() != "vm-1" || time.Until(c.NotAfter()) < certificateLife-time.Minute {
		t.Errorf("%v", err)
	}
	if _, err := LoadClient(issue(t, a, "node-a", Peer)); !errors.Is(err, ErrRole) {
		t.Errorf("a node as client: %v", err)
	}
}

// TestReload renews under a configuration that is in use.
func TestReload(t *testing.T) {
	a := authority(t, t.TempDir())
	nodeA, nodeB := peer(t, issue(t, a, "node-a", Peer)), peer(t, issue(t, a, "node-b", Peer))
	server, client := nodeB.Server(Peer), nodeA.Client("node-b")
	var seen []string
	client.VerifyConnection = chain(client.VerifyConnection, func(s tls.ConnectionState) error {
		seen = append(seen, s.PeerCertificates[0].SerialNumber.String())
		return nil
	})
	for range 3 {
		if serverErr, clientErr := handshake(t, server, client); serverErr != nil || clientErr != nil {
			t.Fatalf("server %v, client %v", serverErr, clientErr)
		}
		if len(seen) == 2 {
			if err := a.Renew("node-b"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if seen[0] != seen[1] || seen[1] == seen[2] {
		t.Errorf("serial numbers %q: the second is not the first, or the third is not new", seen)
	}
}

func chain(first, second func(tls.ConnectionState) error) func(tls.ConnectionState) error {
	return func(s tls.ConnectionState) error { return errors.Join(first(s), second(s)) }
}

// A renewal that went wrong must not take down what works.
func TestReloadKeepsWhatWorks(t *testing.T) {
	a := authority(t, t.TempDir())
	files := issue(t, a, "node-a", Peer)
	nodeA := peer(t, files)
	good := contents(t, a.dir)
	for name, spoil := range map[string]func(){
		"half a renewal": func() { write(t, files.Key, contents(t, authorityWith(t, "node-a").dir)["node-a.key"]) },
		"garbage":        func() { write(t, files.Cert, "garbage") },
		"gone":           func() { remove(t, files.CA) },
	} {
		t.Run(name, func(t *testing.T) {
			spoil()
			if nodeA.Name() != "node-a" || nodeA.Err() == nil {
				t.Errorf("name %q, error %v", nodeA.Name(), nodeA.Err())
			}
			if serverErr, clientErr := handshake(t, nodeA.Server(Peer), nodeA.Client("node-a")); serverErr != nil || clientErr != nil {
				t.Errorf("server %v, client %v", serverErr, clientErr)
			}
			for _, path := range []string{files.CA, files.Cert, files.Key} {
				write(t, path, good[filepath.Base(path)])
			}
			if err := nodeA.Err(); err != nil {
				t.Errorf("after repair: %v", err)
			}
		})
	}
}

func authorityWith(t *testing.T, name string) *Authority {
	t.Helper()
	a := authority(t, t.TempDir())
	issue(t, a, name, Peer)
	return a
}

// One authority follows another without a moment in which nodes do not know each other.
func TestAuthorityRollover(t *testing.T) {
	old, next := authorityWith(t, "node-a"), authorityWith(t, "node-b")
	both := contents(t, old.dir)["ca.pem"] + contents(t, next.dir)["ca.pem"]
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	write(t, bundle, both)
	filesA, filesB := filesOf(old.dir, "node-a"), filesOf(next.dir, "node-b")
	filesA.CA, filesB.CA = bundle, bundle
	nodeA, nodeB := peer(t, filesA), peer(t, filesB)
	if serverErr, clientErr := handshake(t, nodeB.Server(Peer), nodeA.Client("node-b")); serverErr != nil || clientErr != nil {
		t.Errorf("server %v, client %v", serverErr, clientErr)
	}
	write(t, bundle, contents(t, next.dir)["ca.pem"])
	if serverErr, _ := handshake(t, nodeB.Server(Peer), skipVerify(nodeA.Client("node-b"))); serverErr == nil {
		t.Error("the old authority is still believed")
	}
}
