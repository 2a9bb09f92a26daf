package nbd

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"testing"
	"time"

	"github.com/cvold/cvold/dataplane"
)

// TestHostileReplies: a server that answers nonsense loses the client, at once.
func TestHostileReplies(t *testing.T) {
	for name, reply := range map[string]func(handle uint64) []byte{
		"magic":            func(h uint64) []byte { return make([]byte, replySize) },
		"structured":       func(h uint64) []byte { return binary.BigEndian.AppendUint64([]byte{0x66, 0x8e, 0x33, 0xef}, h) },
		"unknown cookie":   func(h uint64) []byte { return simple(0, h+1) },
		"cookie of before": func(h uint64) []byte { return simple(0, h-1<<32) },
		"huge cookie":      func(h uint64) []byte { return simple(0, math.MaxUint64) },
		"twice":            func(h uint64) []byte { return append(simple(codeEIO, h), simple(codeEIO, h)...) },
		"half a reply":     func(h uint64) []byte { return simple(0, h)[:10] },
		"half a payload":   func(h uint64) []byte { return append(simple(0, h), make([]byte, 511)...) },
		"nothing":          func(h uint64) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			o := fakeServer(t, func(conn net.Conn) {
				var b [requestSize]byte
				if greetFake(conn, everything, 1<<20) != nil {
					return
				}
				if _, err := io.ReadFull(conn, b[:]); err == nil {
					conn.Write(reply(decodeRequest(&b).Handle))
				}
			})
			d := dial(t, o)
			if _, err := d.ReadAt(make([]byte, 512), 0); err == nil {
				t.Error("the read went well")
			}
			_, err := d.ReadAt(make([]byte, 512), 0)
			wantError(t, err, dataplane.ErrDisconnected)
		})
	}
}

func simple(code uint32, handle uint64) []byte {
	b := make([]byte, replySize)
	encodeReply(b, code, handle)
	return b
}

// byName are answers to NBD_OPT_EXPORT_NAME, by the case of TestHostileNegotiation.
var byName = map[string][]byte{
	"no GO, a size":      append([]byte{0, 0, 0, 0, 0, 0, 2, 0, 0, 1}, make([]byte, exportNameZeroes)...),
	"no GO, half a size": {0, 0},
}

// TestHostileNegotiation: what a server must not say is not believed.
func TestHostileNegotiation(t *testing.T) {
	info := func(data ...[]byte) []byte {
		var b []byte
		for _, d := range data {
			b = appendOptionReply(b, optGo, repInfo, d)
		}
		return appendOptionReply(b, optGo, repAck, nil)
	}
	export := func(size uint64, flags uint16) []byte { return encodeExport(Session{Size: int64(size), Flags: flags}) }
	blocks := func(low, preferred, high uint32) []byte {
		return info(export(1<<20, canFlags), encodeBlockSize(Session{MinBlock: low, PreferredBlock: preferred, MaxPayload: high}))
	}
	noGo := appendOptionReply(nil, optGo, repErrUnsup, nil)
	endless := bytes.Repeat(appendOptionReply(nil, optGo, repInfo, []byte{0, 99}), maxReplies)
	long := appendOptionReply(nil, optGo, repInfo, make([]byte, maxReplyData+1))
	for name, c := range map[string]struct {
		reply []byte
		want  error
	}{
		"good":                 {blocks(1, 512, 1<<20), nil},
		"unknown information":  {info([]byte{0, 99, 1, 2}, export(512, canFlags)), nil},
		"size 2^63":            {info(export(1<<63, canFlags)), ErrProtocol},
		"flags without a flag": {info(export(512, 0)), ErrProtocol},
		"no export":            {info(), ErrProtocol},
		"short export":         {info(export(512, canFlags)[:11]), ErrProtocol},
		"long blocks":          {info(export(512, canFlags), append([]byte{0, 3}, make([]byte, 13)...)), ErrProtocol},
		"no type":              {info([]byte{0}), ErrProtocol},
		"blocks of 0":          {blocks(0, 0, 0), ErrProtocol},
		"blocks of 3":          {blocks(3, 4096, 1<<20), ErrProtocol},
		"blocks of 128 KiB":    {blocks(128<<10, 128<<10, 1<<20), ErrProtocol},
		"preferred too small":  {blocks(4096, 512, 1<<20), ErrProtocol},
		"payload of 0":         {blocks(512, 512, 0), ErrProtocol},
		"size and blocks":      {info(export(1000, canFlags), encodeBlockSize(Session{MinBlock: 512, PreferredBlock: 512, MaxPayload: 512})), ErrProtocol},
		"endless":              {endless, ErrProtocol},
		"too long":             {long, ErrProtocol},
		"another option":       {appendOptionReply(nil, optInfo, repAck, nil), ErrProtocol},
		"wrong magic":          {make([]byte, optionReplySize), ErrProtocol},
		"unknown error":        {appendOptionReply(nil, optGo, repError|99, []byte("\xff\x00")), ErrProtocol},
		"a LIST reply":         {appendOptionReply(nil, optGo, repServer, nil), ErrProtocol},
		"policy":               {appendOptionReply(nil, optGo, repErrPolicy, []byte("no")), ErrRefused},
		"TLS":                  {appendOptionReply(nil, optGo, repErrTLSReqd, nil), ErrTLSRequired},
		"shutdown":             {appendOptionReply(nil, optGo, repErrShutdown, nil), dataplane.ErrDisconnected},
		"no GO, half a size":   {noGo, io.ErrUnexpectedEOF},
		"no GO, a size":        {noGo, nil},
		"half a reply":         {appendOptionReply(nil, optGo, repAck, nil)[:19], io.ErrUnexpectedEOF},
		"half of its data":     {info(export(512, canFlags))[:25], io.ErrUnexpectedEOF},
		"nothing":              {nil, io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			o := fakeServer(t, func(conn net.Conn) {
				conn.Write([]byte("NBDMAGICIHAVEOPT\x00\x01"))
				io.CopyN(io.Discard, conn, 4)
				refuseUntil(conn, optGo)
				conn.Write(c.reply)
				if answer := byName[name]; answer != nil {
					refuseUntil(conn, optExportName)
					conn.Write(answer)
				}
			})
			d, err := Dial(timeLimit(t), o)
			if err == nil {
				d.Close()
			}
			if !errors.Is(err, c.want) {
				t.Errorf("error is %v, want %v", err, c.want)
			}
		})
	}
}

// TestHostileSTARTTLS: TLS that was demanded is had, or the connection is not.
func TestHostileSTARTTLS(t *testing.T) {
	for name, c := range map[string]struct {
		reply []byte
		want  error
	}{
		"unsupported":   {appendOptionReply(nil, optStartTLS, repErrUnsup, nil), ErrNoTLS},
		"policy":        {appendOptionReply(nil, optStartTLS, repErrPolicy, []byte("no")), ErrNoTLS},
		"ACK with data": {appendOptionReply(nil, optStartTLS, repAck, []byte("x")), ErrProtocol},
		"no ACK":        {appendOptionReply(nil, optStartTLS, repServer, nil), ErrProtocol},
		"nothing":       {nil, io.EOF},
		"no TLS behind": {appendOptionReply(nil, optStartTLS, repAck, nil), io.EOF},
	} {
		o := fakeServer(t, func(conn net.Conn) {
			conn.Write([]byte("NBDMAGICIHAVEOPT\x00\x01"))
			io.ReadFull(conn, make([]byte, 4+optionSize))
			conn.Write(c.reply)
			conn.(*net.UnixConn).CloseWrite()
			io.Copy(io.Discard, conn)
		})
		o.TLS = &tls.Config{ServerName: "localhost"}
		if _, err := Dial(timeLimit(t), o); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestGreetingsThatAreNone(t *testing.T) {
	for name, greeting := range map[string]string{
		"HTTP":       "HTTP/1.1 400 Bad Request\r\n",
		"oldstyle":   "NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53\x00\x00\x00\x00",
		"not fixed":  "NBDMAGICIHAVEOPT\x00\x02",
		"other":      "NBDMAGICIHAVEOPX\x00\x03",
		"incomplete": "NBDMAGIC",
	} {
		o := fakeServer(t, func(conn net.Conn) { io.WriteString(conn, greeting) })
		if _, err := Dial(timeLimit(t), o); err == nil || name != "incomplete" && !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSilentServer: neither the deadline nor the caller's context waits for it.
func TestSilentServer(t *testing.T) {
	accepted := make(chan struct{}, 2)
	o := fakeServer(t, func(conn net.Conn) {
		accepted <- struct{}{}
		conn.Read(make([]byte, 1)) // until the client hangs up
	})
	o.Timeout = 20 * time.Millisecond
	_, err := Dial(timeLimit(t), o)
	wantError(t, err, context.DeadlineExceeded)
	<-accepted
	o.Timeout = 0
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-accepted; cancel() }()
	_, err = Dial(ctx, o)
	wantError(t, err, context.Canceled)
}
