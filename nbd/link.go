package nbd

import (
	"bufio"
	"net"
	"sync"
	"time"
)

// link is the client's end of one connection in transmission. Its receiver is the only one that touches the memory of a
// read under way, and the only one that completes requests; so when a call has returned nobody writes to its memory.
type link struct {
	conn    net.Conn // with TLS the secured one
	raw     net.Conn // the socket below it
	session Session
	slots   []*slot
	sending sync.Mutex
	header  []byte        // under sending
	vector  [2][]byte     // under sending
	out     *bufio.Writer // under sending; with TLS, so that a header does not become a record of its own
	records *records      // below the secured conn; nil without TLS

	mu   sync.Mutex
	dead error // the receiver has ended
}

// slot is the right to have one request in flight. Its number is in the low half of the cookie, and in the high half how
// often it was used: a reply that comes twice or too late finds no request.
type slot struct {
	link   *link
	number uint32
	timer  *time.Timer // of the request's deadline; nil without
	done   chan error  // of the request, room for one
	uses   uint32      // under link.mu
	busy   bool        // under link.mu: in flight
	call   head        // what is in flight
	data   []byte      // what a READ fills
	answer answer      // the receiver's, until done
}

func newLink(c negotiated, requests int) *link {
	l := &link{conn: c.conn, raw: c.raw, session: c.session}
	if c.conn != c.raw {
		l.out = bufio.NewWriterSize(c.conn, bufferedBytes)
		l.records = recordsOf(c.conn)
	}
	for n := range requests {
		l.slots = append(l.slots, &slot{link: l, number: uint32(n), done: make(chan error, 1)})
	}
	return l
}

// begin puts a request into the slot and gives it its cookie.
func (s *slot) begin(h *head, data []byte) error {
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	if s.link.dead != nil {
		return s.link.dead
	}
	s.uses++
	h.cookie = uint64(s.uses)<<32 | uint64(s.number)
	s.busy, s.call, s.data, s.answer = true, *h, data, answer{}
	return nil
}

// send writes a request, with its payload if it is a WRITE, in one piece where the socket takes it.
func (l *link) send(h head, payload []byte) error {
	l.sending.Lock()
	defer l.sending.Unlock()
	if h.command != cmdWrite {
		l.header = appendHead(l.header[:0], h, l.session.Extended)
		_, err := l.conn.Write(l.header)
		return err
	}
	if l.session.Extended {
		h.flags |= flagPayload
	}
	l.header = appendHead(l.header[:0], h, l.session.Extended)
	if l.out != nil {
		return l.records.together(func() error {
			l.out.Write(l.header) // an error stays until Flush
			l.out.Write(payload)
			return l.out.Flush()
		})
	}
	l.vector = [2][]byte{l.header, payload}
	buffers := net.Buffers(l.vector[:])
	_, err := buffers.WriteTo(l.conn)
	l.vector = [2][]byte{}
	return err
}

// find returns the slot whose request in flight has the cookie; nil: there is none. Only the receiver ends it.
func (l *link) find(cookie uint64) *slot {
	l.mu.Lock()
	defer l.mu.Unlock()
	number, uses := uint32(cookie), uint32(cookie>>32)
	if int64(number) >= int64(len(l.slots)) {
		return nil
	}
	s := l.slots[number]
	if !s.busy || s.uses != uses {
		return nil
	}
	return s
}

// complete tells the caller how the request went.
func (s *slot) complete(err error) {
	s.link.mu.Lock()
	s.busy = false
	s.link.mu.Unlock()
	s.done <- err
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
