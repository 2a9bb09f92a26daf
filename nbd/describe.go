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

// describe answers NBD_OPT_INFO and NBD_OPT_GO; GO returns the session with which transmission begins.
func (n *negotiation) describe(h protocol.NegotiationOptionHeader) (*Session, error) {
	if h.Length > maxOptionData {
		return nil, n.refuse(h, repErrTooBig, fmt.Sprintf("more than %d bytes of data", maxOptionData))
	}
	data := make([]byte, h.Length)
	if _, err := io.ReadFull(n.conn, data); err != nil {
		return nil, fmt.Errorf("data of option %d: %w", h.ID, err)
	}
	q, ok := parseQuestion(data)
	if !ok {
		return nil, n.answer(h, repErrInvalid, []byte("lengths in the data do not match"))
	}
	x := n.find(q.name)
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
	return n.open(h, q, x)
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
	told, err := x.session()
	if err != nil {
		return nil, n.answer(h, repErrUnknown, []byte("the export's size is not known"))
	}
	session := n.session
	session.Export, session.Size, session.Flags = told.Export, told.Size, told.Flags
	session.MinBlock, session.PreferredBlock, session.MaxPayload = told.MinBlock, told.PreferredBlock, told.MaxPayload
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
