package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// groupsAge is how long the groups of a user are remembered: who leaves the admin group may still command that long.
	groupsAge = 15 * time.Second
	// maxUsers bounds the users whose groups are remembered.
	maxUsers = 256
	// noGroup is (gid_t)-1, which no group has.
	noGroup = math.MaxUint32
)

// secrets are headers for services that know tokens and sessions. Here they mean nothing; they are dropped, so that they
// reach neither a log nor a peer.
var secrets = []string{"X-Auth-Token", "X-Subject-Token", "X-Service-Token", "Authorization", "Proxy-Authorization", "Cookie"}

// loopback is what a connection through TCP has beside its caller.
type loopback struct {
	// unknown is why the caller is not known; nil if it is.
	unknown error
}

type loopbackKey struct{}

// LoopbackAddress is nil if l listens on a literal loopback address over TCP, which no other machine reaches.
func LoopbackAddress(l net.Listener) error {
	at, ok := l.Addr().(*net.TCPAddr)
	if !ok || !at.AddrPort().Addr().Unmap().IsLoopback() {
		return fmt.Errorf("listens on %s: want a loopback address, 127.0.0.1 or ::1", l.Addr())
	}
	return nil
}

// ServeLoopback answers what comes through l, which listens on a loopback address over TCP, as Serve does: for stock
// clients of Cinder, which know no unix sockets. The caller is the user whose socket is at the other end when the
// connection is accepted, with the groups that the machine's files say; where the kernel does not tell, it is nobody. With
// everyone, all who connect are admins. Requests that a browser may have been made to send are refused.
func (s *Server) ServeLoopback(l net.Listener, everyone bool) error {
	if err := LoopbackAddress(l); err != nil {
		return errors.Join(fmt.Errorf("serve the API: %w", err), l.Close())
	}
	groups := &groupCache{groups: groupsOf, users: map[uint32]cachedGroups{}}
	return s.serve(&listener{Listener: l, identify: func(c net.Conn) identity {
		return s.judge.loopbackCaller(c, groups, everyone)
	}})
}

// loopbackCaller finds who is at the other end of a TCP connection.
func (j judge) loopbackCaller(c net.Conn, groups *groupCache, everyone bool) identity {
	uid, err := tcpUID(c)
	if err != nil {
		unknown := Caller{UID: noGroup, GID: noGroup, Admin: everyone}
		return identity{caller: unknown, known: everyone, loopback: &loopback{err}}
	}
	gid, others := groups.of(uid)
	caller := j.caller(uid, gid, others)
	caller.Admin = caller.Admin || everyone
	return identity{caller: caller, known: true, loopback: &loopback{}}
}

// guard refuses what came over TCP and did not come from a client of the API: a browser runs as its user too, and sends
// what pages of others tell it to. Such a request names its page in Origin, or, when the page's name was made to mean this
// machine (DNS rebinding), the page's server in Host.
func (l *loopback) guard(r *http.Request) error {
	for _, name := range secrets {
		r.Header.Del(name)
	}
	if len(r.Header.Values("Origin")) > 0 {
		return fault{403, "the request has a header Origin, as browsers send it: this listener answers no web pages"}
	}
	if at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); !ok || !ownHost(r.Host, at.Port) {
		return fault{403, fmt.Sprintf("the header Host is %s: want localhost or a loopback address, with the port of this listener",
			show([]byte(r.Host)))}
	}
	if l.unknown != nil {
		if caller, _ := CallerFrom(r.Context()); !caller.Admin {
			return fault{403, fmt.Sprintf("the caller is not known: %v: connect again, or use the unix socket", l.unknown)}
		}
	}
	return nil
}

// ownHost says that host names the loopback interface and port.
func ownHost(host string, port int) bool {
	name, number, err := net.SplitHostPort(host)
	if err != nil {
		name, number = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"), "80"
	}
	if number != strconv.Itoa(port) {
		return false
	}
	ip, err := netip.ParseAddr(name)
	return strings.EqualFold(name, "localhost") || err == nil && ip.Unmap().IsLoopback()
}

// loopbackFrom is how the request's connection came; nil if not over TCP.
func loopbackFrom(ctx context.Context) *loopback {
	l, _ := ctx.Value(loopbackKey{}).(*loopback)
	return l
}

// groupCache remembers the groups of users for groupsAge. Safe for concurrent use.
type groupCache struct {
	groups func(uid uint32) (gid uint32, others []uint32)

	mu    sync.Mutex
	users map[uint32]cachedGroups
}

type cachedGroups struct {
	gid    uint32
	others []uint32
	until  time.Time
}

// of are the groups of a user.
func (g *groupCache) of(uid uint32) (gid uint32, others []uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if c, ok := g.users[uid]; ok && now.Before(c.until) {
		return c.gid, c.others
	}
	if len(g.users) >= maxUsers {
		clear(g.users)
	}
	gid, others = g.groups(uid)
	g.users[uid] = cachedGroups{gid, others, now.Add(groupsAge)}
	return gid, others
}

// groupsOf asks this machine for the groups of a user; one that it does not know has none.
func groupsOf(uid uint32) (gid uint32, others []uint32) {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return noGroup, nil
	}
	own, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return noGroup, nil
	}
	names, _ := u.GroupIds() // without them only the primary group counts
	for _, name := range names {
		if g, err := strconv.ParseUint(name, 10, 32); err == nil && len(others) < maxGroups {
			others = append(others, uint32(g))
		}
	}
	return uint32(own), others
}
