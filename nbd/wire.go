package nbd

import (
	"encoding/binary"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// The lengths of the fixed parts of messages.
const (
	greetingSize    = 18
	optionSize      = 16
	optionReplySize = 20
	requestSize     = 28
	replySize       = 16

	exportNameZeroes = 124 // after the answer to NBD_OPT_EXPORT_NAME, without NO_ZEROES

	extendedSize   = 32 // request, and head of a chunk
	structuredSize = 20 // head of a chunk
	dataOffsetSize = 8  // before the data of a chunk
	holeSize       = 12
)

func decodeRequest(b *[requestSize]byte) protocol.TransmissionRequestHeader {
	return protocol.TransmissionRequestHeader{
		RequestMagic: binary.BigEndian.Uint32(b[0:]),
		CommandFlags: binary.BigEndian.Uint16(b[4:]),
		Type:         binary.BigEndian.Uint16(b[6:]),
		Handle:       binary.BigEndian.Uint64(b[8:]),
		Offset:       binary.BigEndian.Uint64(b[16:]),
		Length:       binary.BigEndian.Uint32(b[24:]),
	}
}

func encodeRequest(b *[requestSize]byte, h protocol.TransmissionRequestHeader) {
	binary.BigEndian.PutUint32(b[0:], protocol.TRANSMISSION_MAGIC_REQUEST)
	binary.BigEndian.PutUint16(b[4:], h.CommandFlags)
	binary.BigEndian.PutUint16(b[6:], h.Type)
	binary.BigEndian.PutUint64(b[8:], h.Handle)
	binary.BigEndian.PutUint64(b[16:], h.Offset)
	binary.BigEndian.PutUint32(b[24:], h.Length)
}

func decodeReply(b *[replySize]byte) protocol.TransmissionReplyHeader {
	return protocol.TransmissionReplyHeader{
		ReplyMagic: binary.BigEndian.Uint32(b[0:]),
		Error:      binary.BigEndian.Uint32(b[4:]),
		Handle:     binary.BigEndian.Uint64(b[8:]),
	}
}

// encodeReply writes a simple reply into the first replySize bytes of b.
func encodeReply(b []byte, code uint32, handle uint64) {
	binary.BigEndian.PutUint32(b[0:], protocol.TRANSMISSION_MAGIC_REPLY)
	binary.BigEndian.PutUint32(b[4:], code)
	binary.BigEndian.PutUint64(b[8:], handle)
}

func decodeOption(b *[optionSize]byte) protocol.NegotiationOptionHeader {
	return protocol.NegotiationOptionHeader{
		OptionMagic: binary.BigEndian.Uint64(b[0:]),
		ID:          binary.BigEndian.Uint32(b[8:]),
		Length:      binary.BigEndian.Uint32(b[12:]),
	}
}

// appendOption appends an option with its data.
func appendOption(b []byte, id uint32, data []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, protocol.NEGOTIATION_MAGIC_OPTION)
	b = binary.BigEndian.AppendUint32(b, id)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

func decodeOptionReply(b *[optionReplySize]byte) protocol.NegotiationReplyHeader {
	return protocol.NegotiationReplyHeader{
		ReplyMagic: binary.BigEndian.Uint64(b[0:]),
		ID:         binary.BigEndian.Uint32(b[8:]),
		Type:       binary.BigEndian.Uint32(b[12:]),
		Length:     binary.BigEndian.Uint32(b[16:]),
	}
}

// appendOptionReply appends a reply to option id with its data.
func appendOptionReply(b []byte, id, kind uint32, data []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, protocol.NEGOTIATION_MAGIC_REPLY)
	b = binary.BigEndian.AppendUint32(b, id)
	b = binary.BigEndian.AppendUint32(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

// head is a request as it is understood, compact or extended: go-nbd's fields with a length of 64 bits.
type head struct {
	command, flags         uint16
	cookie, offset, length uint64
}

// compactHead is the head of a compact request.
func compactHead(h protocol.TransmissionRequestHeader) head {
	return head{command: h.Type, flags: h.CommandFlags, cookie: h.Handle, offset: h.Offset, length: uint64(h.Length)}
}

// decodeHead decodes the head of a request and its magic: b has extendedSize bytes in a session with extended headers,
// requestSize in others.
func decodeHead(b []byte, extended bool) (magic uint32, h head) {
	if !extended {
		compact := decodeRequest((*[requestSize]byte)(b))
		return compact.RequestMagic, compactHead(compact)
	}
	return binary.BigEndian.Uint32(b), head{
		flags:   binary.BigEndian.Uint16(b[4:]),
		command: binary.BigEndian.Uint16(b[6:]),
		cookie:  binary.BigEndian.Uint64(b[8:]),
		offset:  binary.BigEndian.Uint64(b[16:]),
		length:  binary.BigEndian.Uint64(b[24:]),
	}
}

// appendHead appends the head of a request. A length over 32 bits needs extended headers.
func appendHead(b []byte, h head, extended bool) []byte {
	if !extended {
		var compact [requestSize]byte
		encodeRequest(&compact, protocol.TransmissionRequestHeader{
			Type: h.command, CommandFlags: h.flags, Handle: h.cookie, Offset: h.offset, Length: uint32(h.length),
		})
		return append(b, compact[:]...)
	}
	b = binary.BigEndian.AppendUint32(b, magicExtendedRequest)
	b = binary.BigEndian.AppendUint16(b, h.flags)
	b = binary.BigEndian.AppendUint16(b, h.command)
	b = binary.BigEndian.AppendUint64(b, h.cookie)
	b = binary.BigEndian.AppendUint64(b, h.offset)
	return binary.BigEndian.AppendUint64(b, h.length)
}

// chunkHead is the head of one chunk of a reply ("Structured reply chunk message", "Extended reply chunk message").
type chunkHead struct {
	flags, kind    uint16
	cookie, offset uint64 // offset is that of the request; compact chunks have none
	length         uint64 // of the payload
}

// chunkHeadSize is the length of the head of a chunk.
func chunkHeadSize(extended bool) int {
	if extended {
		return extendedSize
	}
	return structuredSize
}

// appendChunkHead appends the head of a chunk.
func appendChunkHead(b []byte, c chunkHead, extended bool) []byte {
	magic := magicStructured
	if extended {
		magic = magicExtendedReply
	}
	b = binary.BigEndian.AppendUint32(b, magic)
	b = binary.BigEndian.AppendUint16(b, c.flags)
	b = binary.BigEndian.AppendUint16(b, c.kind)
	b = binary.BigEndian.AppendUint64(b, c.cookie)
	if !extended {
		return binary.BigEndian.AppendUint32(b, uint32(c.length))
	}
	b = binary.BigEndian.AppendUint64(b, c.offset)
	return binary.BigEndian.AppendUint64(b, c.length)
}

// decodeChunkHead decodes what follows the magic in the head of a chunk.
func decodeChunkHead(b []byte, extended bool) chunkHead {
	c := chunkHead{
		flags:  binary.BigEndian.Uint16(b[4:]),
		kind:   binary.BigEndian.Uint16(b[6:]),
		cookie: binary.BigEndian.Uint64(b[8:]),
	}
	if extended {
		c.offset, c.length = binary.BigEndian.Uint64(b[16:]), binary.BigEndian.Uint64(b[24:])
	} else {
		c.length = uint64(binary.BigEndian.Uint32(b[16:]))
	}
	return c
}
