package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// What can be wrong with a certificate or its files. The message around it says which file, and what to do.
var (
	// ErrNoIdentity: the certificate does not carry exactly one cvold:// URI.
	ErrNoIdentity = errors.New("certificate names no node and no client")
	// ErrRole: the certificate is of a role that is not let in here.
	ErrRole = errors.New("certificate has the wrong role")
	// ErrName: the certificate is another node's.
	ErrName = errors.New("certificate belongs to another node")
	// ErrUntrusted: the authority did not sign the certificate.
	ErrUntrusted = errors.New("certificate is not signed by the authority")
	// ErrExpired: the certificate's time is over.
	ErrExpired = errors.New("certificate has expired")
	// ErrNotYetValid: the certificate's time has not come; one of two clocks is wrong.
	ErrNotYetValid = errors.New("certificate is not valid yet")
	// ErrMismatch: the key is not the certificate's.
	ErrMismatch = errors.New("key does not belong to the certificate")
	// ErrExposed: other users can read the key.
	ErrExposed = errors.New("key can be read by other users")
	// ErrMalformed: the file is not what it should be.
	ErrMalformed = errors.New("malformed file")
	// ErrBadName: a name that can't be one.
	ErrBadName = errors.New("bad name")
)

// Role is what the holder of a certificate may be.
type Role string

// The roles, as they stand in the certificate's URI.
const (
	// Peer is an agent.
	Peer Role = "node"
	// Client is an NBD client.
	Client Role = "client"
)

// scheme of the identity's URI.
const scheme = "cvold"

// maxName is the longest name: X.520's bound for a common name, and short enough for a file.
const maxName = 64

// A name becomes a part of a URI and of file names: letters, digits, and inside of them . _ and -.
var validName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)

// Identity returns who the certificate says its holder is. It does not check who signed it. ErrNoIdentity.
func Identity(cert *x509.Certificate) (Role, string, error) {
	var found []*url.URL
	for _, uri := range cert.URIs {
		if uri.Scheme == scheme {
			found = append(found, uri)
		}
	}
	if len(found) != 1 {
		return "", "", fmt.Errorf("%s: %d cvold:// URIs: %w", cert.Subject, len(found), ErrNoIdentity)
	}
	role, name := Role(found[0].Host), strings.TrimPrefix(found[0].Path, "/")
	if checkRole(role) != nil || checkName(name) != nil || *found[0] != *identityURI(role, name) {
		return "", "", fmt.Errorf("%s: URI %q: %w", cert.Subject, found[0], ErrNoIdentity)
	}
	return role, name, nil
}

func identityURI(role Role, name string) *url.URL {
	return &url.URL{Scheme: scheme, Host: string(role), Path: "/" + name}
}

func checkRole(role Role) error {
	if role != Peer && role != Client {
		return fmt.Errorf("role %q: %w: %q or %q", role, ErrRole, Peer, Client)
	}
	return nil
}

func checkName(name string) error {
	if len(name) > maxName || !validName.MatchString(name) {
		return fmt.Errorf("%w %q: at most %d letters, digits, dots, dashes and underscores, a letter or digit first and last",
			ErrBadName, name, maxName)
	}
	return nil
}
