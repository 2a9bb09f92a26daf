package nbd

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/cvold/cvold/dataplane"
	"github.com/pojntfx/go-nbd/pkg/protocol"
)

const (
	// maxReplyPayload is the longest chunk that is read: a payload, or 2^20 descriptors, with what is around them.
	maxReplyPayload = maxPayload + 4096
	// maxPatches is how many parts of a read may have come without their neighbours: a server that splits finer, and sends
	// them in such an order, wants memory.
	maxPatches = 4096
	// keptDescriptors of one reply to BLOCK_STATUS; the rest is asked for again.
	keptDescriptors = 16384
)

// answer is what has come of a reply.
type answer struct {
	covered coverage // of a READ
	err     *replyError
	extents []dataplane.Extent // of a BLOCK_STATUS
}

// receive completes requests until the connection ends, and returns why.
func (l *link) receive() error {
	reader := bufio.NewReaderSize(l.conn, bufferedBytes)
	for {
		if err := l.receiveOne(reader); err != nil {
			return err
		}
	}
}

// receiveOne reads a simple reply or a chunk of another one.
func (l *link) receiveOne(reader *bufio.Reader) error {
	size := replySize
	if l.session.Extended {
		size = extendedSize
	}
	b, err := reader.Peek(size)
	if err != nil {
		return fmt.Errorf("reply: %w", err)
	}
	magic := binary.BigEndian.Uint32(b)
	switch {
	case l.session.Extended && magic == magicExtendedReply:
	case l.session.Structured && !l.session.Extended && magic == magicStructured:
		if b, err = reader.Peek(structuredSize); err != nil {
			return fmt.Errorf("reply: %w", err)
		}
	case !l.session.Extended && magic == protocol.TRANSMISSION_MAGIC_REPLY:
		reply := decodeReply((*[replySize]byte)(b))
		reader.Discard(replySize)
		return l.takeSimple(reader, reply)
	default:
		return fmt.Errorf("reply magic %#x: %w", magic, ErrProtocol)
	}
	chunk := decodeChunkHead(b, l.session.Extended)
	reader.Discard(len(b))
	s := l.find(chunk.cookie)
	switch {
	case s == nil:
		return fmt.Errorf("reply to a request %#x that is not in flight: %w", chunk.cookie, ErrProtocol)
	case chunk.length > maxReplyPayload:
		return fmt.Errorf("chunk of %d bytes: %w", chunk.length, ErrProtocol)
	case l.session.Extended && chunk.offset != s.call.offset:
		return fmt.Errorf("reply for offset %d to a request for %d: %w", chunk.offset, s.call.offset, ErrProtocol)
	}
	if err := s.takeChunk(reader, chunk); err != nil {
		return fmt.Errorf("chunk %d of a reply to %s: %w", chunk.kind, commandName(s.call.command), err)
	}
	return nil
}

// takeSimple ends a request. With structured replies a READ that succeeds has none.
func (l *link) takeSimple(reader *bufio.Reader, reply protocol.TransmissionReplyHeader) error {
	s := l.find(reply.Handle)
	switch {
	case s == nil:
		return fmt.Errorf("reply to a request %#x that is not in flight: %w", reply.Handle, ErrProtocol)
	case reply.Error != 0:
		return s.refused(&replyError{command: s.call.command, code: reply.Error})
	case l.session.Structured && (s.call.command == cmdRead || s.call.command == cmdBlockStatus):
		return fmt.Errorf("simple reply to %s: %w", commandName(s.call.command), ErrProtocol)
	case s.call.command == cmdRead:
		if _, err := io.ReadFull(reader, s.data); err != nil {
			return fmt.Errorf("read payload: %w", err)
		}
	}
	s.complete(nil)
	return nil
}

// refused ends a request with the server's error, which is one of the connection when the server leaves ("Terminating the
// transmission phase": the client MUST leave).
func (s *slot) refused(err *replyError) error {
	s.complete(err)
	if err.code == codeESHUTDOWN {
		return err
	}
	return nil
}

// takeChunk takes the payload of a chunk, and ends the request with the last one.
func (s *slot) takeChunk(reader *bufio.Reader, c chunkHead) error {
	var err error
	switch {
	case c.kind == chunkNone && c.length == 0 && c.flags&replyDone != 0:
	case c.kind == chunkData && c.length > dataOffsetSize && s.call.command == cmdRead:
		err = s.takeData(reader, c)
	case c.kind == chunkHole && c.length == holeSize && s.call.command == cmdRead:
		err = s.takeHole(reader)
	case (c.kind == chunkStatus) != s.link.session.Extended && (c.kind == chunkStatus || c.kind == chunkStatusExt) &&
		s.call.command == cmdBlockStatus && s.answer.extents == nil:
		err = s.takeStatus(reader, c)
	case c.kind&chunkError&(1<<15) != 0:
		err = s.takeError(reader, c)
	default:
		err = fmt.Errorf("%d bytes, flags %#x: %w", c.length, c.flags, ErrProtocol)
	}
	if err != nil || c.flags&replyDone == 0 {
		return err
	}
	return s.conclude()
}

// conclude ends a request whose last chunk has come. A success must have said everything.
func (s *slot) conclude() error {
	switch {
	case s.answer.err != nil:
		return s.refused(s.answer.err)
	case s.call.command == cmdRead && !s.answer.covered.whole(s.call.length):
		return fmt.Errorf("a part of the read never came: %w", ErrProtocol)
	case s.call.command == cmdBlockStatus && len(s.answer.extents) == 0:
		return fmt.Errorf("no descriptors: %w", ErrProtocol)
	}
	s.complete(nil)
	return nil
}

// place checks that n bytes at offset are of the read and did not come before, and returns their memory.
func (s *slot) place(offset, n uint64) ([]byte, error) {
	from := offset - s.call.offset
	if offset < s.call.offset || n == 0 || from > s.call.length || n > s.call.length-from {
		return nil, fmt.Errorf("%d bytes at %d in a read of %d at %d: %w", n, offset, s.call.length, s.call.offset, ErrProtocol)
	}
	if !s.answer.covered.add(from, from+n) {
		return nil, fmt.Errorf("%d bytes at %d came before, or in too many parts: %w", n, offset, ErrProtocol)
	}
	return s.data[from : from+n], nil
}

func (s *slot) takeData(reader *bufio.Reader, c chunkHead) error {
	b, err := reader.Peek(dataOffsetSize)
	if err != nil {
		return err
	}
	p, err := s.place(binary.BigEndian.Uint64(b), c.length-dataOffsetSize)
	if err != nil {
		return err
	}
	reader.Discard(dataOffsetSize)
	_, err = io.ReadFull(reader, p)
	return err
}

func (s *slot) takeHole(reader *bufio.Reader) error {
	b, err := reader.Peek(holeSize)
	if err != nil {
		return err
	}
	p, err := s.place(binary.BigEndian.Uint64(b), uint64(binary.BigEndian.Uint32(b[8:])))
	if err != nil {
		return err
	}
	reader.Discard(holeSize)
	clear(p)
	return nil
}

// takeStatus reads descriptors, and keeps those of the range that was asked about.
func (s *slot) takeStatus(reader *bufio.Reader, c chunkHead) error {
	extended := s.link.session.Extended
	before, each := uint64(4), uint64(8)
	if extended {
		before, each = 8, 16
	}
	if c.length <= before || (c.length-before)%each != 0 {
		return fmt.Errorf("%d bytes: %w", c.length, ErrProtocol)
	}
	count := (c.length - before) / each
	b, err := reader.Peek(int(before))
	if err != nil {
		return err
	}
	if id := binary.BigEndian.Uint32(b); id != s.link.session.contextID || extended && uint64(binary.BigEndian.Uint32(b[4:])) != count {
		return fmt.Errorf("context %d with %d descriptors: %w", id, count, ErrProtocol)
	}
	reader.Discard(int(before))
	at, end := s.call.offset, s.call.offset+s.call.length
	for range count {
		b, err := reader.Peek(int(each))
		if err != nil {
			return err
		}
		length, state := uint64(binary.BigEndian.Uint32(b)), uint64(binary.BigEndian.Uint32(b[4:]))
		if extended {
			length, state = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
		}
		reader.Discard(int(each))
		if length == 0 {
			return fmt.Errorf("descriptor of 0 bytes: %w", ErrProtocol)
		}
		length = min(length, end-at) // the last one may reach further
		if length > 0 && len(s.answer.extents) < keptDescriptors {
			s.answer.extents = append(s.answer.extents, believable(int64(at), int64(length), state))
		}
		at += length
	}
	return nil
}

// takeError keeps the first error of a reply, with the server's words.
func (s *slot) takeError(reader *bufio.Reader, c chunkHead) error {
	const fixed = 6
	if c.length < fixed {
		return fmt.Errorf("%d bytes: %w", c.length, ErrProtocol)
	}
	b, err := reader.Peek(fixed)
	if err != nil {
		return err
	}
	code, words := binary.BigEndian.Uint32(b), uint64(binary.BigEndian.Uint16(b[4:]))
	reader.Discard(fixed)
	if code == 0 || words > c.length-fixed || words > maxString {
		return fmt.Errorf("error %d with %d bytes of %d: %w", code, words, c.length, ErrProtocol)
	}
	text := make([]byte, words)
	if _, err := io.ReadFull(reader, text); err != nil {
		return err
	}
	if _, err := reader.Discard(int(c.length - fixed - words)); err != nil {
		return err
	}
	if s.answer.err == nil {
		s.answer.err = &replyError{command: s.call.command, code: code, text: string(text)}
	}
	return nil
}

// coverage is what has come of a read, as disjoint ascending patches: nothing of it may come twice, and nothing be missing.
type coverage struct{ patches [][2]uint64 }

// add reports false when a part came before, or too many patches lie apart.
func (c *coverage) add(from, to uint64) bool {
	i, _ := slices.BinarySearchFunc(c.patches, from, func(p [2]uint64, from uint64) int {
		if p[0] <= from {
			return -1
		}
		return 1
	}) // patches before i begin at or before from
	if i > 0 && c.patches[i-1][1] > from || i < len(c.patches) && c.patches[i][0] < to {
		return false
	}
	joinsLeft := i > 0 && c.patches[i-1][1] == from
	joinsRight := i < len(c.patches) && c.patches[i][0] == to
	switch {
	case joinsLeft && joinsRight:
		c.patches[i-1][1] = c.patches[i][1]
		c.patches = slices.Delete(c.patches, i, i+1)
	case joinsLeft:
		c.patches[i-1][1] = to
	case joinsRight:
		c.patches[i][0] = from
	case len(c.patches) == maxPatches:
		return false
	default:
		c.patches = slices.Insert(c.patches, i, [2]uint64{from, to})
	}
	return true
}

func (c *coverage) whole(length uint64) bool {
	return length == 0 || len(c.patches) == 1 && c.patches[0] == [2]uint64{0, length}
}
