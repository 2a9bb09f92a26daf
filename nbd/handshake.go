package nbd

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"net"

	"github.com/cvold/cvold/dataplane"
	"github.com/pojntfx/go-nbd/pkg/protocol"
)

const (
	// maxReplyData is the longest reply to an option that is read: an information with a string, or an error's text.
	maxReplyData = maxString + 64
	// maxReplies to one option: the protocol defines four informations, servers may add some.
	maxReplies = 64
)

// handshake is the client's end of a connection before transmission. Like the server's it never reads ahead.
type handshake struct {
	conn    net.Conn // the secured one after STARTTLS
	tls     *tls.Config
	export  string
	who     identity // to be told, unless it is empty
	session Session
}

// run returns a session that has been checked: what it says can be relied on to do arithmetic with.
func (h *handshake) run(ctx context.Context) (Session, error) {
	if err := h.greet(); err != nil {
		return Session{}, err
	}
	if h.tls != nil {
		if err := h.startTLS(ctx); err != nil {
			return Session{}, err
		}
	}
	h.session.identify(h.conn)
	h.session.Export = h.export
	if len(h.export) > maxString {
		return Session{}, fmt.Errorf("export name of %d bytes: %w", len(h.export), ErrNoExport)
	}
	if err := h.extend(); err != nil {
		return Session{}, err
	}
	if err := h.open(); err != nil {
		return Session{}, err
	}
	return h.session, checkSession(&h.session)
}

// greet exchanges the flags ("Newstyle negotiation").
func (h *handshake) greet() error {
	var b [greetingSize]byte
	if _, err := io.ReadFull(h.conn, b[:]); err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	magic, option := binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])
	flags := binary.BigEndian.Uint16(b[16:])
	if magic != protocol.NEGOTIATION_MAGIC_OLDSTYLE || option != protocol.NEGOTIATION_MAGIC_OPTION ||
		flags&handshakeFixedNewstyle == 0 {
		return fmt.Errorf("no fixed newstyle NBD server, it greets with %x: %w", b, ErrProtocol)
	}
	h.session.ClientFlags = clientFixedNewstyle
	if flags&handshakeNoZeroes != 0 {
		h.session.ClientFlags |= clientNoZeroes
	}
	return h.send(binary.BigEndian.AppendUint32(nil, h.session.ClientFlags))
}

func (h *handshake) send(message []byte) error {
	if _, err := h.conn.Write(message); err != nil {
		return fmt.Errorf("send to the server: %w", err)
	}
	return nil
}

// startTLS secures the connection before anything else is said ("Client-side requirements").
func (h *handshake) startTLS(ctx context.Context) error {
	if err := h.send(appendOption(nil, optStartTLS, nil)); err != nil {
		return err
	}
	kind, data, err := h.reply(optStartTLS)
	switch {
	case err != nil:
		return err
	case kind&repError != 0:
		return fmt.Errorf("%w (%w)", ErrNoTLS, optionError(optStartTLS, kind, data))
	case kind != repAck || len(data) != 0:
		return fmt.Errorf("reply %d to STARTTLS: %w", kind, ErrProtocol)
	}
	secured := tls.Client(&records{Conn: h.conn}, h.tls)
	if err := secured.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	h.conn = secured
	return nil
}

// open sends NBD_OPT_GO, asking for the size constraints, and so promising to keep them ("Size constraints").
func (h *handshake) open() error {
	question := binary.BigEndian.AppendUint32(nil, uint32(len(h.export)))
	question = append(question, h.export...)
	question = binary.BigEndian.AppendUint16(question, 1)
	question = binary.BigEndian.AppendUint16(question, infoBlockSize)
	if err := h.send(appendOption(nil, optGo, question)); err != nil {
		return err
	}
	known := map[uint16]bool{}
	for range maxReplies {
		kind, data, err := h.reply(optGo)
		switch {
		case err != nil:
			return err
		case kind == repInfo:
			if err := h.inform(data, known); err != nil {
				return err
			}
		case kind == repAck && known[infoExport]:
			return nil
		case kind == repErrUnsup && !h.session.Extended:
			return h.openByName()
		default:
			return optionError(optGo, kind, data)
		}
	}
	return fmt.Errorf("more than %d replies to GO: %w", maxReplies, ErrProtocol)
}

// openByName sends NBD_OPT_EXPORT_NAME, to a server that does not know GO. It refuses by hanging up.
func (h *handshake) openByName() error {
	if err := h.send(appendOption(nil, optExportName, []byte(h.export))); err != nil {
		return err
	}
	answer := make([]byte, 10, 10+exportNameZeroes)
	if h.session.ClientFlags&clientNoZeroes == 0 {
		answer = answer[:cap(answer)]
	}
	if _, err := io.ReadFull(h.conn, answer); err != nil {
		return fmt.Errorf("answer to NBD_OPT_EXPORT_NAME: %w", err)
	}
	h.session.Size = int64(binary.BigEndian.Uint64(answer))
	h.session.Flags = binary.BigEndian.Uint16(answer[8:])
	return nil
}

// inform takes one NBD_REP_INFO; unknown informations are ignored, as is right.
func (h *handshake) inform(data []byte, known map[uint16]bool) error {
	if len(data) < 2 {
		return fmt.Errorf("information of %d bytes: %w", len(data), ErrProtocol)
	}
	kind := binary.BigEndian.Uint16(data)
	known[kind] = true
	switch {
	case kind == infoExport && len(data) == 12:
		h.session.Size = int64(binary.BigEndian.Uint64(data[2:]))
		h.session.Flags = binary.BigEndian.Uint16(data[10:])
	case kind == infoBlockSize && len(data) == 14:
		h.session.MinBlock = binary.BigEndian.Uint32(data[2:])
		h.session.PreferredBlock = binary.BigEndian.Uint32(data[6:])
		h.session.MaxPayload = binary.BigEndian.Uint32(data[10:])
		if h.session.MinBlock == 0 {
			return fmt.Errorf("minimum block size 0: %w", ErrProtocol)
		}
	case kind == infoExport || kind == infoBlockSize:
		return fmt.Errorf("information %d of %d bytes: %w", kind, len(data), ErrProtocol)
	}
	return nil
}

// reply reads one reply to the option.
func (h *handshake) reply(option uint32) (kind uint32, data []byte, err error) {
	var b [optionReplySize]byte
	if _, err := io.ReadFull(h.conn, b[:]); err != nil {
		return 0, nil, fmt.Errorf("reply to option %d: %w", option, err)
	}
	r := decodeOptionReply(&b)
	if r.ReplyMagic != protocol.NEGOTIATION_MAGIC_REPLY || r.ID != option || r.Length > maxReplyData {
		return 0, nil, fmt.Errorf("reply to option %d begins with %x: %w", option, b, ErrProtocol)
	}
	data = make([]byte, r.Length)
	if _, err := io.ReadFull(h.conn, data); err != nil {
		return 0, nil, fmt.Errorf("data of a reply to option %d: %w", option, err)
	}
	return r.Type, data, nil
}

// optionError is what a server's refusal of an option means ("Option reply types"), with the server's words.
func optionError(option, kind uint32, text []byte) error {
	err := ErrProtocol
	switch kind {
	case repErrUnknown:
		err = fmt.Errorf("%w: %w", ErrNoExport, dataplane.ErrNotFound)
	case repErrPolicy:
		err = ErrRefused
	case repErrTLSReqd:
		err = ErrTLSRequired
	case repErrShutdown:
		err = dataplane.ErrDisconnected
	case repErrUnsup:
		err = dataplane.ErrNotSupported
	}
	return fmt.Errorf("the server answers option %d with %#x %.200q: %w", option, kind, text, err)
}

// checkSession refuses what a server must not say, and fills in what it did not say: without NBD_INFO_BLOCK_SIZE a
// client should keep to blocks of 512 bytes, payloads of 32 MiB ("Size constraints"), as far as the size allows.
func checkSession(s *Session) error {
	if s.Size < 0 || s.Flags&canFlags == 0 {
		return fmt.Errorf("export of %d bytes with flags %#x: %w", uint64(s.Size), s.Flags, ErrProtocol)
	}
	if s.MinBlock == 0 {
		s.MinBlock, s.PreferredBlock, s.MaxPayload = 512, usualBlock, maxPayload
		if s.Size%512 != 0 {
			s.MinBlock = 1
		}
	}
	if bits.OnesCount32(s.MinBlock) != 1 || s.MinBlock > maxMinBlock || s.Size%int64(s.MinBlock) != 0 ||
		bits.OnesCount32(s.PreferredBlock) != 1 || s.PreferredBlock < s.MinBlock || s.MaxPayload < s.MinBlock {
		return fmt.Errorf("export of %d bytes with blocks of %d, %d preferred, %d at most: %w",
			s.Size, s.MinBlock, s.PreferredBlock, s.MaxPayload, ErrProtocol)
	}
	s.MaxPayload = min(s.MaxPayload, maxPayload) / s.MinBlock * s.MinBlock
	return nil
}
