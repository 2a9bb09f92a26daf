package nbd

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// DefaultPort is the TCP port of NBD servers.
const DefaultPort = 10809

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
	// Host and Port of a server over TCP. An empty host is localhost; port 0 is DefaultPort.
	Host string
	Port uint16
	// Socket is the path of a unix socket, empty over TCP. One that begins with NUL is abstract.
	Socket string
	// Export is the name, free text without NUL.
	Export string
	// TLSCertificates is a directory with ca-cert.pem, client-cert.pem and client-key.pem, or empty.
	TLSCertificates string
	// TLSHostname is the name that the server has to prove when it is not Host, or empty.
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
	overUnix, err := u.setScheme(parsed.Scheme)
	if err != nil {
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
	if err := u.setQuery(parsed.RawQuery, overUnix); err != nil {
		return u, err
	}
	return u, u.setAuthority(parsed, overUnix)
}

func (u *URI) setScheme(scheme string) (overUnix bool, err error) {
	switch scheme {
	case "nbd", "nbd+unix":
	case "nbds", "nbds+unix":
		u.TLS = true
	default:
		return false, fmt.Errorf("scheme %q is none of nbd, nbds, nbd+unix, nbds+unix", scheme)
	}
	return strings.HasSuffix(scheme, "+unix"), nil
}

func (u *URI) setExport(name string) error {
	u.Export = name
	if len(name) > maxString || !utf8.ValidString(name) || strings.ContainsRune(name, 0) {
		return fmt.Errorf("export names are UTF-8 without NUL, at most %d bytes", maxString)
	}
	return nil
}

// setQuery takes the parameters; the document wants unknown ones to be diagnosed.
func (u *URI) setQuery(query string, overUnix bool) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return err
	}
	for name, given := range values {
		if len(given) != 1 {
			return fmt.Errorf("parameter %s is given %d times", name, len(given))
		}
		value := given[0]
		switch {
		case name == "socket" && overUnix:
			u.Socket = value
		case name == "tls-certificates" && u.TLS && value != "":
			u.TLSCertificates = value
		case name == "tls-hostname" && u.TLS && value != "":
			u.TLSHostname = value
		case name == "tls-verify-peer" && u.TLS && value == "1":
		default:
			return fmt.Errorf("parameter %s=%s is not supported here", name, value)
		}
	}
	if overUnix && strings.Trim(u.Socket, "\x00") == "" {
		return fmt.Errorf("parameter socket is missing")
	}
	return nil
}

func (u *URI) setAuthority(parsed *url.URL, overUnix bool) error {
	if overUnix {
		if parsed.Host != "" {
			return fmt.Errorf("host %s beside a unix socket", parsed.Host)
		}
		return nil
	}
	u.Host = parsed.Hostname()
	if parsed.Port() == "" {
		return nil
	}
	port, err := strconv.ParseUint(parsed.Port(), 10, 16)
	if err != nil || port == 0 {
		return fmt.Errorf("port %q", parsed.Port())
	}
	u.Port = uint16(port)
	return nil
}

// String is the URI that ParseURI makes u of.
func (u URI) String() string {
	out := url.URL{Scheme: "nbd", Host: u.authority(), Path: "/" + u.Export}
	if u.TLS {
		out.Scheme = "nbds"
	}
	query := url.Values{}
	if u.Socket != "" {
		out.Scheme += "+unix"
		out.Host = ""
		query.Set("socket", u.Socket)
	}
	if u.TLSCertificates != "" {
		query.Set("tls-certificates", u.TLSCertificates)
	}
	if u.TLSHostname != "" {
		query.Set("tls-hostname", u.TLSHostname)
	}
	out.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20") // libnbd takes + for itself
	return out.String()
}

// authority is host and port as they stand in a URI.
func (u URI) authority() string {
	switch {
	case u.Port != 0:
		return net.JoinHostPort(u.Host, strconv.Itoa(int(u.Port)))
	case strings.Contains(u.Host, ":"):
		return "[" + u.Host + "]"
	default:
		return u.Host
	}
}

// DialOptions are the options that open the export. TLS is left to the caller, who has the certificates.
func (u URI) DialOptions() DialOptions {
	o := DialOptions{Network: "tcp", Export: u.Export}
	switch {
	case u.Socket == "":
		host, port := u.Host, u.Port
		preset(&host, "localhost")
		preset(&port, DefaultPort)
		o.Address = net.JoinHostPort(host, strconv.Itoa(int(port)))
	case u.Socket[0] == 0:
		o.Network, o.Address = "unix", "@"+u.Socket[1:] // Go's way of writing an abstract socket
	case u.Socket[0] == '@':
		o.Network, o.Address = "unix", "./"+u.Socket
	default:
		o.Network, o.Address = "unix", u.Socket
	}
	return o
}
