package nbd

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/cvold/cvold/dataplane"
	"github.com/pojntfx/go-nbd/pkg/protocol"
)

var (
	// Of the server.

	// ErrExportExists: an export of that name is served, or was removed and still has requests in flight.
	ErrExportExists = errors.New("an export of that name exists")
	// ErrNoExport: no export of that name; from Dial it also is dataplane.ErrNotFound.
	ErrNoExport = errors.New("no such export")
	// ErrServerClosed: the server was closed.
	ErrServerClosed = errors.New("NBD server is closed")
	// ErrInvalidExport: the export cannot be told in the protocol: its name, its size or its block size.
	ErrInvalidExport = errors.New("export cannot be served")

	// Of a connection.

	// ErrProtocol: the other end broke the NBD protocol, or speaks a form of it that is not served.
	ErrProtocol = errors.New("NBD protocol violation")
	// ErrRefused: the server's policy does not admit this client to the export (NBD_REP_ERR_POLICY).
	ErrRefused = errors.New("the NBD server refused the client")
	// ErrTLSRequired: the server wants TLS and the client was not told to use it (NBD_REP_ERR_TLS_REQD).
	ErrTLSRequired = errors.New("the NBD server requires TLS")
	// ErrNoTLS: TLS was demanded and the server does not offer it.
	ErrNoTLS = errors.New("the NBD server offers no TLS")

	// Of a URI.

	// ErrURI: not an NBD URI, or one that asks for what this package cannot do.
	ErrURI = errors.New("invalid NBD URI")
)

// "Error values" of the protocol beyond those that go-nbd names.
const (
	codeEPERM     = protocol.TRANSMISSION_ERROR_EPERM
	codeEIO       = uint32(5)
	codeENOMEM    = uint32(12)
	codeEINVAL    = protocol.TRANSMISSION_ERROR_EINVAL
	codeENOSPC    = uint32(28)
	codeEOVERFLOW = uint32(75)
	codeENOTSUP   = uint32(95)
	codeESHUTDOWN = uint32(108)
)

// wireCodes says which code answers which error, first match first. Errors that are not here are EIO.
var wireCodes = []struct {
	err  error
	code uint32
}{
	{dataplane.ErrClosed, codeESHUTDOWN},
	{dataplane.ErrReadOnly, codeEPERM},
	{dataplane.ErrNoSpace, codeENOSPC},
	{dataplane.ErrOutOfRange, codeEINVAL},
	{dataplane.ErrUnaligned, codeEINVAL},
	{dataplane.ErrNotSupported, codeEINVAL},
	{dataplane.ErrIO, codeEIO},
	{syscall.EROFS, codeEPERM},
	{syscall.EPERM, codeEPERM},
	{syscall.ENOSPC, codeENOSPC},
	{syscall.EDQUOT, codeENOSPC},
	{syscall.EFBIG, codeENOSPC},
}

// wireCode is the code for a device's error in reply to a request with the given type and flags: past the end is ENOSPC
// for what writes ("Error values"), ENOTSUP is for fast zeroes only (NBD_CMD_WRITE_ZEROES).
func wireCode(err error, command, flags uint16) uint32 {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, dataplane.ErrOutOfRange) && (command == cmdWrite || command == cmdWriteZeroes):
		return codeENOSPC
	case errors.Is(err, dataplane.ErrNotSupported) && command == cmdWriteZeroes && flags&flagFastZero != 0:
		return codeENOTSUP
	}
	for _, w := range wireCodes {
		if errors.Is(err, w.err) {
			return w.code
		}
	}
	return codeEIO
}

// replyError is a server's refusal of one request; the connection is still good.
type replyError struct {
	command uint16
	code    uint32
	text    string // the server's words
}

func (e *replyError) Error() string {
	if e.text != "" {
		return fmt.Sprintf("%s answered with error %d (%.200q): %v", commandName(e.command), e.code, e.text, e.Unwrap())
	}
	return fmt.Sprintf("%s answered with error %d: %v", commandName(e.command), e.code, e.Unwrap())
}

// Unwrap is the code as an error of the data path. Codes that the protocol does not define are ErrIO: they tell nothing
// of what was touched.
func (e *replyError) Unwrap() error {
	switch e.code {
	case codeEPERM:
		return dataplane.ErrReadOnly
	case codeEINVAL, codeEOVERFLOW:
		return dataplane.ErrOutOfRange
	case codeENOSPC:
		return dataplane.ErrNoSpace
	case codeENOTSUP:
		return dataplane.ErrNotSupported
	case codeESHUTDOWN:
		return dataplane.ErrDisconnected
	default:
		return dataplane.ErrIO
	}
}
