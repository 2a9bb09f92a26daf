package nbd

import (
	"encoding/binary"
	"fmt"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// The numbers of the protocol: go-nbd's where it has them, ours beyond ("Values").
const (
	handshakeFixedNewstyle = protocol.NEGOTIATION_HANDSHAKE_FLAG_FIXED_NEWSTYLE
	handshakeNoZeroes      = uint16(1 << 1)

	clientFixedNewstyle = uint32(1 << 0)
	clientNoZeroes      = uint32(1 << 1)

	optExportName = uint32(1)
	optAbort      = protocol.NEGOTIATION_ID_OPTION_ABORT
	optList       = protocol.NEGOTIATION_ID_OPTION_LIST
	optStartTLS   = uint32(5)
	optInfo       = protocol.NEGOTIATION_ID_OPTION_INFO
	optGo         = protocol.NEGOTIATION_ID_OPTION_GO

	repAck         = protocol.NEGOTIATION_TYPE_REPLY_ACK
	repServer      = protocol.NEGOTIATION_TYPE_REPLY_SERVER
	repInfo        = protocol.NEGOTIATION_TYPE_REPLY_INFO
	repError       = uint32(1 << 31)
	repErrUnsup    = protocol.NEGOTIATION_TYPE_REPLY_ERR_UNSUPPORTED
	repErrPolicy   = repError | 2
	repErrInvalid  = repError | 3
	repErrTLSReqd  = repError | 5
	repErrUnknown  = protocol.NEGOTIATION_TYPE_REPLY_ERR_UNKNOWN
	repErrShutdown = repError | 7
	repErrTooBig   = repError | 9

	infoExport      = protocol.NEGOTIATION_TYPE_INFO_EXPORT
	infoName        = protocol.NEGOTIATION_TYPE_INFO_NAME
	infoDescription = protocol.NEGOTIATION_TYPE_INFO_DESCRIPTION
	infoBlockSize   = protocol.NEGOTIATION_TYPE_INFO_BLOCKSIZE

	canFlags       = protocol.NEGOTIATION_REPLY_FLAGS_HAS_FLAGS
	canReadOnly    = uint16(1 << 1)
	canFlush       = uint16(1 << 2)
	canFUA         = uint16(1 << 3)
	canTrim        = uint16(1 << 5)
	canWriteZeroes = uint16(1 << 6)
	canMultiConn   = protocol.NEGOTIATION_REPLY_FLAGS_CAN_MULTI_CONN
	canFastZero    = uint16(1 << 11)

	cmdRead        = protocol.TRANSMISSION_TYPE_REQUEST_READ
	cmdWrite       = protocol.TRANSMISSION_TYPE_REQUEST_WRITE
	cmdDisconnect  = protocol.TRANSMISSION_TYPE_REQUEST_DISC
	cmdFlush       = uint16(3)
	cmdTrim        = uint16(4)
	cmdWriteZeroes = uint16(6)

	flagFUA      = uint16(1 << 0)
	flagNoHole   = uint16(1 << 1)
	flagFastZero = uint16(1 << 4)
)

const (
	// maxPayload is the longest payload of one request or reply: what every server and client has to take, and what a
	// client may send without having asked ("Size constraints").
	maxPayload = 32 << 20
	// maxString bounds names and descriptions ("Conventions": strings SHOULD be at most 4096 bytes).
	maxString = 4096
	// maxMinBlock is the largest minimum block size that can be told ("Size constraints").
	maxMinBlock = 64 << 10
	// smallestPreferred is the smallest preferred block size that may be told ("Size constraints").
	smallestPreferred = 512
	// usualBlock is the preferred block size of a peer that told none ("Size constraints").
	usualBlock = 4096
)

// The lengths of the fixed parts of messages.
const (
	greetingSize    = 18
	optionSize      = 16
	optionReplySize = 20
	requestSize     = 28
	replySize       = 16
)

func commandName(command uint16) string {
	switch command {
	case cmdRead:
		return "READ"
	case cmdWrite:
		return "WRITE"
	case cmdDisconnect:
		return "DISC"
	case cmdFlush:
		return "FLUSH"
	case cmdTrim:
		return "TRIM"
	case cmdWriteZeroes:
		return "WRITE_ZEROES"
	default:
		return fmt.Sprintf("command %d", command)
	}
}

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
