package nbd

import (
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

	optStructuredReply = uint32(8)
	optListMetaContext = uint32(9)
	optSetMetaContext  = uint32(10)
	optExtendedHeaders = uint32(11)

	repAck         = protocol.NEGOTIATION_TYPE_REPLY_ACK
	repServer      = protocol.NEGOTIATION_TYPE_REPLY_SERVER
	repInfo        = protocol.NEGOTIATION_TYPE_REPLY_INFO
	repMetaContext = uint32(4)
	repError       = uint32(1 << 31)
	repErrUnsup    = protocol.NEGOTIATION_TYPE_REPLY_ERR_UNSUPPORTED
	repErrPolicy   = repError | 2
	repErrInvalid  = repError | 3
	repErrTLSReqd  = repError | 5
	repErrUnknown  = protocol.NEGOTIATION_TYPE_REPLY_ERR_UNKNOWN
	repErrShutdown = repError | 7
	repErrTooBig   = repError | 9
	repErrExtended = repError | 10

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
	canDF          = uint16(1 << 7)
	canMultiConn   = protocol.NEGOTIATION_REPLY_FLAGS_CAN_MULTI_CONN
	canCache       = uint16(1 << 10)
	canFastZero    = uint16(1 << 11)
	// canStatusPayload is NBD_FLAG_BLOCK_STATUS_PAYLOAD.
	canStatusPayload = uint16(1 << 12)

	cmdRead        = protocol.TRANSMISSION_TYPE_REQUEST_READ
	cmdWrite       = protocol.TRANSMISSION_TYPE_REQUEST_WRITE
	cmdDisconnect  = protocol.TRANSMISSION_TYPE_REQUEST_DISC
	cmdFlush       = uint16(3)
	cmdTrim        = uint16(4)
	cmdCache       = uint16(5)
	cmdWriteZeroes = uint16(6)
	cmdBlockStatus = uint16(7)

	flagFUA      = uint16(1 << 0)
	flagNoHole   = uint16(1 << 1)
	flagDF       = uint16(1 << 2)
	flagReqOne   = uint16(1 << 3)
	flagFastZero = uint16(1 << 4)
	flagPayload  = uint16(1 << 5) // NBD_CMD_FLAG_PAYLOAD_LEN

	magicStructured      = uint32(0x668e33ef)
	magicExtendedRequest = uint32(0x21e41c71)
	magicExtendedReply   = uint32(0x6e8a278c)

	replyDone = uint16(1 << 0)

	chunkNone        = uint16(0)
	chunkData        = uint16(1)
	chunkHole        = uint16(2)
	chunkStatus      = uint16(5)
	chunkStatusExt   = uint16(6)
	chunkError       = uint16(1<<15 | 1)
	chunkErrorOffset = uint16(1<<15 | 2)

	stateHole = uint64(1 << 0)
	stateZero = uint64(1 << 1)
)

// contextAllocation is the one metadata context that the protocol defines, and allocationID what it is called by in
// transmission here.
const (
	contextAllocation = "base:allocation"
	allocationID      = uint32(1)
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
	case cmdCache:
		return "CACHE"
	case cmdWriteZeroes:
		return "WRITE_ZEROES"
	case cmdBlockStatus:
		return "BLOCK_STATUS"
	default:
		return fmt.Sprintf("command %d", command)
	}
}
