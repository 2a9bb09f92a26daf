package api

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// tcpEstablished is TCP_ESTABLISHED of Linux, include/net/tcp_states.h.
const tcpEstablished = 1

// diagRequest asks sock_diag(7) for one TCP socket, by its own end and the other.
type diagRequest struct{ local, remote netip.AddrPort }

// The layout of struct inet_diag_req_v2 and inet_diag_msg (include/uapi/linux/inet_diag.h): addresses and ports in network
// order, the rest in the machine's.
const (
	diagRequestSize = 56
	diagAnswerSize  = 72
	diagID          = 8 // of the request; the answer's begins at 4
	diagUID         = 64
	diagInode       = 68
)

// Len is for nl.NetlinkRequestData.
func (d diagRequest) Len() int { return diagRequestSize }

// Serialize is for nl.NetlinkRequestData.
func (d diagRequest) Serialize() []byte {
	b := make([]byte, diagRequestSize)
	b[0], b[1] = unix.AF_INET6, unix.IPPROTO_TCP
	if d.local.Addr().Is4() {
		b[0] = unix.AF_INET
	}
	binary.NativeEndian.PutUint32(b[4:], 1<<tcpEstablished)
	id := b[diagID:]
	binary.BigEndian.PutUint16(id[0:], d.local.Port())
	binary.BigEndian.PutUint16(id[2:], d.remote.Port())
	copy(id[4:20], d.local.Addr().AsSlice())
	copy(id[20:36], d.remote.Addr().AsSlice())
	for i := 40; i < 48; i++ {
		id[i] = 0xff // INET_DIAG_NOCOOKIE
	}
	return b
}

// socketUID is the uid of the socket whose own end is local and whose other end is remote. It is looked up by all four
// parts (not dumped and searched: a dump filters by ports alone, and who can make another address with the same ports
// could be taken for someone else), so there is one at most. A socket that is not connected, or that no process has any
// more, is an error.
func socketUID(local, remote netip.AddrPort) (uint32, error) {
	want := diagRequest{unmapped(local), unmapped(remote)}
	request := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, 0)
	request.AddData(want)
	answers, err := request.Execute(unix.NETLINK_INET_DIAG, nl.SOCK_DIAG_BY_FAMILY)
	if errors.Is(err, unix.ENOENT) {
		return 0, errors.New("the client's end of the connection is gone")
	}
	if err != nil {
		return 0, fmt.Errorf("sock_diag: %w", err)
	}
	if len(answers) != 1 {
		return 0, fmt.Errorf("sock_diag knows %d sockets at the client's end", len(answers))
	}
	return want.uid(answers[0])
}

// uid reads the kernel's answer, and takes no other socket's.
func (d diagRequest) uid(b []byte) (uint32, error) {
	if len(b) < diagAnswerSize {
		return 0, fmt.Errorf("sock_diag answered %d bytes", len(b))
	}
	if got := diagEnds(b); got != d {
		return 0, fmt.Errorf("sock_diag answered with the socket of %s and %s", got.local, got.remote)
	}
	if b[1] != tcpEstablished || binary.NativeEndian.Uint32(b[diagInode:]) == 0 {
		return 0, errors.New("the client has closed its end of the connection")
	}
	return binary.NativeEndian.Uint32(b[diagUID:]), nil
}

// diagEnds are the two ends of the socket in an answer. One of IPv6 that is connected over IPv4 has mapped addresses.
func diagEnds(b []byte) diagRequest {
	id, size := b[4:], 16
	if b[0] == unix.AF_INET {
		size = 4
	}
	end := func(address []byte, port []byte) netip.AddrPort {
		a, _ := netip.AddrFromSlice(address[:size])
		return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(port))
	}
	return diagRequest{end(id[4:], id[0:]), end(id[20:], id[2:])}
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// tcpUID is the uid at the other end of a connection within this machine.
func tcpUID(c net.Conn) (uint32, error) {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return 0, fmt.Errorf("%T is no TCP connection", c)
	}
	local, remote := t.LocalAddr().(*net.TCPAddr).AddrPort(), t.RemoteAddr().(*net.TCPAddr).AddrPort()
	if !local.Addr().Unmap().IsLoopback() || !remote.Addr().Unmap().IsLoopback() {
		return 0, fmt.Errorf("the connection from %s is not from this machine", remote.Addr())
	}
	uid, err := socketUID(remote, local)
	if err != nil {
		return 0, err
	}
	// A client that resets its connection gives its port free, and the next one with it may be another user's, while what
	// the first has sent can still be read here. While our end is connected, the other end is the one that connected.
	return uid, connected(t)
}

// connected is an error if the other side has ended the connection.
func connected(t *net.TCPConn) error {
	raw, err := t.SyscallConn()
	if err != nil {
		return err
	}
	var info *unix.TCPInfo
	var infoErr error
	if err := raw.Control(func(fd uintptr) {
		info, infoErr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	}); err != nil {
		return err
	}
	if infoErr != nil {
		return fmt.Errorf("TCP_INFO: %w", infoErr)
	}
	if info.State != tcpEstablished {
		return errors.New("the client has closed its end of the connection")
	}
	return nil
}
