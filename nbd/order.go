package nbd

import (
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// order has changes of an export that overlap carried out one after another, in the order of their coming.
//
// The kernel gives a connection up when a reply takes too long, sends the request again on another one, and goes on when that
// is answered. The first one may still be under way, or wait in the socket: it must not land after what was written to the
// same place since. What is under way is waited for; what is begun on a connection that was given up is not carried
// out, and the order of the two steps (begin, then look at the connection) leaves no gap between them.
type order struct {
	mu    sync.Mutex
	spans []*span // under way or waiting, the oldest first
}

// span is the range of one change.
type span struct {
	off, end uint64
	over     chan struct{} // closed at the end
}

// begin waits until no older change overlaps the range.
func (o *order) begin(off, n uint64) *span {
	s := &span{off: off, end: off + n, over: make(chan struct{})}
	var older []*span
	o.mu.Lock()
	for _, one := range o.spans {
		if one.off < s.end && s.off < one.end {
			older = append(older, one)
		}
	}
	o.spans = append(o.spans, s)
	o.mu.Unlock()
	for _, one := range older {
		<-one.over
	}
	return s
}

func (o *order) end(s *span) {
	o.mu.Lock()
	defer o.mu.Unlock()
	i := slices.Index(o.spans, s)
	o.spans = slices.Delete(o.spans, i, i+1)
	close(s.over)
}

// hungUp: the other end of a socket is closed, or was shut down.
func hungUp(c syscall.Conn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(poll, 0)
		gone = err != nil && err != unix.EINTR || n > 0 && poll[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
	})
	return gone || err != nil
}
