package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"
)

// Files are the three files of one holder.
type Files struct {
	// CA holds the certificates of one or several authorities: several while one follows the other.
	CA string
	// Cert and Key are the holder's own.
	Cert, Key string
}

// Credentials are a holder's key and certificate, and the authority it trusts, in the form that crypto/tls wants. They are
// read again when the files change, with the next connection. Safe for concurrent use.
type Credentials struct {
	files Files
	role  Role
	clock func() time.Time

	mu      sync.Mutex
	current *pair
	stamps  [3]fs.FileInfo
	failed  error
}

// pair is what one reading of the files gave; it does not change.
type pair struct {
	cert *tls.Certificate
	pool *x509.CertPool
	name string
	// authorityEnds is when the last of the authorities that signed cert ends.
	authorityEnds time.Time
}

// LoadPeer reads the credentials of an agent. The certificate must be signed by the authority, in its time, of role Peer,
// and belong to the key: ErrUntrusted, ErrExpired, ErrNotYetValid, ErrRole, ErrNoIdentity, ErrMismatch, ErrExposed,
// ErrMalformed, or the error of a file.
func LoadPeer(files Files) (*Credentials, error) { return load(files, Peer, time.Now) }

// LoadClient is LoadPeer for an NBD client's credentials: the role must be Client.
func LoadClient(files Files) (*Credentials, error) { return load(files, Client, time.Now) }

func load(files Files, role Role, clock func() time.Time) (*Credentials, error) {
	c := &Credentials{files: files, role: role, clock: clock}
	if c.refresh(); c.current == nil {
		return nil, c.failed
	}
	return c, nil
}

// Name is whom the certificate belongs to.
func (c *Credentials) Name() string { return c.refresh().name }

// NotAfter is when the certificate's time ends.
func (c *Credentials) NotAfter() time.Time { return c.refresh().cert.Leaf.NotAfter }

// AuthorityNotAfter is when the time of the authority that signed the certificate ends: of the later one, if the CA file
// holds several that did.
func (c *Credentials) AuthorityNotAfter() time.Time { return c.refresh().authorityEnds }

// Err tells why the files as they are now are not used; nil if they are. What was read before stays in use meanwhile.
func (c *Credentials) Err() error {
	c.refresh()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

// Server is the configuration of a listener that admits holders of the given roles, TLS 1.3 only. Without a role it admits
// nobody.
func (c *Credentials) Server(roles ...Role) *tls.Config {
	roles = slices.Clone(roles)
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ClientAuth: tls.RequireAndVerifyClientCert,
		Time:       c.clock,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return c.serverNow(roles), nil
		},
		// Never asked, for the configuration above decides; but tls.NewListener wants to see a certificate.
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.refresh().cert, nil },
	}
}

// serverNow is the configuration of one connection, with the files as they are now.
func (c *Credentials) serverNow(roles []Role) *tls.Config {
	p := c.refresh()
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{*p.cert},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    p.pool,
		Time:         c.clock,
		// A resumed session would not ask again whether the certificate is still good.
		SessionTicketsDisabled: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			role, name, err := Identity(state.PeerCertificates[0])
			if err == nil && !slices.Contains(roles, role) {
				err = fmt.Errorf("%s %q: %w", role, name, ErrRole)
			}
			return err
		},
	}
}

// Client is the configuration for a connection to the peer of that name, TLS 1.3 only. The name must be the one in the
// server's certificate; under which address it was reached does not count.
func (c *Credentials) Client(node string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		Time:       c.clock,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return c.refresh().cert, nil
		},
		// Leaves out the check of the host's name and nothing else: VerifyConnection, which is always called, checks the
		// chain, the time, the role and the node.
		InsecureSkipVerify: true,
		VerifyConnection:   func(state tls.ConnectionState) error { return c.verifyServer(state, node) },
	}
}

func (c *Credentials) verifyServer(state tls.ConnectionState, node string) error {
	if len(state.PeerCertificates) == 0 {
		return fmt.Errorf("server sent nothing: %w", ErrNoIdentity)
	}
	cert := state.PeerCertificates[0]
	intermediates := x509.NewCertPool()
	for _, other := range state.PeerCertificates[1:] {
		intermediates.AddCert(other)
	}
	if err := verifyChain(cert, c.refresh().pool, intermediates, c.clock(), x509.ExtKeyUsageServerAuth); err != nil {
		return err
	}
	role, name, err := Identity(cert)
	switch {
	case err != nil:
		return err
	case role != Peer:
		return fmt.Errorf("server is %s %q, not a node: %w", role, name, ErrRole)
	case name != node:
		return fmt.Errorf("server is node %q, not %q: %w", name, node, ErrName)
	}
	return nil
}

// refresh reads the files if they changed, and returns what is in use: the old if the new are no good. It is nil only in
// load.
func (c *Credentials) refresh() *pair {
	c.mu.Lock()
	defer c.mu.Unlock()
	stamps, err := c.stat()
	if err != nil {
		c.failed = err
		return c.current
	}
	if c.current != nil && c.failed == nil && slices.EqualFunc(stamps[:], c.stamps[:], sameFile) {
		return c.current
	}
	if next, err := c.read(); err != nil {
		c.failed = err
	} else {
		c.current, c.stamps, c.failed = next, stamps, nil
	}
	return c.current
}

func (c *Credentials) stat() (stamps [3]fs.FileInfo, err error) {
	for i, path := range []string{c.files.CA, c.files.Cert, c.files.Key} {
		if stamps[i], err = os.Stat(path); err != nil {
			return stamps, err
		}
	}
	return stamps, nil
}

// sameFile says whether nothing was written between two looks; a rename brings another inode.
func sameFile(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// read reads and checks the files.
func (c *Credentials) read() (*pair, error) {
	authorities, err := readCertificates(c.files.CA)
	if err != nil {
		return nil, err
	}
	chain, err := readCertificates(c.files.Cert)
	if err != nil {
		return nil, err
	}
	key, err := readKey(c.files.Key, chain[0])
	if err != nil {
		return nil, err
	}
	p := &pair{cert: &tls.Certificate{PrivateKey: key, Leaf: chain[0]}, pool: x509.NewCertPool()}
	for _, authority := range authorities {
		p.pool.AddCert(authority)
		if end := authority.NotAfter; end.After(p.authorityEnds) && chain[len(chain)-1].CheckSignatureFrom(authority) == nil {
			p.authorityEnds = end
		}
	}
	intermediates := x509.NewCertPool()
	for i, cert := range chain {
		p.cert.Certificate = append(p.cert.Certificate, cert.Raw)
		if i > 0 {
			intermediates.AddCert(cert)
		}
	}
	p.name, err = c.check(chain[0], p.pool, intermediates)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.files.Cert, err)
	}
	return p, nil
}

// check tells the name of a certificate that is good for us.
func (c *Credentials) check(cert *x509.Certificate, pool, intermediates *x509.CertPool) (string, error) {
	usage := x509.ExtKeyUsageClientAuth
	if c.role == Peer {
		usage = x509.ExtKeyUsageServerAuth
	}
	if err := verifyChain(cert, pool, intermediates, c.clock(), usage); err != nil {
		return "", err
	}
	role, name, err := Identity(cert)
	if err == nil && role != c.role {
		err = fmt.Errorf("%s %q: %w: %s is wanted", role, name, ErrRole, c.role)
	}
	return name, err
}

// verifyChain is x509's verification with our errors.
func verifyChain(cert *x509.Certificate, pool, intermediates *x509.CertPool, now time.Time, usage x509.ExtKeyUsage) error {
	// Asked first: x509 says "expired or is not yet valid", and the two are mended in different places.
	if err := checkTime(cert, now); err != nil {
		return err
	}
	_, err := cert.Verify(x509.VerifyOptions{
		Roots: pool, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage},
	})
	if err == nil {
		return nil
	}
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage {
		return fmt.Errorf("%s: %w: %w", cert.Subject, ErrRole, err)
	}
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return fmt.Errorf("authority of %s: %w: %w", cert.Subject, ErrExpired, err)
	}
	return fmt.Errorf("%s: %w: %w", cert.Subject, ErrUntrusted, err)
}

func checkTime(cert *x509.Certificate, now time.Time) error {
	if now.Before(cert.NotBefore) {
		return fmt.Errorf("%s: %w: from %s on, and it is %s", cert.Subject, ErrNotYetValid, stamp(cert.NotBefore), stamp(now))
	}
	if now.After(cert.NotAfter) {
		return fmt.Errorf("%s: %w at %s, and it is %s", cert.Subject, ErrExpired, stamp(cert.NotAfter), stamp(now))
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
