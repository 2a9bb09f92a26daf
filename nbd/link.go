package nbd

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// link is the client's end of one connection in transmission. Its receiver is the only one that touches the memory of a
// read under way, and the only one that completes requests; so when a call has returned nobody writes to its memory.
type link struct {
	conn    net.Conn // with TLS the secured one
	raw     net.Conn // the socket below it
	slots   []*slot
	sending sync.Mutex
	header  [requestSize]byte // under sending
	vector  [2][]byte         // under sending
	out     *bufio.Writer     // under sending; with TLS, so that a header does not become a record of its own

	mu   sync.Mutex
	dead error // the receiver has ended
}

// slot is the right to have one request in flight. Its number is in the low half of the cookie, and in the high half how
// often it was used: a reply that comes twice or too late finds no request.
type slot struct {
	link   *link
	number uint32
	timer  *time.Timer                        // of the request's deadline; nil without
	done   chan error                         // of the request, room for one
	uses   uint32                             // under link.mu
	busy   bool                               // under link.mu: in flight
	call   protocol.TransmissionRequestHeader // under link.mu
	data   []byte                             // under link.mu: what a READ fills
}

func newLink(c negotiated, requests int) *link {
	l := &link{conn: c.conn, raw: c.raw}
	if c.conn != c.raw {
		l.out = bufio.NewWriterSize(c.conn, bufferedBytes)
	}
	for n := range requests {
		l.slots = append(l.slots, &slot{link: l, number: uint32(n), done: make(chan error, 1)})
	}
	return l
}

// begin puts a request into the slot and returns its cookie.
func (s *slot) begin(h protocol.TransmissionRequestHeader, data []byte) (uint64, error) {
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	if s.link.dead != nil {
		return 0, s.link.dead
	}
	s.uses++
	s.busy, s.call, s.data = true, h, data
	return uint64(s.uses)<<32 | uint64(s.number), nil
}

// send writes a request, with its payload if it is a WRITE, in one piece where the socket takes it.
func (l *link) send(h protocol.TransmissionRequestHeader, payload []byte) error {
	l.sending.Lock()
	defer l.sending.Unlock()
	encodeRequest(&l.header, h)
	if h.Type != cmdWrite {
		_, err := l.conn.Write(l.header[:])
		return err
	}
	if l.out != nil {
		l.out.Write(l.header[:]) // an error stays until Flush
		l.out.Write(payload)
		return l.out.Flush()
	}
	l.vector = [2][]byte{l.header[:], payload}
	buffers := net.Buffers(l.vector[:])
	_, err := buffers.WriteTo(l.conn)
	l.vector = [2][]byte{}
	return err
}

// receive completes requests until the connection ends, and returns why.
func (l *link) receive() error {
	reader := bufio.NewReaderSize(l.conn, bufferedBytes)
	var b [replySize]byte
	for {
		if _, err := io.ReadFull(reader, b[:]); err != nil {
			return fmt.Errorf("reply: %w", err)
		}
		reply := decodeReply(&b)
		if reply.ReplyMagic != protocol.TRANSMISSION_MAGIC_REPLY {
			return fmt.Errorf("reply magic %#x: %w", reply.ReplyMagic, ErrProtocol)
		}
		s, command, data := l.claim(reply.Handle)
		if s == nil {
			return fmt.Errorf("reply to a request %#x that is not in flight: %w", reply.Handle, ErrProtocol)
		}
		if err := s.complete(reader, command, reply.Error, data); err != nil {
			return err
		}
	}
}

// claim takes the request with the cookie out of flight; nil: there is none.
func (l *link) claim(cookie uint64) (s *slot, command uint16, data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	number, uses := uint32(cookie), uint32(cookie>>32)
	if int64(number) >= int64(len(l.slots)) {
		return nil, 0, nil
	}
	s = l.slots[number]
	if !s.busy || s.uses != uses {
		return nil, 0, nil
	}
	s.busy = false
	return s, s.call.Type, s.data
}

// complete tells the caller how the request went. An error is one of the connection.
func (s *slot) complete(reader io.Reader, command uint16, code uint32, data []byte) error {
	if code != 0 {
		err := &replyError{command: command, code: code}
		s.done <- err
		if code == codeESHUTDOWN {
			return err // the client MUST leave ("Terminating the transmission phase")
		}
		return nil
	}
	if command == cmdRead {
		if _, err := io.ReadFull(reader, data); err != nil {
			s.reopen()
			return fmt.Errorf("read payload: %w", err)
		}
	}
	s.done <- nil
	return nil
}

// reopen leaves the request to bury, which knows why the connection ended.
func (s *slot) reopen() {
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	s.busy = true
}

// bury fails what is in flight and all that comes later. The receiver has ended.
func (l *link) bury(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = err
	for _, s := range l.slots {
		if s.busy {
			s.busy = false
			s.done <- err
		}
	}
}
