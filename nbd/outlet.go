package nbd

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// heldBytes of short replies leave together at most.
	heldBytes = 64 << 10
	// shortReply is the longest reply that is copied to leave with others.
	shortReply = 16 << 10
)

// outlet sends the replies of a connection, one at a time. A client that does not take them runs into a deadline.
type outlet struct {
	conn    net.Conn // with TLS the secured one
	records *records // below it; nil without TLS
	raw     net.Conn
	stall   time.Duration
	drain   time.Duration // for what is sent from a file once the export is removed

	mu       sync.Mutex
	composer composer
	held     []byte    // short replies that have not left
	all      [][]byte  // they, and a reply that leaves with them
	armed    time.Time // when the write deadline was set

	// sending and hastened: what is sent from a file is inside the export's fence, which must not wait for a client.
	sending, hastened atomic.Bool
}

// reply sends the reply to r, and with it those that are held. With hold a short one is copied and stays, until there is one
// without, or flush.
func (o *outlet) reply(r *request, how outcome, hold bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	parts := o.composer.compose(r, how)
	size := len(o.held)
	for _, p := range parts {
		size += len(p)
	}
	if hold && size-len(o.held) <= shortReply && size <= heldBytes {
		for _, p := range parts {
			o.held = append(o.held, p...)
		}
		return nil
	}
	if len(o.held) > 0 {
		o.all = append(append(o.all[:0], o.held), parts...)
		o.held, parts = o.held[:0], o.all
	}
	return o.records.together(func() error { return o.write(parts, size) })
}

// flush sends what is held.
func (o *outlet) flush() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.flushLocked()
}

func (o *outlet) flushLocked() error {
	if len(o.held) == 0 {
		return nil
	}
	held := o.held
	o.held = o.held[:0]
	if err := o.arm(); err != nil {
		return err
	}
	_, err := o.conn.Write(held)
	return err
}

// write sends parts, in one write if that cannot take long.
func (o *outlet) write(parts [][]byte, size int) error {
	if size <= 2*stallPiece && len(parts) > 1 {
		if err := o.arm(); err != nil {
			return err
		}
		buffers := net.Buffers(parts)
		_, err := buffers.WriteTo(o.conn)
		return err
	}
	for _, part := range parts {
		for len(part) > 0 {
			if err := o.arm(); err != nil {
				return err
			}
			piece := part
			if len(part) > 2*stallPiece {
				piece = part[:stallPiece]
			}
			n, err := o.conn.Write(piece)
			if err != nil {
				return err
			}
			part = part[n:]
		}
	}
	return nil
}

// arm gives the client at least three quarters of the stall time-out for the next write.
func (o *outlet) arm() error {
	now := time.Now()
	if now.Sub(o.armed) < o.stall/4 {
		return nil
	}
	o.armed = now
	return o.raw.SetWriteDeadline(now.Add(o.stall))
}

// hasten gives a client that a file is being sent to a short time to take it.
func (o *outlet) hasten() {
	o.hastened.Store(true)
	if o.sending.Load() {
		_ = o.raw.SetWriteDeadline(time.Now().Add(o.drain))
	}
}
