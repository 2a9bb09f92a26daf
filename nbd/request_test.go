package nbd

import (
	"errors"
	"fmt"
	"math"
	"syscall"
	"testing"

	"github.com/cvold/cvold/dataplane"
)

const (
	diskSize = 64 << 20
	mib      = 1 << 20
)

// validations are requests to the exports of TestValidation, which have 64 MiB, and the codes that answer them.
var validations = []struct {
	export         string
	command, flags uint16
	offset         uint64
	length         uint32
	want           uint32
}{
	// every command within its bounds
	{"disk", cmdRead, 0, 0, mib, 0}, {"disk", cmdRead, 0, diskSize - 1, 1, 0}, {"disk", cmdRead, flagFUA, 0, 1, 0},
	{"disk", cmdWrite, 0, 0, mib, 0}, {"disk", cmdWrite, flagFUA, diskSize - 1, 1, 0}, {"disk", cmdWrite, 0, 0, maxPayload, 0},
	{"disk", cmdFlush, 0, 0, 0, 0}, {"disk", cmdFlush, flagFUA, 0, 0, 0},
	{"disk", cmdTrim, 0, 0, diskSize, 0}, {"disk", cmdTrim, flagFUA, 0, mib, 0},
	{"disk", cmdWriteZeroes, 0, 0, diskSize, 0}, {"disk", cmdWriteZeroes, flagNoHole | flagFastZero | flagFUA, 0, diskSize, 0},
	{"disk", cmdRead, 0, diskSize, 0, 0}, {"disk", cmdWrite, 0, 0, 0, 0}, {"disk", cmdTrim, 0, 0, 0, 0}, {"disk", cmdWriteZeroes, 0, 0, 0, 0},

	// past the end: "Error values"
	{"disk", cmdRead, 0, diskSize, 1, codeEINVAL}, {"disk", cmdRead, 0, diskSize - 1, 2, codeEINVAL}, {"disk", cmdRead, 0, diskSize + 1, 0, codeEINVAL},
	{"disk", cmdRead, 0, math.MaxUint64, 1, codeEINVAL}, {"disk", cmdRead, 0, 1 << 63, mib, codeEINVAL},
	{"disk", cmdWrite, 0, diskSize, 1, codeENOSPC}, {"disk", cmdWrite, 0, diskSize - 1, 2, codeENOSPC}, {"disk", cmdWrite, 0, math.MaxUint64, 4096, codeENOSPC},
	{"disk", cmdTrim, 0, diskSize, 1, codeEINVAL}, {"disk", cmdTrim, 0, math.MaxUint64, math.MaxUint32, codeEINVAL},
	{"disk", cmdWriteZeroes, 0, diskSize, 1, codeENOSPC}, {"disk", cmdWriteZeroes, 0, 0, math.MaxUint32, codeENOSPC},

	// longer than the largest payload: "Size constraints"
	{"disk", cmdRead, 0, 0, maxPayload + 1, codeEOVERFLOW}, {"disk", cmdWrite, 0, 0, maxPayload + 1, codeEINVAL},

	// flags that do not belong: "Error values"
	{"disk", cmdRead, flagNoHole, 0, 1, codeEINVAL}, {"disk", cmdWrite, flagNoHole, 0, 4096, codeEINVAL},
	{"disk", cmdWrite, flagFastZero, 0, 4096, codeEINVAL}, {"disk", cmdTrim, flagNoHole, 0, 1, codeEINVAL},
	{"disk", cmdFlush, flagFastZero, 0, 0, codeEINVAL}, {"disk", cmdWriteZeroes, 1 << 2, 0, 1, codeEINVAL},
	{"disk", cmdRead, 1 << 15, 0, 1, codeEINVAL}, {"disk", cmdRead, 1 << 2, 0, 1, codeEINVAL},
	{"slow", cmdWriteZeroes, flagFastZero, 0, 1, codeEINVAL}, {"slow", cmdWriteZeroes, flagNoHole, 0, 1, 0},

	// CACHE, in pieces, bounded like a read
	{"disk", cmdCache, 0, 0, 4096, 0}, {"disk", cmdCache, 0, 0, maxPayload, 0}, {"disk", cmdCache, 0, diskSize, 0, 0}, {"fixed", cmdCache, 0, 0, mib, 0},
	{"disk", cmdCache, 0, 0, maxPayload + 1, codeEOVERFLOW}, {"disk", cmdCache, 0, diskSize, 1, codeEINVAL}, {"disk", cmdCache, flagNoHole, 0, 1, codeEINVAL},
	{"sectors", cmdCache, 0, 1, 512, codeEINVAL},

	// what was not negotiated: DF, BLOCK_STATUS, payloads
	{"disk", cmdRead, flagDF, 0, 512, codeEINVAL}, {"disk", cmdBlockStatus, 0, 0, 4096, codeEINVAL}, {"disk", cmdBlockStatus, flagReqOne, 0, 4096, codeEINVAL},
	{"disk", cmdWrite, flagPayload, 0, 4096, codeEINVAL},

	// commands that are unknown, or known to others: RESIZE
	{"disk", 8, 0, 0, 4096, codeEINVAL},
	{"disk", 9, 0, 0, math.MaxUint32, codeEINVAL}, {"disk", math.MaxUint16, math.MaxUint16, 0, 0, codeEINVAL},

	// FLUSH has no range
	{"disk", cmdFlush, 0, 0, 512, codeEINVAL}, {"disk", cmdFlush, 0, 512, 0, codeEINVAL},

	// blocks
	{"sectors", cmdRead, 0, 512, 512, 0}, {"sectors", cmdRead, 0, 1, 512, codeEINVAL}, {"sectors", cmdRead, 0, 0, 511, codeEINVAL},
	{"sectors", cmdWrite, 0, 0, 513, codeEINVAL}, {"sectors", cmdTrim, 0, 256, 512, codeEINVAL}, {"sectors", cmdWriteZeroes, 0, 0, 1, codeEINVAL},

	// read-only: everything that changes is EPERM, and FUA was not offered
	{"fixed", cmdRead, 0, 0, mib, 0}, {"fixed", cmdFlush, 0, 0, 0, 0}, {"fixed", cmdWrite, 0, 0, mib, codeEPERM},
	{"fixed", cmdTrim, 0, 0, mib, codeEPERM}, {"fixed", cmdWriteZeroes, 0, 0, mib, codeEPERM}, {"fixed", cmdWrite, 0, diskSize, 1, codeEPERM},
	{"fixed", cmdRead, flagFUA, 0, 1, codeEINVAL}, {"fixed", cmdWrite, flagFUA, 0, 4096, codeEINVAL},
}

// startValidated serves the exports of the table.
func startValidated(t *testing.T) (*Server, DialOptions) {
	sectors := newMemory(diskSize)
	sectors.info.MinBlock = 512
	slow := newMemory(diskSize)
	slow.info.FastZero = false
	fixed := NewExport("fixed", "", newMemory(diskSize))
	fixed.ReadOnly = true
	s := startServer(t, ServerOptions{}, NewExport("disk", "", newMemory(diskSize)), NewExport("sectors", "", sectors), NewExport("slow", "", slow), fixed)
	return s, listen(t, s, "unix", ListenOptions{})
}

// TestValidation sends every kind of wrong request, each followed by a right one: the connection stays in step.
func TestValidation(t *testing.T) {
	_, o := startValidated(t)
	for _, c := range validations {
		t.Run(fmt.Sprintf("%s %s %#x %d+%d", c.export, commandName(c.command), c.flags, c.offset, c.length), func(t *testing.T) {
			o := o
			o.Export = c.export
			client := opened(t, o)
			if got := client.request(header(c.command, c.flags, c.offset, c.length)); got != c.want {
				t.Errorf("answered with %d, want %d", got, c.want)
			}
			if got := client.request(header(cmdRead, 0, 512, 512)); got != 0 {
				t.Errorf("the next request is answered with %d", got)
			}
		})
	}
}

func TestWireCodes(t *testing.T) {
	for _, c := range []struct {
		err            error
		command, flags uint16
		want           uint32
	}{
		{nil, cmdRead, 0, 0},
		{dataplane.ErrOutOfRange, cmdRead, 0, codeEINVAL},
		{dataplane.ErrOutOfRange, cmdTrim, 0, codeEINVAL},
		{dataplane.ErrOutOfRange, cmdWrite, 0, codeENOSPC},
		{dataplane.ErrOutOfRange, cmdWriteZeroes, 0, codeENOSPC},
		{dataplane.ErrUnaligned, cmdWrite, 0, codeEINVAL},
		{dataplane.ErrReadOnly, cmdWrite, 0, codeEPERM},
		{dataplane.ErrNotSupported, cmdWriteZeroes, flagFastZero, codeENOTSUP},
		{dataplane.ErrNotSupported, cmdWriteZeroes, 0, codeEINVAL},
		{dataplane.ErrNotSupported, cmdFlush, 0, codeEINVAL},
		{dataplane.ErrNoSpace, cmdWrite, 0, codeENOSPC},
		{dataplane.ErrClosed, cmdWrite, 0, codeESHUTDOWN},
		{syscall.EDQUOT, cmdWrite, 0, codeENOSPC},
		{syscall.EFBIG, cmdWrite, 0, codeENOSPC},
		{syscall.EROFS, cmdWrite, 0, codeEPERM},
		{syscall.ENOMEM, cmdRead, 0, codeEIO},
		{errors.New("anything"), cmdRead, 0, codeEIO},
	} {
		err := c.err
		if err != nil {
			err = fmt.Errorf("wrapped: %w", err)
		}
		if got := wireCode(err, c.command, c.flags); got != c.want {
			t.Errorf("%v of %s is %d, want %d", c.err, commandName(c.command), got, c.want)
		}
	}
}

func TestReplyErrors(t *testing.T) {
	for code, want := range map[uint32]error{
		codeEPERM: dataplane.ErrReadOnly, codeEIO: dataplane.ErrIO, codeENOMEM: dataplane.ErrIO, codeEINVAL: dataplane.ErrOutOfRange,
		codeEOVERFLOW: dataplane.ErrOutOfRange, codeENOSPC: dataplane.ErrNoSpace, codeENOTSUP: dataplane.ErrNotSupported,
		codeESHUTDOWN: dataplane.ErrDisconnected, 4711: dataplane.ErrIO,
	} {
		wantError(t, fmt.Errorf("wrapped: %w", &replyError{command: cmdRead, code: code}), want)
	}
}

func TestInPieces(t *testing.T) {
	var pieces []string
	note := func(p []byte, off int64) (int, error) {
		pieces = append(pieces, fmt.Sprintf("%d+%d", off, len(p)))
		return len(p), nil
	}
	if err := inPieces(make([]byte, 10), 100, 4, note); err != nil || fmt.Sprint(pieces) != "[100+4 104+4 108+2]" {
		t.Errorf("pieces %v, %v", pieces, err)
	}
	wantError(t, inPieces(make([]byte, 10), 0, 0, func(p []byte, _ int64) (int, error) { return len(p) - 1, nil }), dataplane.ErrIO)
	wantError(t, inPieces(make([]byte, 10), 0, 0, func([]byte, int64) (int, error) { return 0, dataplane.ErrNoSpace }), dataplane.ErrNoSpace)
}
