package nbd

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
)

// Session is the state of one connection after negotiation: all that transmission knows of it. It can be kept as JSON;
// whoever holds it and the connection's socket can go on with transmission. (With TLS the keys live in the process, so
// such a connection cannot be handed over.)
type Session struct {
	// Export is the name of the export.
	Export string `json:"export"`
	// Size in bytes, as told to the client.
	Size int64 `json:"size"`
	// Flags are the transmission flags, as told to the client ("Transmission flags").
	Flags uint16 `json:"flags"`
	// ClientFlags are the client flags of the handshake ("Client flags").
	ClientFlags uint32 `json:"client_flags"`
	// Structured replies were negotiated, by their own option or with Extended.
	Structured bool `json:"structured,omitempty"`
	// Extended headers were negotiated.
	Extended bool `json:"extended,omitempty"`
	// Allocation: the metadata context base:allocation was selected, so NBD_CMD_BLOCK_STATUS may be used.
	Allocation bool `json:"allocation,omitempty"`
	// MinBlock, PreferredBlock and MaxPayload are the size constraints in bytes ("Size constraints").
	MinBlock       uint32 `json:"min_block"`
	PreferredBlock uint32 `json:"preferred_block"`
	MaxPayload     uint32 `json:"max_payload"`
	// Network and Address are the client's end of the connection; on the client they are the server's.
	Network string `json:"network"`
	Address string `json:"address"`
	// TLS says that the connection is encrypted.
	TLS bool `json:"tls"`
	// Key and Generation are who the client said that it is, across its connections; empty if it did not say.
	Key        string `json:"key,omitempty"`
	Generation uint64 `json:"generation,omitempty"`
	// Certificate is the client's verified certificate (DER), or empty; on the client it is the server's.
	Certificate []byte `json:"certificate,omitempty"`

	// contextID is what the server calls base:allocation, and incarnation what it says that its export is; the client's.
	contextID   uint32
	incarnation string
}

// Client is who is at the other end of a server's connection.
type Client struct {
	// Addr is the address it came from.
	Addr net.Addr
	// Certificate is what it proved to be; nil without TLS, or when the server's tls.Config does not verify clients.
	Certificate *x509.Certificate
	// Unix: it came over a unix socket, so the socket's file mode let it in.
	Unix bool
}

// Client is the identity that the session was negotiated with.
func (s Session) Client() (Client, error) {
	c := Client{Addr: address{s.Network, s.Address}, Unix: s.Network == "unix"}
	if len(s.Certificate) == 0 {
		return c, nil
	}
	var err error
	if c.Certificate, err = x509.ParseCertificate(s.Certificate); err != nil {
		return Client{}, fmt.Errorf("certificate of session %s: %w", s.Export, err)
	}
	return c, nil
}

func (s *Session) has(flag uint16) bool { return s.Flags&flag != 0 }

// offered are the transmission flags that a session has beyond the export's own, for what was negotiated.
func (s *Session) offered() (flags uint16) {
	if s.Structured {
		flags |= canDF
	}
	if s.Extended && s.Allocation {
		flags |= canStatusPayload
	}
	return flags
}

// identify sets who is at the other end of conn.
func (s *Session) identify(conn net.Conn) {
	s.Network, s.Address = conn.RemoteAddr().Network(), conn.RemoteAddr().String()
	secured, ok := conn.(*tls.Conn)
	if !ok {
		return
	}
	s.TLS = true
	// Only a verified chain is an identity: tls.RequestClientCert and tls.RequireAnyClientCert prove nothing.
	if chains := secured.ConnectionState().VerifiedChains; len(chains) > 0 && len(chains[0]) > 0 {
		s.Certificate = chains[0][0].Raw
	}
}

// address is a net.Addr that was kept as text.
type address struct{ network, text string }

func (a address) Network() string { return a.network }
func (a address) String() string  { return a.text }
