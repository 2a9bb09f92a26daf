package nbd

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvold/cvold/dataplane"
)

const everything = canFlags | canFlush | canFUA | canTrim | canWriteZeroes | canFastZero | canMultiConn

func TestDialOptions(t *testing.T) {
	for _, o := range []DialOptions{{Connections: -1}, {Connections: maxDialConnections + 1}, {Requests: -1}, {Requests: maxDialRequests + 1}} {
		_, err := Dial(timeLimit(t), o)
		wantError(t, err, dataplane.ErrOutOfRange)
	}
	if _, err := Dial(timeLimit(t), DialOptions{Network: "unix", Address: filepath.Join(t.TempDir(), "none")}); err == nil {
		t.Error("connected to nothing")
	}
	_, o := serveOne(t, newMemory(512))
	o.Export = string(make([]byte, maxString+1))
	_, err := Dial(timeLimit(t), o)
	wantError(t, err, ErrNoExport)
}

// TestOneConnectionWithoutMultiConn: SAFETY wants CAN_MULTI_CONN for more.
func TestOneConnectionWithoutMultiConn(t *testing.T) {
	var dials atomic.Int64
	o := fakeServer(t, func(conn net.Conn) {
		dials.Add(1)
		if greetFake(conn, canFlags, 512) == nil {
			serveFake(conn, func(request) uint32 { return 0 })
		}
	})
	o.Connections = 4
	if d := dial(t, o); d.Connections() != 1 || dials.Load() != 1 {
		t.Errorf("%d connections, %d dials", d.Connections(), dials.Load())
	}
}

// TestConnectionsMustAgree: an export that changes between two connections is not opened.
func TestConnectionsMustAgree(t *testing.T) {
	device := newMemory(1 << 20)
	s := startServer(t, ServerOptions{}, NewExport("disk", "", device))
	o := listen(t, s, "unix", ListenOptions{})
	var calls atomic.Int64
	grown := NewExport("grows", "", grower{device, &calls})
	if err := s.Add(grown); err != nil {
		t.Fatal(err)
	}
	o.Export, o.Connections = "grows", 2
	_, err := Dial(timeLimit(t), o)
	wantError(t, err, ErrProtocol)
}

type grower struct {
	*memory
	calls *atomic.Int64
}

func (g grower) Size() (int64, error) { return g.calls.Add(512), nil }

// TestRequestsOfACaller: how calls become requests.
func TestRequestsOfACaller(t *testing.T) {
	type seen struct {
		command, flags uint16
		offset         uint64
		length         uint32
	}
	const gib = 1 << 30
	zero := func(mode dataplane.ZeroMode) func(*Device) error {
		return func(d *Device) error { return d.ZeroAt(gib, 4096, mode) }
	}
	for _, c := range []struct {
		name  string
		flags uint16
		call  func(*Device) error
		want  []seen
		err   error
	}{
		{"read beyond the largest payload", everything, func(d *Device) error { _, err := d.ReadAt(make([]byte, maxPayload+512), 512); return err },
			[]seen{{cmdRead, 0, 512, maxPayload}, {cmdRead, 0, 512 + maxPayload, 512}}, nil},
		{"write beyond it", everything, func(d *Device) error { _, err := d.WriteAt(make([]byte, maxPayload+512), 0); return err },
			[]seen{{cmdWrite, 0, 0, maxPayload}, {cmdWrite, 0, maxPayload, 512}}, nil},
		{"flush", everything, (*Device).Sync, []seen{{cmdFlush, 0, 0, 0}}, nil},
		{"no flush", everything &^ canFlush, (*Device).Sync, nil, dataplane.ErrNotSupported},
		{"zero", everything, zero(dataplane.ZeroMode{}), []seen{{cmdWriteZeroes, flagNoHole, gib, 4096}}, nil},
		{"zero with holes", everything, zero(dataplane.ZeroMode{MayUnmap: true}), []seen{{cmdWriteZeroes, 0, gib, 4096}}, nil},
		{"zero fast", everything, zero(dataplane.ZeroMode{MayUnmap: true, FastOnly: true}), []seen{{cmdWriteZeroes, flagFastZero, gib, 4096}}, nil},
		{"no fast zero", everything &^ canFastZero, zero(dataplane.ZeroMode{FastOnly: true}), nil, dataplane.ErrNotSupported},
		{"no zero", everything &^ canWriteZeroes, zero(dataplane.ZeroMode{}), []seen{{cmdWrite, 0, gib, 4096}}, nil},
		{"neither", everything &^ canWriteZeroes, zero(dataplane.ZeroMode{FastOnly: true}), nil, dataplane.ErrNotSupported},
		{"a large zero", everything, func(d *Device) error { return d.ZeroAt(512, zeroPiece+512, dataplane.ZeroMode{MayUnmap: true}) },
			[]seen{{cmdWriteZeroes, 0, 512, zeroPiece}, {cmdWriteZeroes, 0, 512 + zeroPiece, 512}}, nil},
		{"discard", everything, func(d *Device) error { return d.Discard(0, 2*zeroPiece) },
			[]seen{{cmdTrim, 0, 0, zeroPiece}, {cmdTrim, 0, zeroPiece, zeroPiece}}, nil},
		{"no discard", everything &^ canTrim, func(d *Device) error { return d.Discard(0, 512) }, nil, nil},
		{"write, read-only", canFlags | canReadOnly, func(d *Device) error { _, err := d.WriteAt(make([]byte, 512), 0); return err }, nil, dataplane.ErrReadOnly},
		{"zero, read-only", canFlags | canReadOnly, zero(dataplane.ZeroMode{}), nil, dataplane.ErrReadOnly},
		{"discard, read-only", canFlags | canReadOnly, func(d *Device) error { return d.Discard(0, 512) }, nil, dataplane.ErrReadOnly},
		{"past the end", everything, func(d *Device) error { _, err := d.ReadAt(make([]byte, 512), 4*gib); return err }, nil, dataplane.ErrOutOfRange},
		{"unaligned", everything, func(d *Device) error { _, err := d.ReadAt(make([]byte, 5), 0); return err }, nil, dataplane.ErrUnaligned},
	} {
		t.Run(c.name, func(t *testing.T) {
			requests := make(chan seen, 10)
			d := dialFake(t, c.flags, 4*gib, func(r request) uint32 {
				requests <- seen{r.command, r.flags, r.offset, uint32(r.length)}
				return 0
			})
			if err := c.call(d); !errors.Is(err, c.err) {
				t.Errorf("error is %v, want %v", err, c.err)
			}
			close(requests)
			for _, want := range c.want {
				if got := <-requests; got != want {
					t.Errorf("sent %+v, want %+v", got, want)
				}
			}
			for extra := range requests {
				t.Errorf("sent %+v, too", extra)
			}
		})
	}
}

// TestZeroFallsBack: a server may find a length too long, and may not be able after all.
func TestZeroFallsBack(t *testing.T) {
	for _, code := range []uint32{codeEOVERFLOW, codeEINVAL} {
		var refused, served atomic.Int64
		d := dialFake(t, everything, 1<<30, func(r request) uint32 {
			if r.length > maxPayload {
				refused.Add(1)
				return code
			}
			served.Add(int64(r.length))
			return 0
		})
		if err := d.ZeroAt(0, 1<<30, dataplane.ZeroMode{MayUnmap: true}); err != nil || refused.Load() != 1 || served.Load() != 1<<30 {
			t.Errorf("%d: %v, %d refused, %d zeroed", code, err, refused.Load(), served.Load())
		}
	}
	var written atomic.Int64
	d := dialFake(t, everything, 1<<20, func(r request) uint32 {
		if r.command == cmdWriteZeroes {
			return codeENOTSUP
		}
		written.Add(int64(r.length))
		return 0
	})
	if err := d.ZeroAt(0, 1<<20, dataplane.ZeroMode{}); err != nil || written.Load() != 1<<20 {
		t.Errorf("%v, %d bytes of zeroes written", err, written.Load())
	}
	wantError(t, d.ZeroAt(0, 512, dataplane.ZeroMode{FastOnly: true}), dataplane.ErrNotSupported)
	stubborn := dialFake(t, everything, 1<<20, func(request) uint32 { return codeEINVAL })
	wantError(t, stubborn.ZeroAt(0, 512, dataplane.ZeroMode{}), dataplane.ErrOutOfRange)
}

func TestInfoOfTheDevice(t *testing.T) {
	d := dialFake(t, everything, 1<<20, nil)
	if got, want := d.Info(), (dataplane.Info{MinBlock: 512, PreferredBlock: 4096, FastZero: true}); got != want {
		t.Errorf("without block sizes: %+v", got)
	}
	d = dialFake(t, canFlags|canReadOnly, 1000, nil)
	if got, want := d.Info(), (dataplane.Info{ReadOnly: true, MinBlock: 1, PreferredBlock: 4096}); got != want {
		t.Errorf("an odd size without block sizes: %+v", got)
	}
}

func TestRequestsAreBounded(t *testing.T) {
	device, began, open := blocked(1 << 20)
	defer open()
	_, o := serveOne(t, device)
	o.Connections, o.Requests = 2, 2
	d := dial(t, o)
	var writers sync.WaitGroup
	for range 6 {
		writers.Go(func() {
			if _, err := d.WriteAt(make([]byte, 512), 0); err != nil {
				t.Error(err)
			}
		})
	}
	for range 4 {
		<-began
	}
	select {
	case <-began:
		t.Error("a fifth request is in flight")
	case <-time.After(20 * time.Millisecond):
	}
	open()
	writers.Wait()
}

// TestBrokenDeviceStaysBroken: a lost connection fails what is in flight on all, and everything after.
func TestBrokenDeviceStaysBroken(t *testing.T) {
	device, began, open := blocked(1 << 20)
	defer open()
	_, o := serveOne(t, device)
	o.Connections = 2
	d := dial(t, o)
	results := make(chan error, 4)
	for range 4 {
		go func() {
			_, err := d.WriteAt(make([]byte, 512), 0)
			results <- err
		}()
	}
	for range 4 {
		<-began
	}
	d.links[1].raw.Close()
	for range 4 {
		wantError(t, <-results, dataplane.ErrDisconnected)
	}
	open()
	_, err := d.ReadAt(make([]byte, 512), 0)
	wantError(t, err, dataplane.ErrDisconnected)
	wantError(t, d.Sync(), dataplane.ErrDisconnected)
	wantError(t, d.Discard(0, 512), dataplane.ErrDisconnected)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	wantError(t, d.Close(), dataplane.ErrClosed)
}

// TestRequestDeadline: a request without a reply ends the device, those that wait for a slot included.
func TestRequestDeadline(t *testing.T) {
	device, began, open := blocked(1 << 20)
	defer open()
	_, o := serveOne(t, device)
	o.Requests, o.Timeout = 1, 100*time.Millisecond
	d := dial(t, o)
	results := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := d.WriteAt(make([]byte, 512), 0)
			results <- err
		}()
	}
	<-began
	for range 2 {
		wantError(t, <-results, dataplane.ErrAbandoned, dataplane.ErrDisconnected)
	}
	_, err := d.ReadAt(make([]byte, 512), 0)
	wantError(t, err, dataplane.ErrAbandoned)
}

// TestDeadlineWhileSending: a server that does not read blocks a writer no longer than its deadline.
func TestDeadlineWhileSending(t *testing.T) {
	stop := make(chan struct{})
	o := fakeServer(t, func(conn net.Conn) {
		if greetFake(conn, everything, 1<<30) == nil {
			<-stop
		}
	})
	t.Cleanup(func() { close(stop) })
	o.Timeout = 100 * time.Millisecond
	d := dial(t, o)
	_, err := d.WriteAt(make([]byte, maxPayload), 0)
	wantError(t, err, dataplane.ErrAbandoned)
}

// TestEndInTheMidstOfAPayload: a read that has got half of its bytes fails with what ended the device.
func TestEndInTheMidstOfAPayload(t *testing.T) {
	half := func(conn net.Conn) {
		var b [requestSize]byte
		if greetFake(conn, everything, 1<<20) == nil {
			io.ReadFull(conn, b[:])
			conn.Write(append(simple(0, decodeRequest(&b).Handle), make([]byte, 256<<10)...))
			conn.Read(b[:])
		}
	}
	o := fakeServer(t, half)
	o.Timeout = 50 * time.Millisecond
	_, err := dial(t, o).ReadAt(make([]byte, 512<<10), 0)
	wantError(t, err, dataplane.ErrAbandoned)

	d := dial(t, fakeServer(t, half))
	result := make(chan error)
	go func() {
		_, err := d.ReadAt(make([]byte, 512<<10), 0)
		result <- err
	}()
	await(t, "the request is in flight", func() bool {
		l := d.links[0]
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.slots[0].uses == 1
	})
	d.Close()
	wantError(t, <-result, dataplane.ErrClosed)
}

func TestCloseEndsWhatIsInFlight(t *testing.T) {
	device, began, open := blocked(1 << 20)
	defer open()
	_, o := serveOne(t, device)
	d := dial(t, o)
	result := make(chan error)
	go func() {
		_, err := d.WriteAt(make([]byte, 512), 0)
		result <- err
	}()
	<-began
	go d.Close()
	wantError(t, <-result, dataplane.ErrClosed)
}

// TestCloseSaysGoodbye with NBD_CMD_DISC, so that the server does not count a broken connection.
func TestCloseSaysGoodbye(t *testing.T) {
	commands := make(chan uint16, 1)
	o := fakeServer(t, func(conn net.Conn) {
		greetFake(conn, everything, 512)
		var b [requestSize]byte
		io.ReadFull(conn, b[:])
		commands <- decodeRequest(&b).Type
	})
	if err := dial(t, o).Close(); err != nil {
		t.Error(err)
	}
	if c := <-commands; c != cmdDisconnect {
		t.Errorf("the last request was %s", commandName(c))
	}
}

// TestShutdownEndsTheDevice: a client that is told ESHUTDOWN MUST leave ("Terminating the transmission phase").
func TestShutdownEndsTheDevice(t *testing.T) {
	d := dialFake(t, everything, 512, func(request) uint32 { return codeESHUTDOWN })
	_, err := d.ReadAt(make([]byte, 512), 0)
	wantError(t, err, dataplane.ErrDisconnected)
	_, err = d.ReadAt(make([]byte, 512), 0)
	wantError(t, err, dataplane.ErrDisconnected)
}
