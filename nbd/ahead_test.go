package nbd

import (
	"bytes"
	"sync"
	"testing"

	"github.com/cvold/cvold/dataplane"
)

const longWrite = 256 << 10

// begun is a raw client that has sent the head of a long write, and of its payload what is given.
func begun(t *testing.T, o DialOptions, offset uint64, payload []byte) *raw {
	t.Helper()
	c := opened(t, o)
	var head [requestSize]byte
	encodeRequest(&head, header(cmdWrite, 0, offset, longWrite))
	c.send(append(head[:], payload...))
	return c
}

// writes are the ranges that a device was written at.
type writes struct {
	mu  sync.Mutex
	all [][2]int64
}

// hook takes them down, and fails from the nth on.
func (w *writes) hook(n int, err error) func(string, int64, int64) error {
	return func(call string, off, length int64) error {
		if call != "write" {
			return nil
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.all = append(w.all, [2]int64{off, length})
		if len(w.all) >= n {
			return err
		}
		return nil
	}
}

func (w *writes) ranges() [][2]int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([][2]int64(nil), w.all...)
}

// TestWriteAhead: a long write is carried out while it comes, up to whole pages, and answered when all of it is.
func TestWriteAhead(t *testing.T) {
	m, w := newMemory(1<<20), &writes{}
	m.info.MinBlock = 512
	m.setHook(w.hook(0, nil))
	_, o := serveOne(t, m)
	want := pattern(longWrite)
	c := begun(t, o, 512, want[:100_000])
	await(t, "a part is written", func() bool { return len(w.ranges()) > 0 })
	c.send(want[100_000:])
	if code := c.reply(header(cmdWrite, 0, 512, longWrite)); code != 0 {
		t.Fatalf("answered with %d", code)
	}
	at := int64(512)
	for i, r := range w.ranges() {
		if r[0] != at || i < len(w.ranges())-1 && ((r[0]+r[1])%4096 != 0 || r[1] < aheadLeast) {
			t.Errorf("written at %v", w.ranges())
			break
		}
		at += r[1]
	}
	if at != 512+longWrite || !bytes.Equal(m.contents()[512:512+longWrite], want) {
		t.Errorf("written up to %d, or something else", at)
	}
	if len(w.ranges()) < 2 {
		t.Error("nothing was written ahead")
	}
}

// TestWriteAheadFails: after the first part that fails nothing is written; the rest of the payload is read away, the client is told,
// and the connection goes on.
func TestWriteAheadFails(t *testing.T) {
	m, w := newMemory(1<<20), &writes{}
	m.setHook(w.hook(1, dataplane.ErrNoSpace))
	_, o := serveOne(t, m)
	c := begun(t, o, 0, make([]byte, 100_000))
	await(t, "a part is written", func() bool { return len(w.ranges()) > 0 })
	c.send(make([]byte, longWrite-100_000))
	if code := c.reply(header(cmdWrite, 0, 0, longWrite)); code != codeENOSPC || len(w.ranges()) != 1 {
		t.Errorf("answered with %d after %d writes", code, len(w.ranges()))
	}
	m.setHook(nil)
	if code := c.request(header(cmdFlush, 0, 0, 0)); code != 0 {
		t.Errorf("the next request is answered with %d", code)
	}
}

// TestWriteAheadPanics: a device that panics is an error, as in a write at once.
func TestWriteAheadPanics(t *testing.T) {
	m := newMemory(1 << 20)
	m.setHook(on("write", func() error { panic("no disk") }))
	_, o := serveOne(t, m)
	c := begun(t, o, 0, make([]byte, longWrite))
	if code := c.reply(header(cmdWrite, 0, 0, longWrite)); code != codeEIO {
		t.Errorf("answered with %d", code)
	}
}

// TestWriteAheadRemoved: the write fence does not wait for the rest of a payload, and lets nothing of it through.
func TestWriteAheadRemoved(t *testing.T) {
	m, w := newMemory(1<<20), &writes{}
	m.setHook(w.hook(0, nil))
	s, o := serveOne(t, m)
	begun(t, o, 0, make([]byte, 100_000))
	await(t, "a part is written", func() bool { return len(w.ranges()) > 0 })
	if err := s.Remove(timeLimit(t), o.Export); err != nil {
		t.Fatal(err)
	}
	if n := len(w.ranges()); n != 1 {
		t.Errorf("%d writes", n)
	}
}

// TestWriteAheadLeft: a client that leaves in the midst of a payload is no trouble for others.
func TestWriteAheadLeft(t *testing.T) {
	m, w := newMemory(1<<20), &writes{}
	m.setHook(w.hook(0, nil))
	s, o := serveOne(t, m)
	c := begun(t, o, 0, make([]byte, 100_000))
	await(t, "a part is written", func() bool { return len(w.ranges()) > 0 })
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	await(t, "the connection is counted as broken", func() bool { return s.Stats().Broken == 1 })
	mustWrite(t, dial(t, o), pattern(longWrite), 0)
}

// TestWriteAtOnce: slow devices, and exports whose changes have an order, are written when all has come.
func TestWriteAtOnce(t *testing.T) {
	for _, slow := range []bool{true, false} {
		m, w := newMemory(1<<20), &writes{}
		m.setHook(w.hook(0, nil))
		e := NewExport("x", "", m)
		e.Attachable = !slow
		s := startServer(t, ServerOptions{}, e)
		if slow {
			s.find("x").pace.part()
		}
		o := listen(t, s, "unix", ListenOptions{})
		o.Export = "x"
		c := begun(t, o, 0, make([]byte, longWrite))
		if code := c.reply(header(cmdWrite, 0, 0, longWrite)); code != 0 || len(w.ranges()) != 1 {
			t.Errorf("slow %v: answered with %d after the writes %v", slow, code, w.ranges())
		}
	}
}

// TestWriteAheadGoesSlow: a device that turns out to be slow in the midst gets the rest at once.
func TestWriteAheadGoesSlow(t *testing.T) {
	m, w := newMemory(1<<20), &writes{}
	var s *Server
	note := w.hook(0, nil)
	m.setHook(func(call string, off, n int64) error {
		s.find("x").pace.part()
		return note(call, off, n)
	})
	s = startServer(t, ServerOptions{}, NewExport("x", "", m))
	o := listen(t, s, "unix", ListenOptions{})
	o.Export = "x"
	c := begun(t, o, 0, make([]byte, 100_000))
	await(t, "a part is written", func() bool { return len(w.ranges()) > 0 })
	c.send(make([]byte, longWrite-100_000))
	if code := c.reply(header(cmdWrite, 0, 0, longWrite)); code != 0 || len(w.ranges()) != 2 {
		t.Errorf("answered with %d after the writes %v", code, w.ranges())
	}
}
