package api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cvold/cvold/agent/catalog"
)

// loopback serves the API over TCP until the test ends.
func (r *rig) loopback(t *testing.T, address string, everyone bool) string {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	r.run(t, func() error { return r.ServeLoopback(l, everyone) })
	return l.Addr().String()
}

// TestLoopbackCallers: the user of the process at the other end decides, over both kinds of addresses.
func TestLoopbackCallers(t *testing.T) {
	asRoot(t)
	for _, address := range []string{"127.0.0.1:0", "127.1.2.3:0", "[::1]:0", "[::ffff:127.0.0.1]:0"} {
		r := newRig(t)
		v := newVolume(func(v *catalog.Volume) {})
		r.put(v)
		at := r.loopback(t, address, false)
		lines := []string{"GET /v3/volumes/" + v.ID, "GET /v1/status", "POST /v3/volumes", "DELETE /v3/volumes/" + v.ID}
		before := r.dump()
		// Group 0 is not the user's by the machine's files, whatever the process has.
		for _, cred := range []syscall.Credential{{Uid: 65534, Gid: 65534}, {Uid: 65534, Gid: 0}, {Uid: 1 << 30, Gid: 0}} {
			if got := askAs(t, cred, at, lines...); !slices.Equal(got, []int{200, 403, 403, 403}) {
				t.Errorf("%s: %+v: %v", address, cred, got)
			}
		}
		if r.dump() != before || len(r.volumes.calls) > 0 {
			t.Error("a refused request did something")
		}
		if got := askAs(t, syscall.Credential{}, at, lines[:3]...); !slices.Equal(got, []int{200, 200, 400}) {
			t.Errorf("%s: root: %v", address, got)
		}
	}
}

// TestLoopbackGroup: who is in the admin group by the machine's files is an admin.
func TestLoopbackGroup(t *testing.T) {
	asRoot(t)
	r := newRig(t)
	gid, _ := groupsOf(65534)
	if gid == noGroup {
		t.Fatal("this machine has no user nobody")
	}
	r.judge.groupName, r.judge.gid = "storage", gid
	if got := askAs(t, syscall.Credential{Uid: 65534, Gid: 1}, r.loopback(t, "127.0.0.1:0", false), "GET /v1/status"); got[0] != 200 {
		t.Errorf("%v", got)
	}
}

// TestLoopbackEveryone: insecure_loopback_admin.
func TestLoopbackEveryone(t *testing.T) {
	asRoot(t)
	r := newRig(t)
	at := r.loopback(t, "127.0.0.1:0", true)
	if got := askAs(t, syscall.Credential{Uid: 65534, Gid: 65534}, at, "GET /v1/status"); got[0] != 200 {
		t.Errorf("%v", got)
	}
}

// send writes a request over a connection of its own, and reads the answer.
func send(t *testing.T, address, request string) (code int, body string) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// TestLoopbackBrowsers: what a page can make a browser send is refused.
func TestLoopbackBrowsers(t *testing.T) {
	r := newRig(t)
	at := r.loopback(t, "127.0.0.1:0", false)
	_, port, _ := net.SplitHostPort(at)
	for headers, want := range map[string]int{
		"Host: " + at:                                  200,
		"Host: localhost:" + port:                      200,
		"Host: LOCALHOST:" + port:                      200,
		"Host: [::1]:" + port:                          200,
		"Host: 127.8.8.8:" + port:                      200,
		"Host: evil.example:" + port:                   403,
		"Host: localhost.evil.test:" + port:            403,
		"Host: 192.0.2.1:" + port:                      403,
		"Host: localhost":                              403,
		"Host: localhost:1":                            403,
		"Host:":                                        403,
		"Host: " + at + "\r\nOrigin: http://" + at:     403,
		"Host: " + at + "\r\nOrigin: null":             403,
		"Host: " + at + "\r\nOrigin:":                  403,
		"Host: " + at + "\r\nX-Auth-Token: s3cret-t0k": 200,
	} {
		code, body := send(t, at, "GET /v3/volumes HTTP/1.1\r\n"+headers+"\r\n\r\n")
		if code != want || want == 403 && !strings.Contains(body, `"forbidden"`) {
			t.Errorf("%q: %d %s, want %d", headers, code, body, want)
		}
	}
	if strings.Contains(r.log.String(), "s3cret") {
		t.Error("a token is in the log")
	}
}

// TestLoopbackGone: whose client has ended the connection, in whatever way, is nobody, though what it sent is there.
func TestLoopbackGone(t *testing.T) {
	for name, end := range map[string]func(c *net.TCPConn) error{
		"closed":      func(c *net.TCPConn) error { return c.Close() },
		"half closed": func(c *net.TCPConn) error { return c.CloseWrite() },
		"reset": func(c *net.TCPConn) error {
			_ = c.SetLinger(0)
			return c.Close()
		},
	} {
		served, dialed := connection(t)
		if uid, err := tcpUID(served); err != nil || int(uid) != os.Geteuid() {
			t.Fatalf("uid %d, %v", uid, err)
		}
		if err := end(dialed); err != nil {
			t.Fatal(err)
		}
		if uid, err := tcpUID(served); err == nil {
			t.Errorf("%s: uid %d", name, uid)
		}
		who := (judge{}).loopbackCaller(served, &groupCache{groups: groupsOf, users: map[uint32]cachedGroups{}}, false)
		if who.known || who.caller.Admin || who.loopback.unknown == nil {
			t.Errorf("%s: %+v", name, who)
		}
	}
}

// TestLoopbackPortReused: a client resets its connection, and the next one from that port is another's. What the first has
// sent is never taken for the second's.
func TestLoopbackPortReused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	first, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	from := first.LocalAddr()
	if _, err := io.WriteString(first, "DELETE / HTTP/1.1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	_ = first.(*net.TCPConn).SetLinger(0)
	first.Close()
	second, err := (&net.Dialer{LocalAddr: from}).Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	var errs []error
	for range 2 {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, err = tcpUID(c)
		errs = append(errs, err)
	}
	if errs[0] == nil || errs[1] != nil {
		t.Errorf("%v", errs)
	}
}

// TestSocketUIDIsExact: the same ports between other addresses are another connection.
func TestSocketUIDIsExact(t *testing.T) {
	served, _ := connection(t)
	remote, local := served.RemoteAddr().(*net.TCPAddr).AddrPort(), served.LocalAddr().(*net.TCPAddr).AddrPort()
	other := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), remote.Port())
	for _, ends := range [][2]netip.AddrPort{
		{other, local}, {remote, netip.AddrPortFrom(other.Addr(), local.Port())}, {remote, netip.AddrPortFrom(local.Addr(), local.Port()-1)},
		{local, netip.AddrPortFrom(local.Addr(), 1)}, // the listener alone has this end
	} {
		if uid, err := socketUID(ends[0], ends[1]); err == nil {
			t.Errorf("%v: uid %d", ends, uid)
		}
	}
}

// connection is both ends of a TCP connection of this process.
func connection(t *testing.T) (served net.Conn, dialed *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if served, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { served.Close() })
	return served, c.(*net.TCPConn)
}

func TestServeLoopbackRefusesOtherAddresses(t *testing.T) {
	r := newRig(t)
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.ServeLoopback(l, true); err == nil || !strings.Contains(err.Error(), "want a loopback address") {
		t.Errorf("%v", err)
	}
	if _, err := l.Accept(); err == nil {
		t.Error("it listens on")
	}
}

// TestGroupCache: asked once in a while, and bounded.
func TestGroupCache(t *testing.T) {
	asked := 0
	g := &groupCache{users: map[uint32]cachedGroups{}, groups: func(uid uint32) (uint32, []uint32) { asked++; return uid, nil }}
	for range 3 {
		if gid, _ := g.of(7); gid != 7 || asked != 1 {
			t.Fatalf("%d, asked %d times", gid, asked)
		}
	}
	g.users[7] = cachedGroups{gid: 8} // grown old
	if gid, _ := g.of(7); gid != 7 {
		t.Error("an old answer is taken")
	}
	for uid := range uint32(3 * maxUsers) {
		g.of(uid)
	}
	if len(g.users) > maxUsers {
		t.Errorf("%d users", len(g.users))
	}
}

func FuzzDiagAnswer(f *testing.F) {
	want := diagRequest{netip.MustParseAddrPort("127.0.0.1:1234"), netip.MustParseAddrPort("127.0.0.1:8776")}
	good := make([]byte, diagAnswerSize)
	good[0], good[1] = syscall.AF_INET, tcpEstablished
	copy(good[4:], want.Serialize()[diagID:diagID+36])
	good[diagInode] = 1
	f.Add(good)
	f.Add(good[:diagAnswerSize-1])
	if uid, err := want.uid(good); err != nil || uid != 0 {
		f.Fatal(fmt.Errorf("%d %w", uid, err))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := want.uid(b); err == nil && diagEnds(b) != want {
			t.Error("taken for another connection: " + strconv.Quote(string(b)))
		}
	})
}
