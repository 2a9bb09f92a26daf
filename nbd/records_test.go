package nbd

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
)

// tape is a socket that keeps what is written to it, and gives what is on it, as much as a read takes.
type tape struct {
	net.Conn
	in     []byte
	reads  int
	writes [][]byte
	err    error // of writes
}

func (c *tape) Read(p []byte) (int, error) {
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	c.reads++
	n := copy(p, c.in)
	c.in = c.in[n:]
	return n, nil
}

func (c *tape) Write(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	c.writes = append(c.writes, slices.Clone(p))
	return len(p), nil
}

// What crypto/tls reads by the record comes off the socket in large pieces, and all of it, and the end of it.
func TestRecordsRead(t *testing.T) {
	all := pattern(2*recordsBytes + 100)
	socket := &tape{in: slices.Clone(all)}
	c := &records{Conn: socket}
	var got []byte
	for record := make([]byte, 16<<10); ; {
		n, err := c.Read(record)
		got = append(got, record[:n]...)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || n == 0 {
			t.Fatalf("%d bytes, %v", n, err)
		}
	}
	if !bytes.Equal(got, all) || socket.reads != 3 {
		t.Errorf("%d bytes of %d in %d reads", len(got), len(all), socket.reads)
	}
	if c.large != nil {
		t.Error("a connection that has little to say holds a large buffer")
	}
}

// What is written together leaves so and in order, in pieces that are not too large; all else leaves at once.
func TestRecordsTogether(t *testing.T) {
	socket := &tape{}
	c := &records{Conn: socket}
	record := pattern(16 << 10)
	write := func(n int) func() error {
		return func() error {
			for range n {
				if _, err := c.Write(record); err != nil {
					return err
				}
			}
			return nil
		}
	}
	fits := recordsBytes / len(record)
	for _, test := range []struct {
		name string
		run  func() error
		want []int // records of each write
	}{
		{"alone", write(2), []int{1, 1}},
		{"none", func() error { return c.together(write(0)) }, nil},
		{"one", func() error { return c.together(write(1)) }, []int{1}},
		{"as many as fit", func() error { return c.together(write(fits)) }, []int{fits}},
		{"more", func() error { return c.together(write(fits + 1)) }, []int{fits, 1}},
	} {
		socket.writes = nil
		if err := test.run(); err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		var got []int
		for _, w := range socket.writes {
			got = append(got, len(w)/len(record))
			if !bytes.Equal(w, bytes.Repeat(record, len(w)/len(record))) {
				t.Errorf("%s: other bytes", test.name)
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: writes of %d records, want %d", test.name, got, test.want)
		}
	}
}

// A write that fails is the last one: what came after a gap would be taken for a forgery. What was kept is not sent later.
func TestRecordsBroken(t *testing.T) {
	cut := errors.New("the link is cut")
	own := errors.New("its own error")
	socket := &tape{err: cut}
	c := &records{Conn: socket}
	keep := func() error {
		_, err := c.Write([]byte("kept"))
		return err
	}
	if err := c.together(keep); !errors.Is(err, cut) {
		t.Errorf("together: %v", err)
	}
	socket.err = nil
	if err := c.together(keep); !errors.Is(err, cut) {
		t.Errorf("together afterwards: %v", err)
	}
	if n, err := c.Write([]byte("goodbye")); n != 0 || !errors.Is(err, cut) {
		t.Errorf("write afterwards: %d, %v", n, err)
	}
	if len(socket.writes) != 0 {
		t.Errorf("written after it broke: %q", socket.writes)
	}
	c = &records{Conn: socket}
	if err := c.together(func() error { return errors.Join(keep(), own) }); !errors.Is(err, own) {
		t.Errorf("together, what ends with an error: %v", err)
	}
	if want := [][]byte{[]byte("kept")}; !slices.EqualFunc(socket.writes, want, bytes.Equal) {
		t.Errorf("written: %q", socket.writes)
	}
}

// counting is a listener whose connections count their writes.
type counting struct {
	net.Listener
	writes *atomic.Int64
}

func (l counting) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return counted{conn, l.writes}, err
}

type counted struct {
	net.Conn
	writes *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// A secured reply of 8 MiB is 512 records, and no system call for each of them.
func TestRecordsOfReplies(t *testing.T) {
	device := newMemory(8 << 20)
	mustWrite(t, device, pattern(8<<20), 0)
	a := newAuthority(t)
	s := startServer(t, ServerOptions{TLS: a.serverConfig()}, NewExport("disk", "a test", device))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var writes atomic.Int64
	served := make(chan error, 1)
	go func() { served <- s.Serve(counting{l, &writes}, ListenOptions{RequireTLS: true}) }()
	defer func() {
		s.Close(timeLimit(t))
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	}()
	d := dial(t, DialOptions{Network: "tcp", Address: l.Addr().String(), Export: "disk", TLS: a.clientConfig()})
	writes.Store(0)
	if !bytes.Equal(mustRead(t, d, 8<<20, 0), device.contents()) {
		t.Error("read other bytes than there are")
	}
	if n := writes.Load(); n > 60 {
		t.Errorf("%d writes to the socket", n)
	}
}
