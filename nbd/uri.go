package nbd

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// defaultPort is the TCP port of NBD servers.
const defaultPort = "10809"

// hostBytes are those of names, addresses and zones. Other scripts come as punycode.
const hostBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:%"

// maxURI is longer than any URI with an export name and a socket path of their largest sizes.
const maxURI = 32 << 10

// URI names an export of a server, in the form of the NBD URI document (doc/uri.md of the NetworkBlockDevice project)
// with the one extension of libnbd's that says where certificates are:
//
//	nbd://host:port/export            nbds://… with TLS
//	nbd+unix:///export?socket=/path   nbds+unix://… with TLS
//
// Parameters: socket, tls-certificates, tls-hostname, tls-verify-peer=1. Everything else is refused rather than ignored.
type URI struct {
	// TLS is to be demanded.
	TLS bool
	// Network is "tcp" or "unix", Address what net.Dial takes with it: host:port, or the path of a socket. A socket
	// whose address begins with @ is abstract.
	Network, Address string
	// Export is the name, free text without NUL.
	Export string
	// TLSCertificates is a directory with ca-cert.pem, client-cert.pem and client-key.pem, or empty.
	TLSCertificates string
	// TLSHostname is the name that the server has to prove when it is not the host of Address, or empty.
	TLSHostname string
}

// ParseURI parses an NBD URI. Every error is ErrURI.
func ParseURI(text string) (URI, error) {
	u, err := parseURI(text)
	if err != nil {
		return URI{}, fmt.Errorf("%w %.100q: %w", ErrURI, text, err)
	}
	return u, nil
}

func parseURI(text string) (u URI, err error) {
	if len(text) > maxURI {
		return u, fmt.Errorf("%d bytes", len(text))
	}
	parsed, err := url.Parse(text)
	if err != nil {
		return u, err
	}
	if err := u.setScheme(parsed.Scheme); err != nil {
		return u, err
	}
	if parsed.Opaque != "" || !strings.HasPrefix(text[len(parsed.Scheme):], "://") {
		return u, fmt.Errorf("no // after the scheme")
	}
	if parsed.User != nil || parsed.Fragment != "" {
		return u, fmt.Errorf("user names and fragments are not supported")
	}
	if err := u.setExport(strings.TrimPrefix(parsed.Path, "/")); err != nil {
		return u, err
	}
	if err := u.setAuthority(parsed); err != nil {
		return u, err
	}
	return u, u.setQuery(parsed.RawQuery)
}

func (u *URI) setScheme(scheme string) error {
	switch scheme {
	case "nbd", "nbds":
		u.Network = "tcp"
	case "nbd+unix", "nbds+unix":
		u.Network = "unix"
	default:
		return fmt.Errorf("scheme %q is none of nbd, nbds, nbd+unix, nbds+unix", scheme)
	}
	u.TLS = strings.HasPrefix(scheme, "nbds")
	return nil
}

func (u *URI) setExport(name string) error {
	u.Export = name
	if len(name) > maxString || !utf8.ValidString(name) || strings.ContainsRune(name, 0) {
		return fmt.Errorf("export names are UTF-8 without NUL, at most %d bytes", maxString)
	}
	return nil
}

func (u *URI) setAuthority(parsed *url.URL) error {
	if u.Network == "unix" {
		if parsed.Host != "" {
			return fmt.Errorf("host %s beside a unix socket", parsed.Host)
		}
		return nil
	}
	host, port := parsed.Hostname(), parsed.Port()
	preset(&host, "localhost")
	preset(&port, defaultPort)
	if !validHost(host) {
		return fmt.Errorf("host %q", host)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '0' {
		return fmt.Errorf("port %q", port)
	}
	u.Address = net.JoinHostPort(host, port)
	return nil
}

// validHost: a name, or an address where it has a colon or a zone.
func validHost(host string) bool {
	if strings.Trim(host, hostBytes) != "" {
		return false
	}
	_, err := netip.ParseAddr(host)
	return err == nil || !strings.ContainsAny(host, ":%")
}

// setQuery takes the parameters; the document wants unknown ones to be diagnosed.
func (u *URI) setQuery(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return err
	}
	for name, given := range values {
		if len(given) != 1 || given[0] == "" {
			return fmt.Errorf("parameter %s wants one value", name)
		}
		value := given[0]
		switch {
		case name == "socket" && u.Network == "unix":
			err = u.setSocket(value)
		case name == "tls-certificates" && u.TLS:
			u.TLSCertificates = value
		case name == "tls-hostname" && u.TLS:
			u.TLSHostname = value
		case name == "tls-verify-peer" && u.TLS && value == "1":
		default:
			err = fmt.Errorf("parameter %s=%s is not supported here", name, value)
		}
		if err != nil {
			return err
		}
	}
	if u.Address == "" {
		return fmt.Errorf("parameter socket is missing")
	}
	return nil
}

// setSocket turns a path, or an abstract name that begins with NUL, into Go's way of writing both.
func (u *URI) setSocket(path string) error {
	switch {
	case path[0] == 0:
		u.Address = "@" + path[1:]
	case path[0] == '@':
		u.Address = "./" + path
	default:
		u.Address = path
	}
	if u.Address == "@" || strings.ContainsRune(u.Address, 0) {
		return fmt.Errorf("socket %q", path)
	}
	return nil
}

// String is a URI that ParseURI makes u of.
func (u URI) String() string {
	out := url.URL{Scheme: "nbd", Path: "/" + u.Export}
	if u.TLS {
		out.Scheme = "nbds"
	}
	query := url.Values{}
	if u.Network == "unix" {
		out.Scheme += "+unix"
		socket := u.Address
		if strings.HasPrefix(socket, "@") {
			socket = "\x00" + socket[1:]
		}
		query.Set("socket", socket)
	} else {
		out.Host = u.authority()
	}
	if u.TLSCertificates != "" {
		query.Set("tls-certificates", u.TLSCertificates)
	}
	if u.TLSHostname != "" {
		query.Set("tls-hostname", u.TLSHostname)
	}
	out.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20") // in a URI a plus is a plus
	return out.String()
}

// authority is Address as it stands in a URI: without the port that is understood.
func (u URI) authority() string {
	host, port, err := net.SplitHostPort(u.Address)
	switch {
	case err != nil || port != defaultPort:
		return u.Address
	case strings.Contains(host, ":"):
		return "[" + host + "]"
	default:
		return host
	}
}

// DialOptions are the options that open the export. TLS is left to the caller, who has the certificates.
func (u URI) DialOptions() DialOptions {
	return DialOptions{Network: u.Network, Address: u.Address, Export: u.Export}
}
