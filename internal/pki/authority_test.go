package pki

import (
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cvold/cvold/internal/program"
)

func authority(t *testing.T, dir string) *Authority {
	t.Helper()
	a, err := NewAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func issue(t *testing.T, a *Authority, name string, role Role, hosts ...string) Files {
	t.Helper()
	if err := a.Issue(name, role, hosts); err != nil {
		t.Fatal(err)
	}
	return filesOf(a.dir, name)
}

func filesOf(dir, name string) Files {
	return Files{CA: certFile(dir, authorityName), Cert: certFile(dir, name), Key: keyFile(dir, name)}
}

func certificate(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	certs, err := readCertificates(path)
	if err != nil {
		t.Fatal(err)
	}
	return certs[0]
}

func TestAuthorityFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "pki")
	issue(t, authority(t, dir), "node-a", Peer)
	want := map[string]fs.FileMode{"ca.pem": 0o644, "ca.key": 0o600, "node-a.pem": 0o644, "node-a.key": 0o600}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(want) {
		t.Fatalf("%v, %v", entries, err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || info.Mode() != want[entry.Name()] {
			t.Errorf("%s has mode %v, %v", entry.Name(), info.Mode(), err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory has mode %v, %v", info.Mode(), err)
	}
}

func TestAuthorityCertificate(t *testing.T) {
	dir := t.TempDir()
	authority(t, dir)
	cert := certificate(t, certFile(dir, "ca"))
	if !cert.IsCA || !cert.MaxPathLenZero || cert.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
		t.Errorf("CA %v, path %d, usage %b", cert.IsCA, cert.MaxPathLen, cert.KeyUsage)
	}
	if life := time.Until(cert.NotAfter); life < authorityLife-time.Minute || life > authorityLife {
		t.Errorf("lives for %v", life)
	}
}

func TestIssuedCertificate(t *testing.T) {
	a := authority(t, t.TempDir())
	files := issue(t, a, "node-a", Peer, "a.example.org", "192.0.2.1", "2001:db8::1")
	cert := certificate(t, files.Cert)
	if got := []string{cert.URIs[0].String()}; !slices.Equal(got, []string{"cvold://node/node-a"}) {
		t.Errorf("URIs %q", got)
	}
	if got, want := hostsOf(cert), []string{"a.example.org", "192.0.2.1", "2001:db8::1"}; !slices.Equal(got, want) {
		t.Errorf("hosts %q, want %q", got, want)
	}
	if got, want := cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}; !slices.Equal(got, want) {
		t.Errorf("usage %v, want %v", got, want)
	}
	key, err := readKey(files.Key, cert)
	if err != nil || key.Curve != elliptic.P256() || cert.IsCA {
		t.Errorf("key %v, CA %v, %v", key.Curve, cert.IsCA, err)
	}
	client := certificate(t, issue(t, a, "vm-1", Client).Cert)
	if !slices.Equal(client.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) {
		t.Errorf("a client's usage is %v", client.ExtKeyUsage)
	}
	if client.SerialNumber.Cmp(cert.SerialNumber) == 0 {
		t.Error("two certificates of one serial number")
	}
}

// TestOpenSSLAgrees has another implementation read what we wrote.
func TestOpenSSLAgrees(t *testing.T) {
	openssl := program.Need(t, "openssl")
	a := authority(t, t.TempDir())
	files := issue(t, a, "node-a", Peer, "a.example.org")
	client := issue(t, a, "vm-1", Client)
	for _, test := range []struct {
		purpose, cert string
		good          bool
	}{
		{"sslserver", files.Cert, true}, {"sslclient", files.Cert, true}, {"sslclient", client.Cert, true}, {"sslserver", client.Cert, false},
	} {
		out, err := exec.Command(openssl, "verify", "-x509_strict", "-CAfile", files.CA, "-purpose", test.purpose, test.cert).CombinedOutput()
		if (err == nil) != test.good {
			t.Errorf("%s as %s: %v\n%s", filepath.Base(test.cert), test.purpose, err, out)
		}
	}
	if out, err := exec.Command(openssl, "pkey", "-check", "-noout", "-in", files.Key).CombinedOutput(); err != nil {
		t.Errorf("key: %v\n%s", err, out)
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	dir := t.TempDir()
	a := authority(t, dir)
	issue(t, a, "node-a", Peer)
	before := contents(t, dir)
	if _, err := NewAuthority(dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second authority: %v", err)
	}
	if err := a.Issue("node-a", Peer, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second certificate: %v", err)
	}
	if err := os.Remove(certFile(dir, "node-a")); err != nil {
		t.Fatal(err)
	}
	delete(before, "node-a.pem")
	if err := a.Issue("node-a", Peer, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("certificate beside an old key: %v", err)
	}
	after := contents(t, dir)
	if len(after) != len(before) {
		t.Errorf("files %d, before %d", len(after), len(before))
	}
	for name, text := range before {
		if after[name] != text {
			t.Errorf("%s changed", name)
		}
	}
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	result := map[string]string{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		result[filepath.Base(path)] = string(data)
	}
	return result
}

// createPair must not replace even what appears after it has looked.
func TestLinkNeverReplaces(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := link(filepath.Join(dir, "a"), filepath.Join(dir, "b")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
}

func TestNames(t *testing.T) {
	a := authority(t, t.TempDir())
	for _, name := range []string{"", "ca", "../x", "a/b", ".a", "a.", "-a", "a b", "ä", strings.Repeat("x", 65), "a\n"} {
		if err := a.Issue(name, Peer, nil); !errors.Is(err, ErrBadName) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"a", "node-1.example_x", strings.Repeat("x", 64)} {
		if err := a.Issue(name, Peer, nil); err != nil {
			t.Error(err)
		}
	}
	if err := a.Issue("a2", "root", nil); !errors.Is(err, ErrRole) {
		t.Errorf("role root: %v", err)
	}
}

func TestRenew(t *testing.T) {
	a := authority(t, t.TempDir())
	files := issue(t, a, "vm-1", Client, "vm.example.org", "192.0.2.1")
	old := certificate(t, files.Cert)
	if err := a.Renew("vm-1"); err != nil {
		t.Fatal(err)
	}
	cert := certificate(t, files.Cert)
	role, name, err := Identity(cert)
	if err != nil || role != Client || name != "vm-1" || !slices.Equal(hostsOf(cert), hostsOf(old)) {
		t.Errorf("%s %s %q, %v", role, name, hostsOf(cert), err)
	}
	if cert.SerialNumber.Cmp(old.SerialNumber) == 0 {
		t.Error("nothing is new")
	}
	if _, err := readKey(files.Key, cert); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(files.Key); err != nil || info.Mode() != 0o600 {
		t.Errorf("key has mode %v, %v", info.Mode(), err)
	}
}

func TestRenewRefuses(t *testing.T) {
	dir := t.TempDir()
	a := authority(t, dir)
	issue(t, a, "node-a", Peer)
	if err := os.Rename(certFile(dir, "node-a"), certFile(dir, "node-b")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{"none": fs.ErrNotExist, "ca": ErrName, "node-b": ErrName} {
		if err := a.Renew(name); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
}

func TestOpenAuthority(t *testing.T) {
	dir := t.TempDir()
	authority(t, dir)
	a, err := OpenAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LoadPeer(issue(t, a, "node-a", Peer)); err != nil {
		t.Error(err)
	}
}

func TestOpenAuthorityRefuses(t *testing.T) {
	spoil := map[string]struct {
		do   func(t *testing.T, dir string)
		want error
	}{
		"no certificate": {func(t *testing.T, dir string) { remove(t, certFile(dir, "ca")) }, fs.ErrNotExist},
		"no key":         {func(t *testing.T, dir string) { remove(t, keyFile(dir, "ca")) }, fs.ErrNotExist},
		"exposed key":    {func(t *testing.T, dir string) { chmod(t, keyFile(dir, "ca"), 0o604) }, ErrExposed},
		"another's key": {func(t *testing.T, dir string) {
			authority(t, filepath.Join(dir, "other"))
			rename(t, filepath.Join(dir, "other", "ca.key"), keyFile(dir, "ca"))
		}, ErrMismatch},
		"a node's certificate": {func(t *testing.T, dir string) {
			a, err := OpenAuthority(dir)
			if err != nil {
				t.Fatal(err)
			}
			issue(t, a, "node-a", Peer)
			rename(t, certFile(dir, "node-a"), certFile(dir, "ca"))
			rename(t, keyFile(dir, "node-a"), keyFile(dir, "ca"))
		}, ErrMalformed},
	}
	for name, test := range spoil {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			authority(t, dir)
			test.do(t, dir)
			if _, err := OpenAuthority(dir); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
	dir := t.TempDir()
	authority(t, dir)
	late := func() time.Time { return time.Now().Add(authorityLife + time.Hour) }
	if _, err := openAuthority(dir, late); !errors.Is(err, ErrExpired) {
		t.Errorf("expired: %v", err)
	}
}

// Two at once: one wins, and its certificate and key belong together.
func TestConcurrentIssue(t *testing.T) {
	a := authority(t, t.TempDir())
	results := make(chan error)
	for range 8 {
		go func() { results <- a.Issue("node-a", Peer, nil) }()
	}
	var won int
	for range 8 {
		if err := <-results; err == nil {
			won++
		} else if !errors.Is(err, fs.ErrExist) {
			t.Error(err)
		}
	}
	if _, err := LoadPeer(filesOf(a.dir, "node-a")); err != nil || won != 1 {
		t.Errorf("%d won, %v", won, err)
	}
}

func TestUnwritableDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewAuthority(filepath.Join(file, "pki")); err == nil || !strings.HasPrefix(err.Error(), "make authority: ") {
		t.Errorf("got %v", err)
	}
	a := authority(t, filepath.Join(t.TempDir(), "pki"))
	if err := os.RemoveAll(a.dir); err != nil {
		t.Fatal(err)
	}
	if err := a.Issue("node-a", Peer, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestIdentity(t *testing.T) {
	tests := []struct {
		uris string
		role Role
		name string
	}{
		{"cvold://node/a", Peer, "a"},
		{"cvold://client/vm-1", Client, "vm-1"},
		{"https://example.org/ cvold://node/a spiffe://x/y", Peer, "a"},
		{"", "", ""},
		{"https://example.org/", "", ""},
		{"cvold://node/a cvold://client/a", "", ""},
		{"cvold://node/a cvold://node/a", "", ""},
		{"cvold://root/a", "", ""},
		{"cvold://node/", "", ""},
		{"cvold://node/a/b", "", ""},
		{"cvold://node//a", "", ""},
		{"cvold://node/a?x=y", "", ""},
		{"cvold://node/a#x", "", ""},
		{"cvold://user@node/a", "", ""},
		{"cvold://node/%61", "a", ""},
		{"cvold:node/a", "", ""},
	}
	for _, test := range tests {
		cert := &x509.Certificate{}
		for uri := range strings.FieldsSeq(test.uris) {
			parsed, err := url.Parse(uri)
			if err != nil {
				t.Fatal(err)
			}
			cert.URIs = append(cert.URIs, parsed)
		}
		role, name, err := Identity(cert)
		if test.name == "" {
			if !errors.Is(err, ErrNoIdentity) || role != "" || name != "" {
				t.Errorf("%q: %q %q, %v", test.uris, role, name, err)
			}
		} else if err != nil || role != test.role || name != test.name {
			t.Errorf("%q: %q %q, %v", test.uris, role, name, err)
		}
	}
}

// FuzzIdentity: whatever stands in a certificate, a name that comes out is one that Issue would take, spelt one way.
func FuzzIdentity(f *testing.F) {
	for _, seed := range []string{"cvold://node/a", "cvold://client/vm-1", "cvold://node/a?b#c", "cvold://u:p@node:1/%2e", "https://x", "cvold:o"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		uri, err := url.Parse(text)
		if err != nil {
			return
		}
		role, name, err := Identity(&x509.Certificate{URIs: []*url.URL{uri}})
		if err != nil {
			return
		}
		if checkIssue(name, role) != nil && name != authorityName {
			t.Errorf("%q gives %q %q", text, role, name)
		}
		if again := identityURI(role, name).String(); again != uri.String() {
			t.Errorf("%q is %q", uri, again)
		}
	})
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, path, target string) {
	t.Helper()
	if err := os.Rename(path, target); err != nil {
		t.Fatal(err)
	}
}
