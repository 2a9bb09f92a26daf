package nbd

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// negotiation is the server's end of a connection before transmission: the fixed newstyle handshake ("Handshake").
//
// It reads exactly what it needs and never ahead: what a stranger in the middle puts behind NBD_OPT_STARTTLS in plain
// text becomes part of the TLS handshake and breaks it.
type negotiation struct {
	conn    net.Conn // the secured one after STARTTLS
	tls     *tls.Config
	require bool // FORCEDTLS mode ("Server-side requirements"), else SELECTIVETLS or, without tls, NOTLS
	limits  Limits
	find    func(name string) *served // nil: no such export
	list    func() []*served

	session  Session // what is known so far: who the client is, and its flags
	selected selection
}

// errAborted ends a negotiation at the client's wish.
var errAborted = errors.New("the client aborted the negotiation")

// run negotiates, under the deadline that the caller put on the connection. The session it returns is complete.
func (n *negotiation) run(ctx context.Context) (Session, error) {
	n.session.identify(n.conn)
	if err := n.greet(); err != nil {
		return Session{}, err
	}
	for range n.limits.Options {
		session, err := n.option(ctx)
		if err != nil {
			return Session{}, err
		}
		if session != nil {
			return *session, nil
		}
	}
	return Session{}, fmt.Errorf("more than %d options: %w", n.limits.Options, ErrProtocol)
}

// greet exchanges the flags ("Newstyle negotiation", "Client flags"). A client that does not speak the fixed form can
// only send NBD_OPT_EXPORT_NAME.
func (n *negotiation) greet() error {
	b := binary.BigEndian.AppendUint64(nil, protocol.NEGOTIATION_MAGIC_OLDSTYLE)
	b = binary.BigEndian.AppendUint64(b, protocol.NEGOTIATION_MAGIC_OPTION)
	b = binary.BigEndian.AppendUint16(b, handshakeFixedNewstyle|handshakeNoZeroes)
	if err := n.send(b); err != nil {
		return err
	}
	var reply [4]byte
	if _, err := io.ReadFull(n.conn, reply[:]); err != nil {
		return fmt.Errorf("client flags: %w", err)
	}
	flags := binary.BigEndian.Uint32(reply[:])
	if flags&^(clientFixedNewstyle|clientNoZeroes) != 0 {
		return fmt.Errorf("client flags %#x: %w", flags, ErrProtocol)
	}
	n.session.ClientFlags = flags
	return nil
}

// option reads one option and answers it. A session ends the negotiation.
func (n *negotiation) option(ctx context.Context) (*Session, error) {
	var b [optionSize]byte
	if _, err := io.ReadFull(n.conn, b[:]); err != nil {
		return nil, fmt.Errorf("option: %w", err)
	}
	h := decodeOption(&b)
	if h.OptionMagic != protocol.NEGOTIATION_MAGIC_OPTION {
		return nil, fmt.Errorf("option magic %#x: %w", h.OptionMagic, ErrProtocol)
	}
	if n.session.ClientFlags&clientFixedNewstyle == 0 && h.ID != optExportName {
		return nil, fmt.Errorf("option %d without fixed newstyle: %w", h.ID, ErrProtocol)
	}
	switch {
	case h.ID == optExportName:
		return n.exportName(h)
	case h.ID == optAbort:
		return nil, n.abort(h)
	case h.ID == optStartTLS:
		return nil, n.startTLS(ctx, h)
	case n.require && !n.session.TLS:
		return nil, n.refuse(h, repErrTLSReqd, "this server speaks with you after NBD_OPT_STARTTLS only")
	}
	switch h.ID {
	case optList:
		return nil, n.listExports(h)
	case optInfo, optGo:
		return n.describe(h)
	case optStructuredReply, optExtendedHeaders:
		return nil, n.replies(h)
	case optListMetaContext, optSetMetaContext:
		return nil, n.contexts(ctx, h)
	default:
		return nil, n.refuse(h, repErrUnsup, "option is not supported")
	}
}

// replies answers NBD_OPT_STRUCTURED_REPLY and NBD_OPT_EXTENDED_HEADERS, of which the second one prevails.
func (n *negotiation) replies(h protocol.NegotiationOptionHeader) error {
	switch {
	case h.Length != 0:
		return n.refuse(h, repErrInvalid, "the option has no data")
	case n.session.Extended && h.ID == optStructuredReply:
		return n.answer(h, repErrExtended, []byte("extended headers were negotiated already"))
	case n.session.Extended:
		return n.answer(h, repErrInvalid, []byte("extended headers were negotiated already"))
	}
	n.session.Structured, n.session.Extended = true, h.ID == optExtendedHeaders
	return n.answer(h, repAck, nil)
}

// refuse reads the option's data away and replies with an error, whose text is for people ("Option reply types").
func (n *negotiation) refuse(h protocol.NegotiationOptionHeader, kind uint32, text string) error {
	if _, err := io.CopyN(io.Discard, n.conn, int64(h.Length)); err != nil {
		return fmt.Errorf("data of refused option %d: %w", h.ID, err)
	}
	return n.answer(h, kind, []byte(text))
}

func (n *negotiation) answer(h protocol.NegotiationOptionHeader, kind uint32, data []byte) error {
	return n.send(appendOptionReply(nil, h.ID, kind, data))
}

func (n *negotiation) send(message []byte) error {
	if _, err := n.conn.Write(message); err != nil {
		return fmt.Errorf("answer the client: %w", err)
	}
	return nil
}

// abort answers NBD_OPT_ABORT; its data is ignored, and so is a client that has gone already.
func (n *negotiation) abort(h protocol.NegotiationOptionHeader) error {
	if _, err := io.CopyN(io.Discard, n.conn, int64(h.Length)); err != nil {
		return errAborted
	}
	n.answer(h, repAck, nil)
	return errAborted
}

// startTLS answers NBD_OPT_STARTTLS and secures the connection. Nothing negotiated before it is kept.
func (n *negotiation) startTLS(ctx context.Context, h protocol.NegotiationOptionHeader) error {
	switch {
	case n.tls == nil:
		return n.refuse(h, repErrUnsup, "this server has no TLS")
	case n.session.TLS:
		return n.refuse(h, repErrInvalid, "TLS is on already")
	case h.Length != 0:
		return n.refuse(h, repErrInvalid, "NBD_OPT_STARTTLS has no data")
	}
	if err := n.answer(h, repAck, nil); err != nil {
		return err
	}
	secured := tls.Server(&records{Conn: n.conn}, n.tls)
	if err := secured.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	n.conn = secured
	n.session.Structured, n.session.Extended = false, false
	n.session.Key, n.session.Generation = "", 0
	n.selected = selection{}
	n.session.identify(secured)
	return nil
}

// listExports answers NBD_OPT_LIST: one reply for each export that the client is admitted to.
func (n *negotiation) listExports(h protocol.NegotiationOptionHeader) error {
	if h.Length != 0 {
		return n.refuse(h, repErrInvalid, "NBD_OPT_LIST has no data")
	}
	client, err := n.session.Client()
	if err != nil {
		return err
	}
	var replies bytes.Buffer
	for _, x := range n.list() {
		if x.admit(client) != nil {
			continue
		}
		data := binary.BigEndian.AppendUint32(nil, uint32(len(x.Name)))
		data = append(append(data, x.Name...), x.Description...)
		replies.Write(appendOptionReply(nil, h.ID, repServer, data))
	}
	replies.Write(appendOptionReply(nil, h.ID, repAck, nil))
	return n.send(replies.Bytes())
}
