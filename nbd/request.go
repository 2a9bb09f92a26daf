package nbd

import (
	"fmt"
	"math"

	"github.com/cvold/cvold/dataplane"
)

// request is one request as it was read: refused, or valid for the export of its connection.
type request struct {
	head
	refused refusal
	// buffer holds the payload of READ and WRITE, and is scratch for CACHE; nil for the others and for refused ones.
	buffer *buffer
	// sent: the payload of a READ goes from the device's file to the socket, past any buffer.
	sent bool
	// written is how much of a WRITE was carried out while it came, and failed why no more of it is.
	written int
	failed  error
	// unanswered: a BLOCK_STATUS whose payload names no metadata context.
	unanswered bool
}

// refusal is the code, and the words for people, with which a request is answered before anything else happens. Code 0
// is none.
type refusal struct {
	code uint32
	why  string
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
	// bounded: its length may not exceed the largest payload.
	bounded bool
	// beyond answers a range past the end, tooLong a length over the limit ("Error values").
	beyond, tooLong uint32
}

var rules = [...]rule{
	cmdRead:        {known: true, ranged: true, bounded: true, beyond: codeEINVAL, tooLong: codeEOVERFLOW, flags: flagDF},
	cmdWrite:       {known: true, ranged: true, bounded: true, changes: true, beyond: codeENOSPC, tooLong: codeEINVAL, flags: flagPayload},
	cmdFlush:       {known: true},
	cmdTrim:        {known: true, ranged: true, changes: true, beyond: codeEINVAL},
	cmdCache:       {known: true, ranged: true, bounded: true, beyond: codeEINVAL, tooLong: codeEOVERFLOW},
	cmdWriteZeroes: {known: true, ranged: true, changes: true, beyond: codeENOSPC, flags: flagNoHole | flagFastZero},
	cmdBlockStatus: {known: true, ranged: true, beyond: codeEINVAL, flags: flagReqOne | flagPayload},
}

// validate says whether and how the request is refused.
func validate(h head, s *Session) refusal {
	if int(h.command) >= len(rules) || !rules[h.command].known {
		return refusal{codeEINVAL, "the command is not known"}
	}
	r := &rules[h.command]
	switch {
	case h.flags&^r.allowed(h.command, s) != 0:
		return refusal{codeEINVAL, "a flag does not belong to the command, or was not offered"}
	case s.Extended && h.command == cmdWrite && h.flags&flagPayload == 0:
		return refusal{codeEINVAL, "with extended headers a write needs NBD_CMD_FLAG_PAYLOAD_LEN"}
	case h.command == cmdBlockStatus && !s.Allocation:
		return refusal{codeEINVAL, "no metadata context was selected"}
	case r.changes && s.has(canReadOnly):
		return refusal{codeEPERM, "the export is read-only"}
	case !r.ranged && (h.offset != 0 || h.length != 0):
		return refusal{codeEINVAL, "the command has neither offset nor length"}
	case !r.ranged:
		return refusal{}
	}
	return r.validateRange(h, s)
}

func (r *rule) validateRange(h head, s *Session) refusal {
	switch {
	case h.offset > uint64(s.Size) || h.length > uint64(s.Size)-h.offset:
		return refusal{r.beyond, "the range reaches past the end of the export"}
	case r.bounded && h.length > uint64(s.MaxPayload):
		return refusal{r.tooLong, "the length exceeds the maximum payload size"}
	case h.offset%uint64(s.MinBlock) != 0 || h.length%uint64(s.MinBlock) != 0:
		return refusal{codeEINVAL, "the range is not aligned to the minimum block size"}
	case h.command == cmdBlockStatus && h.length == 0:
		return refusal{codeEINVAL, "the status of no bytes was asked for"}
	}
	return refusal{}
}

// allowed are the flags that a client may set on the command after what it was told.
func (r *rule) allowed(command uint16, s *Session) uint16 {
	flags := r.flags
	if s.has(canFUA) {
		flags |= flagFUA
	}
	if !s.has(canFastZero) {
		flags &^= flagFastZero
	}
	if !s.has(canDF) {
		flags &^= flagDF
	}
	if !s.Extended || command == cmdBlockStatus && !s.has(canStatusPayload) {
		flags &^= flagPayload
	}
	return flags
}

// follows is the number of bytes that follow the request's head ("Request message").
func (h head) follows(extended bool) uint64 {
	if extended && h.flags&flagPayload != 0 || !extended && h.command == cmdWrite {
		return h.length
	}
	return 0
}

// room is the size of the buffer that the request needs.
func (r *request) room() int {
	switch {
	case r.refused.code != 0, r.sent:
		return 0
	case r.command == cmdRead || r.command == cmdWrite:
		return int(r.length)
	case r.command == cmdCache:
		return int(min(r.length, cachePiece))
	}
	return 0
}

// carryOut does what a valid request asks of the device, FUA included. BLOCK_STATUS is done by status.
func (x *served) carryOut(r *request) error {
	off, n := int64(r.offset), int64(r.length)
	err := guard(commandName(r.command), func() error {
		switch r.command {
		case cmdRead:
			return inPieces(r.buffer.payload(int(n)), off, x.info.MaxBlock, x.device.ReadAt)
		case cmdWrite:
			return x.write(r, int(n))
		case cmdTrim:
			return x.device.Discard(off, n)
		case cmdCache:
			return x.cache(r.buffer, off, n)
		case cmdWriteZeroes:
			return x.device.ZeroAt(off, n, dataplane.ZeroMode{
				MayUnmap: r.flags&flagNoHole == 0,
				FastOnly: r.flags&flagFastZero != 0,
			})
		}
		return nil
	})
	if err == nil && (r.command == cmdFlush || r.flags&flagFUA != 0 && rules[r.command].changes) {
		err = x.sync()
	}
	return err
}

// cache reads the range, so that what caches below the device has it (NBD_CMD_CACHE).
func (x *served) cache(b *buffer, off, n int64) error {
	if x.info.Medium || n == 0 {
		return nil // nothing below would keep it
	}
	for n > 0 {
		piece := min(n, cachePiece)
		if err := inPieces(b.payload(int(piece)), off, x.info.MaxBlock, x.device.ReadAt); err != nil {
			return err
		}
		off, n = off+piece, n-piece
	}
	return nil
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
