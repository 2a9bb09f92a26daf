package nbd

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// unixSocketBytes is the send buffer of a unix socket: a reply of the usual size leaves in one go, and the sender turns
// to the next request while the receiver copies. More brings nothing, and is what a client that does not read costs the
// kernel. TCP grows its own buffers, and stops doing so when told a size.
const unixSocketBytes = 2 << 20

// tuneSocket enlarges a unix socket's send buffer, past the system's limit where the process may. Go sets TCP_NODELAY
// by itself ("Protocol phases": both ends SHOULD). Failures cost speed only.
func tuneSocket(conn net.Conn) {
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) { enlarge(int(fd)) })
}

// enlarge sets the send buffer of a unix socket.
func enlarge(fd int) {
	if unix.SetsockoptInt(fd, syscall.SOL_SOCKET, unix.SO_SNDBUFFORCE, unixSocketBytes) != nil {
		unix.SetsockoptInt(fd, syscall.SOL_SOCKET, unix.SO_SNDBUF, unixSocketBytes)
	}
}
