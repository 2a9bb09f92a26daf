package nbd

import (
	"crypto/tls"
	"net"
	"sync"
)

const (
	// recordsBytes is how much of a secured connection goes by one system call: crypto/tls makes one for each record.
	recordsBytes = 256 << 10
	// recordBytes has room for the largest record; as much is read from a connection that has little to say.
	recordBytes = 17 << 10
)

// recordsBuffers are for connections that have much to say just now: the others hold none.
var recordsBuffers = sync.Pool{New: func() any { return new([recordsBytes]byte) }}

// records is the socket below a secured connection. It reads ahead, and what is written in a call of gather leaves together.
// As with every net.Conn of crypto/tls, one goroutine reads at a time.
type records struct {
	net.Conn

	small []byte              // what is read into as a rule
	large *[recordsBytes]byte // and after a read that filled what it was given; else nil
	ahead []byte              // what was read, and not taken yet
	full  bool                // the last read was such a one

	mu     sync.Mutex
	gather *[recordsBytes]byte // in a call of together; else nil
	kept   int                 // bytes in it
	broken error               // of a write: what comes after it cannot be understood
}

// recordsOf returns the socket below a secured connection; nil: it is not secured.
func recordsOf(conn net.Conn) *records {
	if secured, ok := conn.(*tls.Conn); ok {
		if c, ok := secured.NetConn().(*records); ok {
			return c
		}
	}
	return nil
}

// Read reads what has come, and as much of it at once as there is room for.
func (c *records) Read(p []byte) (int, error) {
	if len(c.ahead) == 0 {
		room := c.room()
		n, err := c.Conn.Read(room)
		if n <= 0 {
			return 0, err
		}
		c.ahead, c.full = room[:n], n == len(room)
	}
	n := copy(p, c.ahead)
	c.ahead = c.ahead[n:]
	return n, nil
}

// room is what is read into next: nothing is left of what was read before.
func (c *records) room() []byte {
	switch {
	case c.full && c.large == nil:
		c.large = recordsBuffers.Get().(*[recordsBytes]byte)
	case !c.full && c.large != nil:
		recordsBuffers.Put(c.large)
		c.large = nil
	}
	if c.large != nil {
		return c.large[:]
	}
	if c.small == nil {
		c.small = make([]byte, recordBytes)
	}
	return c.small
}

// Write keeps p inside a call of together; what becomes of it is a later write's error, or together's.
func (c *records) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gather == nil {
		return c.send(p)
	}
	if c.kept+len(p) > recordsBytes {
		if err := c.flush(); err != nil {
			return 0, err
		}
	}
	if c.broken != nil || len(p) > recordsBytes {
		return c.send(p)
	}
	c.kept += copy(c.gather[c.kept:], p)
	return len(p), nil
}

// together runs write, which writes to the secured connection; all of that has left when it returns. Calls do not overlap.
// Without a secured connection, when c is nil, it does nothing else.
func (c *records) together(write func() error) error {
	if c == nil {
		return write()
	}
	c.mu.Lock()
	c.gather = recordsBuffers.Get().(*[recordsBytes]byte)
	c.mu.Unlock()
	err := write()
	c.mu.Lock()
	defer c.mu.Unlock()
	if left := c.flush(); err == nil {
		err = left
	}
	recordsBuffers.Put(c.gather)
	c.gather = nil
	return err
}

func (c *records) flush() error {
	_, err := c.send(c.gather[:c.kept])
	c.kept = 0
	return err
}

func (c *records) send(p []byte) (n int, err error) {
	if c.broken == nil && len(p) > 0 {
		n, c.broken = c.Conn.Write(p)
	}
	return n, c.broken
}
