package nbd

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// raw is a client that sends what it is told, right or wrong.
type raw struct {
	net.Conn
	t testing.TB
}

// connectRaw dials and does nothing more.
func connectRaw(t testing.TB, o DialOptions) *raw {
	t.Helper()
	conn, err := net.Dial(o.Network, o.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return &raw{conn, t}
}

// greeted has exchanged the flags.
func greeted(t testing.TB, o DialOptions) *raw {
	t.Helper()
	c := connectRaw(t, o)
	if err := (&handshake{conn: c}).greet(); err != nil {
		t.Fatal(err)
	}
	return c
}

// opened is in transmission, with simple replies.
func opened(t testing.TB, o DialOptions) *raw {
	t.Helper()
	c := connectRaw(t, o)
	h := &handshake{conn: c, export: o.Export}
	if err := h.greet(); err != nil {
		t.Fatal(err)
	}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *raw) send(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func (c *raw) receive(n int) []byte {
	c.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		c.t.Fatal(err)
	}
	return b
}

// wantClosed reads until the server closes the connection; nothing may come before.
func (c *raw) wantClosed() {
	c.t.Helper()
	n, err := c.Read(make([]byte, 1))
	var timeout net.Error
	if n != 0 || err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		c.t.Errorf("the server did not close the connection: %d bytes, %v", n, err)
	}
}

// option sends an option and returns the types and data of its replies, up to the final one.
func (c *raw) option(id uint32, data []byte) (kinds []uint32, replies [][]byte) {
	c.t.Helper()
	c.send(appendOption(nil, id, data))
	return c.replies(id)
}

func (c *raw) replies(id uint32) (kinds []uint32, replies [][]byte) {
	c.t.Helper()
	for {
		r := decodeOptionReply((*[optionReplySize]byte)(c.receive(optionReplySize)))
		if r.ReplyMagic != protocol.NEGOTIATION_MAGIC_REPLY || r.ID != id {
			c.t.Fatalf("reply %+v to option %d", r, id)
		}
		kinds, replies = append(kinds, r.Type), append(replies, c.receive(int(r.Length)))
		if r.Type != repInfo && r.Type != repServer && r.Type != repMetaContext {
			return kinds, replies
		}
	}
}

// wantOption wants the final reply to be of a kind.
func (c *raw) wantOption(id uint32, data []byte, want uint32) {
	c.t.Helper()
	kinds, _ := c.option(id, data)
	if got := kinds[len(kinds)-1]; got != want {
		c.t.Errorf("option %d with %d bytes is answered with %#x, want %#x", id, len(data), got, want)
	}
}

// question is the data of INFO and GO.
func ask(name string, wants ...uint16) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(name)))
	b = binary.BigEndian.AppendUint16(append(b, name...), uint16(len(wants)))
	for _, want := range wants {
		b = binary.BigEndian.AppendUint16(b, want)
	}
	return b
}

func header(command, flags uint16, offset uint64, length uint32) protocol.TransmissionRequestHeader {
	return protocol.TransmissionRequestHeader{Type: command, CommandFlags: flags, Offset: offset, Length: length, Handle: 42}
}

// request sends a request, a WRITE with its payload, and returns the code of its reply; the payload of a READ is read.
func (c *raw) request(h protocol.TransmissionRequestHeader) uint32 {
	c.t.Helper()
	c.sendRequest(h)
	return c.reply(h)
}

func (c *raw) sendRequest(h protocol.TransmissionRequestHeader) {
	c.t.Helper()
	var b [requestSize]byte
	encodeRequest(&b, h)
	c.send(b[:])
	if h.Type == cmdWrite {
		c.send(pattern(int(h.Length)))
	}
}

func (c *raw) reply(h protocol.TransmissionRequestHeader) uint32 {
	c.t.Helper()
	r := decodeReply((*[replySize]byte)(c.receive(replySize)))
	if r.ReplyMagic != protocol.TRANSMISSION_MAGIC_REPLY || r.Handle != h.Handle {
		c.t.Fatalf("reply %+v to %+v", r, h)
	}
	if h.Type == cmdRead && r.Error == 0 {
		c.receive(int(h.Length))
	}
	return r.Error
}
