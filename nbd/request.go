package nbd

import (
	"fmt"
	"math"

	"github.com/cvold/cvold/dataplane"
	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// request is one request as it was read: refused with a code, or valid for the session's export.
type request struct {
	protocol.TransmissionRequestHeader
	refused uint32
	// buffer holds the payload of READ and WRITE; nil for the others and for refused ones.
	buffer *buffer
}

// rule is what the protocol says of a command ("Request types").
type rule struct {
	known bool
	// flags that the command knows beside FUA, which all know once it was offered ("Command flags").
	flags uint16
	// changes: refused on a read-only export.
	changes bool
	// ranged: has an offset and a length; otherwise both are zero.
	ranged bool
	// payload bytes go along with the request or its reply.
	payload bool
	// beyond answers a range past the end, tooLong a payload over the limit ("Error values").
	beyond, tooLong uint32
}

var rules = [...]rule{
	cmdRead:        {known: true, ranged: true, payload: true, beyond: codeEINVAL, tooLong: codeEOVERFLOW},
	cmdWrite:       {known: true, ranged: true, payload: true, changes: true, beyond: codeENOSPC, tooLong: codeEINVAL},
	cmdFlush:       {known: true},
	cmdTrim:        {known: true, ranged: true, changes: true, beyond: codeEINVAL},
	cmdWriteZeroes: {known: true, ranged: true, changes: true, beyond: codeENOSPC, flags: flagNoHole | flagFastZero},
}

// validate returns 0, or the code with which the request is refused before anything else happens.
func validate(h protocol.TransmissionRequestHeader, s *Session) uint32 {
	if int(h.Type) >= len(rules) || !rules[h.Type].known {
		return codeEINVAL
	}
	r := &rules[h.Type]
	switch {
	case h.CommandFlags&^r.allowed(s) != 0:
		return codeEINVAL
	case r.changes && s.has(canReadOnly):
		return codeEPERM
	case !r.ranged && (h.Offset != 0 || h.Length != 0):
		return codeEINVAL
	case !r.ranged:
		return 0
	case h.Offset > uint64(s.Size) || uint64(h.Length) > uint64(s.Size)-h.Offset:
		return r.beyond
	case r.payload && h.Length > s.MaxPayload:
		return r.tooLong
	case h.Offset%uint64(s.MinBlock) != 0 || h.Length%s.MinBlock != 0:
		return codeEINVAL
	}
	return 0
}

// allowed are the flags that a client may set on the command after what it was told.
func (r *rule) allowed(s *Session) uint16 {
	flags := r.flags
	if s.has(canFUA) {
		flags |= flagFUA
	}
	if !s.has(canFastZero) {
		flags &^= flagFastZero
	}
	return flags
}

// payloadSize is the number of payload bytes that the request moves, in either direction.
func (r *request) payloadSize() int {
	if r.refused == 0 && rules[r.Type].payload {
		return int(r.Length)
	}
	return 0
}

// carryOut does what a valid request asks of the device, FUA included.
func (x *served) carryOut(r request) error {
	off, n := int64(r.Offset), int64(r.Length)
	err := guard(commandName(r.Type), func() error {
		switch r.Type {
		case cmdRead:
			return inPieces(r.buffer.payload(int(n)), off, x.info.MaxBlock, x.device.ReadAt)
		case cmdWrite:
			return inPieces(r.buffer.payload(int(n)), off, x.info.MaxBlock, x.device.WriteAt)
		case cmdTrim:
			return x.device.Discard(off, n)
		case cmdWriteZeroes:
			return x.device.ZeroAt(off, n, dataplane.ZeroMode{
				MayUnmap: r.CommandFlags&flagNoHole == 0,
				FastOnly: r.CommandFlags&flagFastZero != 0,
			})
		}
		return nil
	})
	if err == nil && (r.Type == cmdFlush || r.CommandFlags&flagFUA != 0 && rules[r.Type].changes) {
		err = x.sync()
	}
	return err
}

// inPieces moves p at off through move, at most max bytes a call (0: no limit). A move that is short without an error is
// ErrIO: what it left in p is not of the device.
func inPieces(p []byte, off, max int64, move func(p []byte, off int64) (int, error)) error {
	if max <= 0 {
		max = math.MaxInt64
	}
	for len(p) > 0 {
		piece := p[:min(int64(len(p)), max)]
		n, err := move(piece, off)
		if err != nil {
			return err
		}
		if n != len(piece) {
			return fmt.Errorf("moved %d of %d bytes at %d: %w", n, len(piece), off, dataplane.ErrIO)
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}
