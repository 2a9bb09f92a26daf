package nbd

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// question is the data of NBD_OPT_INFO and NBD_OPT_GO.
type question struct {
	name  string
	wants map[uint16]bool // information requests
}

// describe answers NBD_OPT_INFO and NBD_OPT_GO; GO returns what transmission begins with.
func (n *negotiation) describe(h protocol.NegotiationOptionHeader) (*Session, error) {
	data, err := n.data(h)
	if data == nil || err != nil {
		return nil, err
	}
	q, ok := parseQuestion(data)
	if !ok {
		return nil, n.answer(h, repErrInvalid, []byte("lengths in the data do not match"))
	}
	x, err := n.admitted(h, q.name)
	if x == nil || err != nil {
		return nil, err
	}
	return n.open(h, q, x)
}

// data reads the data of an option; nil: it was too long, and the client was told.
func (n *negotiation) data(h protocol.NegotiationOptionHeader) ([]byte, error) {
	if h.Length > maxOptionData {
		return nil, n.refuse(h, repErrTooBig, fmt.Sprintf("more than %d bytes of data", maxOptionData))
	}
	data := make([]byte, h.Length)
	if _, err := io.ReadFull(n.conn, data); err != nil {
		return nil, fmt.Errorf("data of option %d: %w", h.ID, err)
	}
	return data, nil
}

// admitted is the export of that name; nil: there is none for this client, and it was told.
func (n *negotiation) admitted(h protocol.NegotiationOptionHeader, name string) (*served, error) {
	x := n.find(name)
	if x == nil {
		return nil, n.answer(h, repErrUnknown, []byte("no such export"))
	}
	client, err := n.session.Client()
	if err != nil {
		return nil, err
	}
	if x.admit(client) != nil {
		return nil, n.answer(h, repErrPolicy, []byte("not your export"))
	}
	return x, nil
}

// parseQuestion reports false when the lengths inside do not add up to the length of the data.
func parseQuestion(data []byte) (question, bool) {
	q := question{wants: map[uint16]bool{}}
	if len(data) < 6 {
		return q, false
	}
	length := binary.BigEndian.Uint32(data)
	if int64(length) > int64(len(data)-6) || length > maxString {
		return q, false
	}
	q.name, data = string(data[4:4+length]), data[4+length:]
	count, data := binary.BigEndian.Uint16(data), data[2:]
	if len(data) != 2*int(count) {
		return q, false
	}
	for ; len(data) > 0; data = data[2:] {
		q.wants[binary.BigEndian.Uint16(data)] = true
	}
	return q, true
}

// open tells what the client asked of the export, and all that it must be told, in one write.
func (n *negotiation) open(h protocol.NegotiationOptionHeader, q question, x *served) (*Session, error) {
	session, err := n.begin(x)
	if err != nil {
		return nil, n.answer(h, repErrUnknown, []byte("the export's size is not known"))
	}
	b := appendOptionReply(nil, h.ID, repInfo, encodeExport(session))
	if q.wants[infoName] {
		b = appendOptionReply(b, h.ID, repInfo, encodeText(infoName, x.Name))
	}
	if q.wants[infoDescription] && x.Description != "" {
		b = appendOptionReply(b, h.ID, repInfo, encodeText(infoDescription, x.Description))
	}
	if q.wants[infoBlockSize] {
		b = appendOptionReply(b, h.ID, repInfo, encodeBlockSize(session))
	}
	if err := n.send(appendOptionReply(b, h.ID, repAck, nil)); err != nil || h.ID == optInfo {
		return nil, err
	}
	return &session, nil
}

// begin is what transmission of the export would begin with.
func (n *negotiation) begin(x *served) (Session, error) {
	told, err := x.session()
	if err != nil {
		return Session{}, err
	}
	session := n.session
	session.Export, session.Size, session.Flags = told.Export, told.Size, told.Flags
	session.MinBlock, session.PreferredBlock, session.MaxPayload = told.MinBlock, told.PreferredBlock, told.MaxPayload
	session.Allocation = n.selected.allocation && n.selected.export == x.Name
	session.Flags |= session.offered()
	return session, nil
}

// exportName answers NBD_OPT_EXPORT_NAME, which knows no refusal: what cannot be served ends the connection.
func (n *negotiation) exportName(h protocol.NegotiationOptionHeader) (*Session, error) {
	switch {
	case n.require && !n.session.TLS:
		return nil, fmt.Errorf("NBD_OPT_EXPORT_NAME before STARTTLS: %w", ErrProtocol)
	case n.session.Extended:
		return nil, fmt.Errorf("NBD_OPT_EXPORT_NAME with extended headers: %w", ErrProtocol)
	case h.Length > maxString:
		return nil, fmt.Errorf("export name of %d bytes: %w", h.Length, ErrProtocol)
	}
	name := make([]byte, h.Length)
	if _, err := io.ReadFull(n.conn, name); err != nil {
		return nil, fmt.Errorf("data of option %d: %w", h.ID, err)
	}
	x := n.find(string(name))
	if x == nil {
		return nil, fmt.Errorf("export %.100q: %w", name, ErrNoExport)
	}
	client, err := n.session.Client()
	if err != nil {
		return nil, err
	}
	if err := x.admit(client); err != nil {
		return nil, err
	}
	session, err := n.begin(x)
	if err != nil {
		return nil, err
	}
	b := binary.BigEndian.AppendUint64(nil, uint64(session.Size))
	b = binary.BigEndian.AppendUint16(b, session.Flags)
	if session.ClientFlags&clientNoZeroes == 0 {
		b = append(b, make([]byte, exportNameZeroes)...)
	}
	return &session, n.send(b)
}

func encodeExport(s Session) []byte {
	b := binary.BigEndian.AppendUint16(nil, infoExport)
	b = binary.BigEndian.AppendUint64(b, uint64(s.Size))
	return binary.BigEndian.AppendUint16(b, s.Flags)
}

func encodeText(kind uint16, text string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, kind), text...)
}

func encodeBlockSize(s Session) []byte {
	b := binary.BigEndian.AppendUint16(nil, infoBlockSize)
	b = binary.BigEndian.AppendUint32(b, s.MinBlock)
	b = binary.BigEndian.AppendUint32(b, s.PreferredBlock)
	return binary.BigEndian.AppendUint32(b, s.MaxPayload)
}
