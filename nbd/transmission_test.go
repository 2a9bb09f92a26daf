package nbd

import (
	"bytes"
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/cvold/cvold/dataplane"
)

func openLimited(t *testing.T, limits Limits, device dataplane.Device) (*Server, DialOptions) {
	t.Helper()
	s := startServer(t, ServerOptions{Limits: limits}, NewExport("disk", "", device))
	o := listen(t, s, "unix", ListenOptions{})
	o.Export = "disk"
	return s, o
}

// TestRepliesInAnyOrder: a request that waits holds no other one up.
func TestRepliesInAnyOrder(t *testing.T) {
	device, began, open := blocked(1 << 20)
	defer open()
	_, o := serveOne(t, device)
	client := opened(t, o)
	write, read := header(cmdWrite, 0, 0, 512), header(cmdRead, 0, 0, 4096)
	write.Handle, read.Handle = 1, 2
	client.sendRequest(write)
	<-began
	for range 10 {
		if code := client.request(read); code != 0 {
			t.Errorf("a read beside a write is answered with %d", code)
		}
	}
	open()
	if code := client.reply(write); code != 0 {
		t.Errorf("the write is answered with %d", code)
	}
}

// TestRequestsInFlight: as many requests as allowed are carried out beside each other, and the next one is not read.
func TestRequestsInFlight(t *testing.T) {
	device, began, open := blocked(1 << 20)
	defer open()
	_, o := openLimited(t, Limits{Requests: 3}, device)
	client := opened(t, o)
	for range 5 {
		client.sendRequest(header(cmdWrite, 0, 0, 512))
	}
	for range 3 {
		<-began
	}
	select {
	case <-began:
		t.Error("a fourth request was carried out beside three")
	case <-time.After(20 * time.Millisecond):
	}
	open()
	for range 5 {
		if code := client.reply(header(cmdWrite, 0, 0, 512)); code != 0 {
			t.Errorf("answered with %d", code)
		}
	}
}

// TestBytesInFlight: payload beyond the limit of a connection waits in its client's socket, and so does payload beyond
// the limit of the server, of whichever connection, but for one short request.
func TestBytesInFlight(t *testing.T) {
	for name, limits := range map[string]Limits{
		"connection": {ConnectionBytes: maxPayload},
		"server":     {TotalBytes: maxPayload},
	} {
		t.Run(name, func(t *testing.T) {
			device, began, open := blocked(maxPayload)
			defer open()
			s, o := openLimited(t, limits, device)
			s.find("disk").pace.part() // so that payloads come whole before they are written
			first := opened(t, o)
			second := first
			if name == "server" {
				second = opened(t, o)
			}
			first.sendRequest(header(cmdWrite, 0, 0, maxPayload))
			<-began
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				second.sendRequest(header(cmdWrite, 0, 0, 2*guaranteed))
			}()
			select {
			case <-began:
				t.Error("a second request got memory")
			case <-time.After(20 * time.Millisecond):
			}
			open()
			<-sent
			<-began
		})
	}
}

// TestNoMemory: a request that the system has no memory for is answered so, and the next one is served.
func TestNoMemory(t *testing.T) {
	s, o := serveOne(t, newMemory(maxPayload))
	s.shared.buffers.limit = 64 << 10
	client := opened(t, o)
	for _, command := range []uint16{cmdRead, cmdWrite, cmdCache} {
		if code := client.request(header(command, 0, 0, 1<<20)); code != codeENOMEM {
			t.Errorf("%s is answered with %d", commandName(command), code)
		}
		if code := client.request(header(command, 0, 0, 512)); code != 0 {
			t.Errorf("a short %s after it is answered with %d", commandName(command), code)
		}
	}
	// A buffer is given back after its reply has left, which the client may see first.
	await(t, "all memory is given back", func() bool { return s.shared.budget.inUse() == 0 })
}

// TestWaitForMemoryEndsWithTheConnection: a client that waits for memory does not outlive the export.
func TestWaitForMemoryEndsWithTheConnection(t *testing.T) {
	device, began, open := blocked(maxPayload)
	defer open()
	s, o := openLimited(t, Limits{TotalBytes: maxPayload}, device)
	s.find("disk").pace.part() // so that the payload comes whole before it is written
	busy, waiting := opened(t, o), opened(t, o)
	busy.sendRequest(header(cmdWrite, 0, 0, maxPayload))
	<-began
	sendHeader(waiting, cmdWrite, 0, 2*guaranteed)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	wantError(t, s.Remove(ended, "disk"), context.Canceled)
	waiting.wantClosed()
}

// TestTrickle: a message that has begun must come on, whether header, payload, or payload of a refused request.
func TestTrickle(t *testing.T) {
	for name, bytes := range map[string]func(*raw){
		"header":          func(c *raw) { c.send(make([]byte, 5)) },
		"payload":         func(c *raw) { sendHeader(c, cmdWrite, 0, 1<<20); c.send(make([]byte, 1000)) },
		"refused payload": func(c *raw) { sendHeader(c, cmdWrite, 1<<40, 1<<20); c.send(make([]byte, 1000)) },
	} {
		t.Run(name, func(t *testing.T) {
			s, o := openLimited(t, Limits{StallTimeout: 30 * time.Millisecond}, newMemory(1<<20))
			client, other := opened(t, o), dial(t, o)
			<-time.After(50 * time.Millisecond) // idle is no stall
			mustRead(t, other, 512, 0)
			bytes(client)
			client.wantClosed()
			mustRead(t, other, 512, 0)
			await(t, "the break is counted", func() bool { return s.Stats().Broken == 1 })
		})
	}
}

// TestIdleAfterAMessage: the time that a message has to come ends with the message.
func TestIdleAfterAMessage(t *testing.T) {
	s, o := openLimited(t, Limits{StallTimeout: 30 * time.Millisecond}, newMemory(1<<20))
	d := dial(t, o)
	for range 3 {
		mustWrite(t, d, pattern(1<<20), 0)
		<-time.After(50 * time.Millisecond)
	}
	mustRead(t, d, 512, 0)
	if n := s.Stats().Accepted; n != 1 {
		t.Errorf("%d connections", n)
	}
}

func sendHeader(c *raw, command uint16, offset uint64, length uint32) {
	var b [requestSize]byte
	encodeRequest(&b, header(command, 0, offset, length))
	c.send(b[:])
}

func TestIdleTimeout(t *testing.T) {
	s, o := openLimited(t, Limits{IdleTimeout: 30 * time.Millisecond}, newMemory(1<<20))
	client := opened(t, o)
	if code := client.request(header(cmdRead, 0, 0, 512)); code != 0 {
		t.Fatal(code)
	}
	client.wantClosed()
	await(t, "it is gone", func() bool { return s.Stats().Connections == 0 })
}

// TestClientThatDoesNotRead is cut off after a while, and meanwhile costs others nothing.
func TestClientThatDoesNotRead(t *testing.T) {
	s, o := openLimited(t, Limits{StallTimeout: 200 * time.Millisecond}, newMemory(maxPayload))
	greedy, other := opened(t, o), dial(t, o)
	for range 8 {
		sendHeader(greedy, cmdRead, 0, maxPayload)
	}
	await(t, "it reads", func() bool { return s.Stats().Reads > 0 })
	for range 20 {
		mustRead(t, other, 64<<10, 0)
	}
	await(t, "it is cut off", func() bool { return s.Stats().Connections == 1 })
	mustRead(t, other, 64<<10, 0)
	await(t, "its memory was given back", func() bool { return s.shared.budget.inUse() == 0 })
}

// TestEndsOfTheStream: leaving between two requests is in order, in the midst of one it is not.
func TestEndsOfTheStream(t *testing.T) {
	for _, c := range []struct {
		name   string
		broken uint64
		last   func(*raw)
	}{
		{"DISC", 0, func(c *raw) { sendHeader(c, cmdDisconnect, 0, 0) }},
		{"DISC with flags and range", 0, func(c *raw) { sendHeader(c, cmdDisconnect, 512, 512) }},
		{"close", 0, func(c *raw) { c.Close() }},
		{"close in a header", 1, func(c *raw) { c.send(make([]byte, 27)); c.Close() }},
		{"close in a payload", 1, func(c *raw) { sendHeader(c, cmdWrite, 0, 512); c.send(make([]byte, 511)); c.Close() }},
		{"close in a refused payload", 1, func(c *raw) { sendHeader(c, cmdWrite, 1<<30, 512); c.send(make([]byte, 511)); c.Close() }},
		{"wrong magic", 1, func(c *raw) { c.send(make([]byte, requestSize)) }},
		{"option in place of a request", 1, func(c *raw) { c.send(appendOption(nil, optAbort, make([]byte, 12))) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, o := serveOne(t, newMemory(1<<20))
			client := opened(t, o)
			c.last(client)
			await(t, "it is gone", func() bool { return s.Stats().Connections == 0 })
			if got := s.Stats().Broken; got != c.broken {
				t.Errorf("%d connections broken, want %d", got, c.broken)
			}
		})
	}
}

// TestDisconnectWaits: what is in flight at DISC is carried out and answered.
func TestDisconnectWaits(t *testing.T) {
	device, began, open := blocked(1 << 20)
	defer open()
	_, o := serveOne(t, device)
	client := opened(t, o)
	write := header(cmdWrite, 0, 0, 512)
	client.sendRequest(write)
	<-began
	sendHeader(client, cmdDisconnect, 0, 0)
	open()
	if code := client.reply(write); code != 0 {
		t.Errorf("the write is answered with %d", code)
	}
	client.wantClosed()
	if !bytes.Equal(device.contents()[:512], pattern(512)) {
		t.Error("the write was lost")
	}
}

// TestLostConnectionIsDrained: the writes of a client that died are over before its connection is.
func TestLostConnectionIsDrained(t *testing.T) {
	device, began, open := blocked(1 << 20)
	defer open()
	s, o := serveOne(t, device)
	client := opened(t, o)
	client.sendRequest(header(cmdWrite, 0, 0, 512))
	<-began
	client.Close()
	if n := s.Stats().Connections; n != 1 {
		t.Errorf("%d connections while a write is in flight", n)
	}
	open()
	await(t, "it is gone", func() bool { return s.Stats().Connections == 0 })
}

// countingConn counts writes.
type countingConn struct {
	net.Conn
	writes atomic.Int64
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// TestRepliesLeaveInOneWrite: header and payload together.
func TestRepliesLeaveInOneWrite(t *testing.T) {
	device := newMemory(1 << 20)
	s := startServer(t, ServerOptions{}, NewExport("disk", "", device))
	x := s.find("disk")
	session, err := x.session()
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	defer near.Close()
	counting := &countingConn{Conn: far}
	transmission, err := newTransmission(counting, far, x, session, &s.shared, s.log)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- transmission.run() }()
	client := &raw{near, t}
	client.request(header(cmdRead, 0, 0, 100<<10))
	if n := counting.writes.Load(); n != 1 {
		t.Errorf("a reply of 100 KiB left in %d writes", n)
	}
	sendHeader(client, cmdDisconnect, 0, 0)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestBuffers(t *testing.T) {
	var pool bufferPool
	for _, n := range []int{0, 1, 4096, 4097, 1 << 20, 1<<20 + 1, maxPayload} {
		b, err := pool.get(n)
		if err != nil {
			t.Fatal(err)
		}
		if len(b.payload(n)) != n || len(b.framed(replySize, n)) != n+replySize || b.size() != bufferSize(n) || b.size() < int64(n) {
			t.Errorf("a buffer for %d bytes has %d and %d", n, len(b.payload(n)), b.size())
		}
		if uintptr(unsafe.Pointer(&b.payload(1)[0]))%uintptr(pageSize) != 0 {
			t.Errorf("the payload of %d bytes does not begin at a page", n)
		}
		pool.put(b)
	}
	if bufferSize(maxPayload) != maxPayload {
		t.Error("the largest payload takes more than itself")
	}
}
