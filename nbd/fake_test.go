package nbd

import (
	"io"
	"net"
	"path/filepath"
	"testing"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// fakeServer accepts connections on a unix socket and lets script play the server on each, until the test ends.
func fakeServer(t testing.TB, script func(conn net.Conn)) DialOptions {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "fake.sock"))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			script(conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-ended
	})
	return DialOptions{Network: "unix", Address: l.Addr().String(), Timeout: patience}
}

// greetFake does a server's part of a handshake without block sizes.
func greetFake(conn net.Conn, flags uint16, size int64) error {
	var b [greetingSize]byte
	copy(b[:], "NBDMAGICIHAVEOPT\x00\x03")
	if _, err := conn.Write(b[:]); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, conn, 4); err != nil {
		return err
	}
	h, err := refuseUntil(conn, optGo)
	if err != nil {
		return err
	}
	reply := appendOptionReply(nil, h.ID, repInfo, encodeExport(Session{Size: size, Flags: flags}))
	_, err = conn.Write(appendOptionReply(reply, h.ID, repAck, nil))
	return err
}

// refuseUntil reads options until one comes, and does not know the others.
func refuseUntil(conn net.Conn, want uint32) (protocol.NegotiationOptionHeader, error) {
	for {
		var b [optionSize]byte
		if _, err := io.ReadFull(conn, b[:]); err != nil {
			return protocol.NegotiationOptionHeader{}, err
		}
		h := decodeOption(&b)
		if _, err := io.CopyN(io.Discard, conn, int64(h.Length)); err != nil || h.ID == want {
			return h, err
		}
		if _, err := conn.Write(appendOptionReply(nil, h.ID, repErrUnsup, nil)); err != nil {
			return h, err
		}
	}
}

// serveFake answers requests with the codes that answer gives; reads are answered with zeroes.
func serveFake(conn net.Conn, answer func(request) uint32) {
	for {
		var b [requestSize]byte
		if _, err := io.ReadFull(conn, b[:]); err != nil {
			return
		}
		r := request{head: compactHead(decodeRequest(&b))}
		if r.command == cmdDisconnect {
			return
		}
		if r.command == cmdWrite {
			io.CopyN(io.Discard, conn, int64(r.length))
		}
		code := answer(r)
		reply := make([]byte, replySize)
		encodeReply(reply, code, r.cookie)
		if r.command == cmdRead && code == 0 {
			reply = append(reply, make([]byte, r.length)...)
		}
		if _, err := conn.Write(reply); err != nil {
			return
		}
	}
}

// dialFake opens a device on a fake server.
func dialFake(t testing.TB, flags uint16, size int64, answer func(request) uint32) *Device {
	t.Helper()
	return dial(t, fakeServer(t, func(conn net.Conn) {
		if greetFake(conn, flags, size) == nil {
			serveFake(conn, answer)
		}
	}))
}
