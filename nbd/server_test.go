package nbd

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cvold/cvold/dataplane"
)

func TestAdd(t *testing.T) {
	s := startServer(t, ServerOptions{}, NewExport("disk", "", newMemory(512)))
	wantError(t, s.Add(NewExport("disk", "", newMemory(512))), ErrExportExists)
	odd, huge := newMemory(512), newMemory(1<<20)
	odd.info.MinBlock, huge.info.MinBlock = 3, 128<<10
	uneven := newMemory(1000)
	uneven.info.MinBlock = 512
	for _, e := range []Export{
		NewExport("a\x00b", "", newMemory(512)), NewExport("\xff", "", newMemory(512)), NewExport(strings.Repeat("x", 4097), "", newMemory(512)),
		NewExport("x", "\x00", newMemory(512)), NewExport("odd", "", odd), NewExport("huge", "", huge), NewExport("uneven", "", uneven), {},
	} {
		wantError(t, s.Add(e), ErrInvalidExport)
	}
	lost := Export{}
	lost.Name, lost.Backend = "lost", sizeless{}
	wantError(t, s.Add(lost), dataplane.ErrIO)
	s.Close(timeLimit(t))
	wantError(t, s.Add(NewExport("late", "", newMemory(512))), ErrServerClosed)
}

// TestBlocksAreTellable: what a device says of its blocks is told within the protocol's bounds ("Size constraints").
func TestBlocksAreTellable(t *testing.T) {
	for _, c := range []struct {
		min, preferred int64
		wantMin, want  uint32
	}{{0, 0, 1, 4096}, {1, 1, 1, 512}, {512, 3000, 512, 4096}, {64 << 10, 512, 64 << 10, 64 << 10}, {1, 1 << 30, 1, maxPayload}} {
		device := newMemory(1 << 20)
		device.info.MinBlock, device.info.PreferredBlock = c.min, c.preferred
		x, err := newServed(NewExport("disk", "", device))
		if err != nil {
			t.Fatal(err)
		}
		s, err := x.session()
		if err != nil || s.MinBlock != c.wantMin || s.PreferredBlock != c.want {
			t.Errorf("blocks of %d, %d preferred are told as %d, %d, %v", c.min, c.preferred, s.MinBlock, s.PreferredBlock, err)
		}
	}
}

// sizeless is a backend whose size is not known.
type sizeless struct{ odd }

func (sizeless) Size() (int64, error) { return 0, dataplane.ErrIO }

// TestRemoveIsAFence: under load from many clients, nothing reaches the device after Remove has returned.
func TestRemoveIsAFence(t *testing.T) {
	for range 5 {
		device := newMemory(1 << 20)
		var fenced, late, done atomic.Int64
		device.hook = func(string, int64, int64) error {
			late.Add(fenced.Load())
			done.Add(1)
			return nil
		}
		s, o := serveOne(t, device)
		var clients sync.WaitGroup
		for range 8 {
			d := dial(t, o)
			clients.Go(func() {
				for {
					if _, err := d.WriteAt(pattern(4096), 0); err != nil {
						wantError(t, err, dataplane.ErrDisconnected)
						return
					}
				}
			})
		}
		await(t, "all are busy", func() bool { return done.Load() > 200 })
		if err := s.Remove(timeLimit(t), "disk"); err != nil {
			t.Fatal(err)
		}
		fenced.Store(1)
		clients.Wait()
		if n := late.Load(); n != 0 {
			t.Errorf("%d requests after Remove", n)
		}
		wantError(t, s.Remove(timeLimit(t), "disk"), ErrNoExport)
		if n := s.Stats().Connections; n != 0 {
			await(t, "the connections are gone", func() bool { return s.Stats().Connections == 0 })
		}
	}
}

// blocked is a device whose writes wait for open to be closed.
func blocked(size int) (device *memory, began chan struct{}, open func()) {
	device = newMemory(size)
	gate := make(chan struct{})
	began = make(chan struct{}, 100)
	device.hook = on("write", func() error {
		began <- struct{}{}
		<-gate
		return nil
	})
	return device, began, sync.OnceFunc(func() { close(gate) })
}

// TestRemoveWaitsForWhatIsInFlight, answers it, and gives up with ctx; then the export stays removed and its name taken.
func TestRemoveWaitsForWhatIsInFlight(t *testing.T) {
	device, began, open := blocked(1 << 20)
	defer open()
	s, o := serveOne(t, device)
	client := opened(t, o)
	client.sendRequest(header(cmdWrite, 0, 0, 512))
	<-began
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	wantError(t, s.Remove(short, "disk"), context.DeadlineExceeded)
	client.wantClosed()
	wantError(t, s.Add(NewExport("disk", "", newMemory(512))), ErrExportExists)
	wantError(t, s.Remove(short, "disk"), context.DeadlineExceeded) // not ErrNoExport: the write may still land
	greeted(t, o).wantOption(optGo, ask("disk"), repErrUnknown)
	removed := make(chan error)
	go func() { removed <- s.Remove(timeLimit(t), "disk") }()
	open()
	if err := <-removed; err != nil {
		t.Errorf("Remove, when the write had ended: %v", err)
	}
	wantError(t, s.Remove(short, "disk"), ErrNoExport)
	if err := s.Add(NewExport("disk", "", newMemory(512))); err != nil {
		t.Error(err)
	}
}

func TestRemovedNameIsFreeOnceDrained(t *testing.T) {
	device, began, open := blocked(1 << 20)
	defer open()
	s, o := serveOne(t, device)
	client := opened(t, o)
	client.sendRequest(header(cmdWrite, 0, 0, 512))
	<-began
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	wantError(t, s.Remove(ended, "disk"), context.Canceled)
	open()
	await(t, "the write has ended", func() bool { return s.Add(NewExport("disk", "", newMemory(512))) == nil })
}

// TestRemoveAnswersESHUTDOWN: what was sent beside a request in flight is refused, and what is in flight is answered.
func TestRemoveAnswersESHUTDOWN(t *testing.T) {
	device, began, open := blocked(1 << 20)
	defer open()
	s, o := serveOne(t, device)
	client := opened(t, o)
	write := header(cmdWrite, 0, 0, 512)
	client.sendRequest(write)
	<-began
	removed := make(chan error)
	go func() { removed <- s.Remove(timeLimit(t), "disk") }()
	await(t, "the fence is closed", func() bool { return s.find("disk") == nil })
	read := header(cmdRead, 0, 0, 512)
	if code := client.request(read); code != codeESHUTDOWN {
		t.Errorf("a request behind the fence is answered with %d", code)
	}
	open()
	if code := client.reply(write); code != 0 {
		t.Errorf("the request in flight is answered with %d", code)
	}
	if err := <-removed; err != nil {
		t.Error(err)
	}
	client.wantClosed()
}

// TestRemoveCutsWhoDoesNotRead: replies that nobody takes hold Remove up for the drain's time, not for ever.
func TestRemoveCutsWhoDoesNotRead(t *testing.T) {
	s := startServer(t, ServerOptions{Limits: Limits{DrainTimeout: 30 * time.Millisecond}}, NewExport("disk", "", newMemory(maxPayload)))
	o := listen(t, s, "unix", ListenOptions{})
	o.Export = "disk"
	client := opened(t, o)
	client.sendRequest(header(cmdRead, 0, 0, maxPayload))
	await(t, "the read is done", func() bool { return s.Stats().Reads == 1 })
	if err := s.Remove(timeLimit(t), "disk"); err != nil {
		t.Error(err)
	}
}

func TestCloseWhileInUse(t *testing.T) {
	device, began, open := blocked(1 << 20)
	defer open()
	s, o := serveOne(t, device)
	busy, idle, halfway := opened(t, o), opened(t, o), greeted(t, o)
	write := header(cmdWrite, 0, 0, 512)
	busy.sendRequest(write)
	<-began
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	wantError(t, s.Close(ended), context.Canceled)
	idle.wantClosed()
	halfway.wantClosed()
	open()
	if err := s.Close(timeLimit(t)); err != nil {
		t.Errorf("Close again: %v", err)
	}
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "late.sock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(l, ListenOptions{}); err != nil {
		t.Errorf("Serve after Close: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error("the listener was left open")
	}
}

// failingListener fails twice, then is closed by someone else.
type failingListener struct {
	net.Listener
	errs []error
}

func (l *failingListener) Accept() (net.Conn, error) {
	err := l.errs[0]
	l.errs = l.errs[1:]
	return nil, err
}

func TestServeGoesOnAfterAFailedAccept(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s.sock"))
	if err != nil {
		t.Fatal(err)
	}
	failing := &failingListener{l, []error{syscall.EMFILE, net.ErrClosed}}
	s := startServer(t, ServerOptions{})
	wantError(t, s.Serve(failing, ListenOptions{}), net.ErrClosed)
	if len(failing.errs) != 0 {
		t.Error("Serve gave up at the first error")
	}
}

func TestConnectionLimits(t *testing.T) {
	s := startServer(t, ServerOptions{Limits: Limits{Connections: 3, Handshakes: 2}}, NewExport("disk", "", newMemory(512)))
	o := listen(t, s, "unix", ListenOptions{})
	o.Export = "disk"
	opened(t, o)
	first := opened(t, o)
	await(t, "both handshakes are over", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.handshakes == 0 })
	third := greeted(t, o)
	connectRaw(t, o).wantClosed()
	first.Close()
	await(t, "one has left", func() bool { return s.Stats().Connections == 2 })
	greeted(t, o)
	connectRaw(t, o).wantClosed()
	third.Close()
	if stats := s.Stats(); stats.Accepted != 4 || stats.Rejected != 2 {
		t.Errorf("accepted %d, rejected %d", stats.Accepted, stats.Rejected)
	}
}

func TestHandshakeLimit(t *testing.T) {
	s := startServer(t, ServerOptions{Limits: Limits{Handshakes: 1}}, NewExport("disk", "", newMemory(512)))
	o := listen(t, s, "unix", ListenOptions{})
	stranger := greeted(t, o)
	connectRaw(t, o).wantClosed()
	stranger.Close()
	await(t, "the stranger is gone", func() bool { return s.Stats().Connections == 0 })
	greeted(t, o)
}

// TestSessionEntersTransmission: a connection's state is its Session; from its JSON alone transmission goes on.
func TestSessionEntersTransmission(t *testing.T) {
	device := newMemory(1 << 20)
	e := NewExport("disk", "", device)
	var refuse error
	e.Admit = func(Client) error { return refuse }
	s := startServer(t, ServerOptions{}, e)
	o := listen(t, s, "unix", ListenOptions{})
	o.Export = "disk"
	negotiated, err := s.find("disk").session()
	if err != nil {
		t.Fatal(err)
	}
	negotiated.Network = "unix"
	enter := func(change func(*Session)) (client net.Conn, result chan error) {
		session := overJSON(t, negotiated)
		change(&session)
		near, far := net.Pipe()
		t.Cleanup(func() { near.Close() })
		result = make(chan error, 1)
		go func() {
			err := s.transmit(far, far, session, slog.New(slog.DiscardHandler))
			far.Close()
			result <- err
		}()
		return near, result
	}
	conn, result := enter(func(*Session) {})
	client := &raw{conn, t}
	if code := client.request(header(cmdWrite, 0, 0, 512)); code != 0 {
		t.Errorf("the first request is answered with %d", code)
	}
	client.sendRequest(header(cmdDisconnect, 0, 0, 0))
	if err := <-result; err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Session){
		"another name": func(s *Session) { s.Export = "other" },
		"larger":       func(s *Session) { s.Size += 512 },
		"other flags":  func(s *Session) { s.Flags |= canReadOnly },
		"other blocks": func(s *Session) { s.MinBlock = 0 },
		"certificate":  func(s *Session) { s.Certificate = []byte("no DER") },
		"not admitted": func(*Session) { refuse = errors.New("no more") },
	} {
		if _, result := enter(change); <-result == nil {
			t.Errorf("%s: transmission began", name)
		}
		refuse = nil
	}
}

func overJSON(t *testing.T, s Session) Session {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var out Session
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestSessionsTellTheSame: server and client make the same of one negotiation.
func TestSessionsTellTheSame(t *testing.T) {
	a := newAuthority(t)
	s := startServer(t, ServerOptions{TLS: a.serverConfig()}, NewExport("disk", "", newMemory(1<<20)))
	o := listen(t, s, "tcp", ListenOptions{RequireTLS: true})
	o.Export, o.TLS = "disk", a.clientConfig()
	d := dial(t, o)
	await(t, "the server is in transmission", func() bool { return len(s.Stats().Exports[0].Clients) == 1 })
	var server Session
	s.find("disk").each(func(t *transmission) { server = t.session })
	client := overJSON(t, d.Session())
	if server.Address != d.links[0].raw.LocalAddr().String() || client.Address != o.Address {
		t.Errorf("the server's client is %s, the client's server is %s", server.Address, client.Address)
	}
	server.Address, server.Certificate, client.Address, client.Certificate = "", nil, "", nil
	if got, want := mustJSON(t, client), mustJSON(t, server); got != want {
		t.Errorf("the client has\n%s, the server\n%s", got, want)
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

type observer struct{ times atomic.Int64 }

func (o *observer) Observe(seconds float64) {
	if seconds >= 0 {
		o.times.Add(1)
	}
}

func TestStats(t *testing.T) {
	device := newMemory(1 << 20)
	var seen, seenByDevice observer
	disk := NewExport("disk", "", device)
	disk.DeviceSeconds = &seenByDevice
	s := startServer(t, ServerOptions{RequestSeconds: &seen}, disk, NewExport("another", "", newMemory(512)))
	o := listen(t, s, "unix", ListenOptions{})
	o.Export = "disk"
	client := opened(t, o)
	client.request(header(cmdRead, 0, 0, 1000))
	client.request(header(cmdWrite, 0, 0, 500))
	client.request(header(77, 0, 0, 500))
	device.setHook(on("read", func() error { return dataplane.ErrIO }))
	client.request(header(cmdRead, 0, 0, 1000))
	want := Counts{Reads: 2, Writes: 1, Refused: 1, Failed: 1, BytesRead: 1000, BytesWritten: 500}
	stats := s.Stats()
	if stats.Counts != want || stats.Connections != 1 || stats.Accepted != 1 || len(stats.Exports) != 2 {
		t.Errorf("stats are %+v", stats)
	}
	if e := stats.Exports[1]; e.Name != "disk" || e.Counts != want || len(e.Clients) != 1 || !e.Clients[0].Unix {
		t.Errorf("the export's are %+v", e)
	}
	await(t, "all requests are observed", func() bool { return seen.times.Load() == 4 })
	client.request(header(cmdFlush, 0, 0, 0))
	want.Flushes++
	await(t, "all requests are observed", func() bool { return seen.times.Load() == 5 })
	if got := seenByDevice.times.Load(); got != 3 {
		t.Errorf("the device had %d reads and writes, want 3: neither what was refused nor a flush is one", got)
	}
	if err := s.Remove(timeLimit(t), "disk"); err != nil {
		t.Fatal(err)
	}
	if stats := s.Stats(); stats.Counts != want || len(stats.Exports) != 1 {
		t.Errorf("after Remove they are %+v", stats)
	}
}
