package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// Life times. The authority outlives the machines it signs for; a certificate is renewed while the agent runs, so it may
// be short, but an operator without automation should not meet it every month.
const (
	authorityLife   = 10 * 365 * 24 * time.Hour
	certificateLife = 2 * 365 * 24 * time.Hour
	// clockSkew is how far the clocks of two nodes may differ when a certificate is used at once.
	clockSkew = 10 * time.Minute
)

// authorityName is the base name of the authority's own files, and so no node's name.
const authorityName = "ca"

// Authority signs certificates. It is safe for concurrent use by one process; two processes that issue one name exclude
// each other by the files.
type Authority struct {
	dir   string
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	clock func() time.Time
}

// NewAuthority makes an authority and writes ca.pem and ca.key below dir, which it makes if needed. If either is there, it
// touches nothing: fs.ErrExist.
func NewAuthority(dir string) (*Authority, error) { return newAuthority(dir, time.Now) }

func newAuthority(dir string, clock func() time.Time) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make authority: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make authority: %w", err)
	}
	template, err := newTemplate("cvold authority", clock(), authorityLife)
	if err != nil {
		return nil, fmt.Errorf("make authority: %w", err)
	}
	template.IsCA, template.MaxPathLenZero = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make authority: %w", err)
	}
	if err := createPair(dir, authorityName, der, key); err != nil {
		return nil, fmt.Errorf("make authority: %w", err)
	}
	return openAuthority(dir, clock)
}

// OpenAuthority reads the authority that NewAuthority wrote below dir. Errors: those of the files, ErrMalformed,
// ErrMismatch, ErrExposed, ErrExpired.
func OpenAuthority(dir string) (*Authority, error) { return openAuthority(dir, time.Now) }

func openAuthority(dir string, clock func() time.Time) (*Authority, error) {
	certs, err := readCertificates(certFile(dir, authorityName))
	if err != nil {
		return nil, fmt.Errorf("open authority: %w", err)
	}
	key, err := readKey(keyFile(dir, authorityName), certs[0])
	if err != nil {
		return nil, fmt.Errorf("open authority: %w", err)
	}
	if !certs[0].IsCA {
		return nil, fmt.Errorf("open authority: %s: %w: not an authority's certificate", certFile(dir, authorityName), ErrMalformed)
	}
	if err := checkTime(certs[0], clock()); err != nil {
		return nil, fmt.Errorf("open authority: %w", err)
	}
	return &Authority{dir: dir, cert: certs[0], key: key, clock: clock}, nil
}

// Issue makes a key and a certificate for name and writes NAME.pem and NAME.key beside the authority. hosts are the DNS
// names and IP addresses under which tools of others will know the node; they may be empty. If either file is there, it
// touches nothing: fs.ErrExist; Renew replaces. ErrBadName, ErrRole.
func (a *Authority) Issue(name string, role Role, hosts []string) error {
	if err := checkIssue(name, role); err != nil {
		return fmt.Errorf("issue certificate: %w", err)
	}
	der, key, err := a.sign(name, role, hosts)
	if err != nil {
		return fmt.Errorf("issue certificate for %s: %w", name, err)
	}
	if err := createPair(a.dir, name, der, key); err != nil {
		return fmt.Errorf("issue certificate for %s: %w", name, err)
	}
	return nil
}

// Renew replaces the key and certificate that Issue wrote by new ones for the same name, role and hosts. A daemon that reads
// them takes the new ones with the next connection.
func (a *Authority) Renew(name string) error {
	certs, err := readCertificates(certFile(a.dir, name))
	if err != nil {
		return fmt.Errorf("renew certificate of %s: %w", name, err)
	}
	role, same, err := Identity(certs[0])
	if err != nil || same != name || name == authorityName {
		return fmt.Errorf("renew certificate of %s: %w", name, errors.Join(ErrName, err))
	}
	der, key, err := a.sign(name, role, hostsOf(certs[0]))
	if err != nil {
		return fmt.Errorf("renew certificate of %s: %w", name, err)
	}
	if err := replacePair(a.dir, name, der, key); err != nil {
		return fmt.Errorf("renew certificate of %s: %w", name, err)
	}
	return nil
}

func checkIssue(name string, role Role) error {
	if err := checkName(name); err != nil {
		return err
	}
	if name == authorityName {
		return fmt.Errorf("%w %q: it is the authority's", ErrBadName, name)
	}
	return checkRole(role)
}

func (a *Authority) sign(name string, role Role, hosts []string) ([]byte, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template, err := newTemplate(name, a.clock(), certificateLife)
	if err != nil {
		return nil, nil, err
	}
	template.URIs = []*url.URL{identityURI(role, name)}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if role == Peer {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	addHosts(template, hosts)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	return der, key, err
}

// newTemplate is a certificate without rights, valid from now on.
func newTemplate(name string, now time.Time, life time.Duration) (*x509.Certificate, error) {
	// RFC 5280, 4.1.2.2: positive, unique, at most 20 octets; 127 random bits are.
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber:          serial.Add(serial, big.NewInt(1)),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(life),
		BasicConstraintsValid: true,
	}, nil
}

func addHosts(template *x509.Certificate, hosts []string) {
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
}

func hostsOf(cert *x509.Certificate) []string {
	hosts := append([]string(nil), cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	return hosts
}

func certFile(dir, name string) string { return filepath.Join(dir, name+".pem") }
func keyFile(dir, name string) string  { return filepath.Join(dir, name+".key") }

// absent is fs.ErrExist if one of the files is there.
func absent(paths ...string) error {
	for _, path := range paths {
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s: %w", path, fs.ErrExist)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
