package nbd

import (
	"bytes"
	"encoding/binary"

	"github.com/cvold/cvold/dataplane"
)

const (
	// holeGrain is the grid on which a read is searched for zeroes: finer ones cost more heads than they save bytes.
	holeGrain = 32 << 10
	// maxFragments of one reply; what follows them goes as data.
	maxFragments = 64
	// headRoom is the longest head of a chunk with all that is not payload of a read.
	headRoom = extendedSize + holeSize
)

// outcome is how a request went, and what its reply carries beside the buffer.
type outcome struct {
	refusal
	extents []dataplane.Extent // of a BLOCK_STATUS
}

// codeWords are what people are told of an error of the device. Its own words may tell of paths, so they stay here.
var codeWords = map[uint32]string{
	codeEPERM:     "not permitted on this export",
	codeEIO:       "the device failed",
	codeENOMEM:    "the server has no memory for this",
	codeEINVAL:    "the device refused the request",
	codeENOSPC:    "the device has no space left",
	codeENOTSUP:   "the device is no faster at this than at writing zeroes",
	codeESHUTDOWN: "the export is being removed",
}

// composer makes the reply to one request after another, in pieces that stay good until the next one.
type composer struct {
	session *Session
	heads   []byte
	parts   [][]byte
}

// compose returns the pieces of the reply: a simple one, or chunks.
func (c *composer) compose(r *request, o outcome) [][]byte {
	c.heads, c.parts = c.heads[:0], c.parts[:0]
	switch {
	case !c.session.Structured:
		c.simple(r, o.code)
	case o.code != 0:
		c.fail(r, o.refusal)
	case r.command == cmdRead && r.length > 0:
		c.read(r)
	case r.command == cmdBlockStatus && !r.unanswered:
		c.status(r, o.extents)
	case r.command == cmdRead || r.command == cmdBlockStatus || c.session.Extended:
		c.chunk(r, chunkNone, nil)
	default:
		c.simple(r, 0)
	}
	return c.parts
}

// simple makes a "Simple reply message".
func (c *composer) simple(r *request, code uint32) {
	if code == 0 && r.command == cmdRead && r.buffer != nil {
		message := r.buffer.framed(replySize, int(r.length))
		encodeReply(message, code, r.cookie)
		c.parts = append(c.parts, message)
		return
	}
	c.heads = append(c.heads, make([]byte, replySize)...)
	encodeReply(c.heads, code, r.cookie)
	c.parts = append(c.parts, c.heads)
}

// chunk makes a last chunk that is not of the buffer.
func (c *composer) chunk(r *request, kind uint16, payload []byte) {
	c.heads = c.appendHead(c.heads, r, kind, replyDone, len(payload))
	c.parts = append(c.parts, c.heads)
	if len(payload) > 0 {
		c.parts = append(c.parts, payload)
	}
}

func (c *composer) appendHead(b []byte, r *request, kind, flags uint16, length int) []byte {
	h := chunkHead{flags: flags, kind: kind, cookie: r.cookie, offset: r.offset, length: uint64(length)}
	return appendChunkHead(b, h, c.session.Extended)
}

// fail makes an error chunk ("NBD_REPLY_TYPE_ERROR").
func (c *composer) fail(r *request, why refusal) {
	payload := binary.BigEndian.AppendUint32(make([]byte, 0, 128), why.code)
	payload = binary.BigEndian.AppendUint16(payload, uint16(len(why.why)))
	c.chunk(r, chunkError, append(payload, why.why...))
}

func (c *composer) status(r *request, extents []dataplane.Extent) {
	kind, size := chunkStatus, 8
	if c.session.Extended {
		kind, size = chunkStatusExt, 16
	}
	c.chunk(r, kind, appendStatus(make([]byte, 0, 8+size*len(extents)), extents, c.session.Extended))
}

// read makes content chunks: of what is zero only its length goes out. All of it has been read, so no error can follow,
// and the last content chunk is the last chunk.
func (c *composer) read(r *request) {
	data := r.buffer.payload(int(r.length))
	whole := r.flags&flagDF != 0
	if cap(c.heads) < maxFragments*headRoom {
		c.heads = make([]byte, 0, maxFragments*headRoom) // parts point into it, so it must not grow
	}
	for at, fragment := 0, 1; at < len(data); fragment++ {
		n, zero := len(data)-at, false
		if !whole && fragment < maxFragments {
			n, zero = stretch(data[at:], r.offset+uint64(at))
		}
		flags := uint16(0)
		if at+n == len(data) {
			flags = replyDone
		}
		c.content(r, at, n, zero, flags)
		at += n
	}
}

// content makes one content chunk. A single one has its head in the buffer, right before the data.
func (c *composer) content(r *request, at, n int, zero bool, flags uint16) {
	from := len(c.heads)
	if zero {
		c.heads = c.appendHead(c.heads, r, chunkHole, flags, holeSize)
		c.heads = binary.BigEndian.AppendUint64(c.heads, r.offset+uint64(at))
		c.heads = binary.BigEndian.AppendUint32(c.heads, uint32(n))
		c.parts = append(c.parts, c.heads[from:])
		return
	}
	c.heads = c.appendHead(c.heads, r, chunkData, flags, dataOffsetSize+n)
	c.heads = binary.BigEndian.AppendUint64(c.heads, r.offset+uint64(at))
	head := c.heads[from:]
	if at == 0 {
		message := r.buffer.framed(len(head), n)
		copy(message, head)
		c.parts = append(c.parts, message)
		return
	}
	c.parts = append(c.parts, head, r.buffer.payload(at + n)[at:])
}

// stretch is the length of what data begins with, zeroes or not, cut at multiples of holeGrain of the export.
func stretch(data []byte, offset uint64) (n int, zero bool) {
	n = min(len(data), int(holeGrain-offset%holeGrain))
	zero = isZero(data[:n])
	for n < len(data) {
		next := min(len(data)-n, holeGrain)
		if isZero(data[n:n+next]) != zero {
			break
		}
		n += next
	}
	return n, zero
}

// zeroGrain is what isZero compares with; it is never written to.
var zeroGrain [holeGrain]byte

// isZero: data, of at most holeGrain bytes, is all zeroes.
func isZero(data []byte) bool {
	return data[0] == 0 && bytes.Equal(data, zeroGrain[:len(data)])
}

// appendSent appends the head of a reply to a READ whose payload is not in a buffer. As it may yet fail, its chunk is not the
// last one.
func (c *composer) appendSent(b []byte, r *request) []byte {
	if !c.session.Structured {
		b = append(b, make([]byte, replySize)...)
		encodeReply(b[len(b)-replySize:], 0, r.cookie)
		return b
	}
	b = c.appendHead(b, r, chunkData, 0, dataOffsetSize+int(r.length))
	return binary.BigEndian.AppendUint64(b, r.offset)
}

// conclude is the last chunk of such a reply.
func (c *composer) conclude(r *request, code uint32) [][]byte {
	c.heads, c.parts = c.heads[:0], c.parts[:0]
	if code != 0 {
		c.fail(r, refusal{code, codeWords[code]})
	} else {
		c.chunk(r, chunkNone, nil)
	}
	return c.parts
}
