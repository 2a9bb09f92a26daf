package api

import (
	"fmt"
	"net"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Limits of connections. Every connection costs a descriptor and a goroutine, also while it says nothing, so those who may
// only read get few, and can never take those of the admins.
const (
	maxAdminConns = 512
	maxOtherConns = 64
)

// maxGroups bounds the supplementary groups read of a peer: NGROUPS_MAX of Linux.
const maxGroups = 65536

// identity is who made a connection.
type identity struct {
	caller Caller
	// known is false where the kernel did not say, and then nothing is allowed.
	known bool
	// loopback is nil but for connections through TCP.
	loopback *loopback
}

// unixCaller is who connected to the unix socket.
func (j judge) unixCaller(c net.Conn) identity {
	caller, known := j.peerCaller(c)
	return identity{caller: caller, known: known}
}

// peerCaller asks the kernel who connected; false for what is no unix socket. The credentials are those of the moment of
// connect(2) (unix(7), SO_PEERCRED and SO_PEERGROUPS).
func (j judge) peerCaller(c net.Conn) (Caller, bool) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return Caller{}, false
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return Caller{}, false
	}
	var cred *unix.Ucred
	var credErr error
	var groups []uint32
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		groups, _ = peerGroups(fd) // without them only the primary group counts
	})
	if err != nil || credErr != nil {
		return Caller{}, false
	}
	return j.caller(cred.Uid, cred.Gid, groups), true
}

// peerGroups reads SO_PEERGROUPS, which x/sys has no call for. The kernel answers ERANGE with the size that it needs.
func peerGroups(fd uintptr) ([]uint32, error) {
	groups := make([]uint32, 64)
	for {
		size := uint32(len(groups)) * 4
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch n := int(size / 4); {
		case errno == 0:
			return groups[:n], nil
		case errno == syscall.ERANGE && n > len(groups) && n <= maxGroups:
			groups = make([]uint32, n)
		default:
			return nil, fmt.Errorf("groups of the peer: %w", errno)
		}
	}
}

// listener accepts connections, each with its caller, and refuses those past the limits by closing them.
type listener struct {
	net.Listener
	identify func(net.Conn) identity

	mu            sync.Mutex
	admin, others int
}

// conn is a connection whose caller is known from its first moment.
type conn struct {
	net.Conn
	identity
	once sync.Once
	done func()
}

// Accept returns the next connection within the limits.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		who := l.identify(c)
		if l.take(who.caller.Admin) {
			return &conn{Conn: c, identity: who, done: func() { l.give(who.caller.Admin) }}, nil
		}
		c.Close()
	}
}

// take counts a connection, if there is room.
func (l *listener) take(admin bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	count, limit := l.counter(admin)
	if *count >= limit {
		return false
	}
	*count++
	return true
}

func (l *listener) give(admin bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	count, _ := l.counter(admin)
	*count--
}

func (l *listener) counter(admin bool) (count *int, limit int) {
	if admin {
		return &l.admin, maxAdminConns
	}
	return &l.others, maxOtherConns
}

// Close closes the connection and gives its place back.
func (c *conn) Close() error {
	c.once.Do(c.done)
	return c.Conn.Close()
}
