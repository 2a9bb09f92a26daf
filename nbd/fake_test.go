package nbd

import (
	"io"
	"net"
	"path/filepath"
	"testing"
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
	var flagsAndOption [4 + optionSize]byte
	if _, err := io.ReadFull(conn, flagsAndOption[:]); err != nil {
		return err
	}
	h := decodeOption((*[optionSize]byte)(flagsAndOption[4:]))
	if _, err := io.CopyN(io.Discard, conn, int64(h.Length)); err != nil {
		return err
	}
	reply := appendOptionReply(nil, h.ID, repInfo, encodeExport(Session{Size: size, Flags: flags}))
	_, err := conn.Write(appendOptionReply(reply, h.ID, repAck, nil))
	return err
}

// serveFake answers requests with the codes that answer gives; reads are answered with zeroes.
func serveFake(conn net.Conn, answer func(request) uint32) {
	for {
		var b [requestSize]byte
		if _, err := io.ReadFull(conn, b[:]); err != nil {
			return
		}
		r := request{TransmissionRequestHeader: decodeRequest(&b)}
		if r.Type == cmdDisconnect {
			return
		}
		if r.Type == cmdWrite {
			io.CopyN(io.Discard, conn, int64(r.Length))
		}
		code := answer(r)
		reply := make([]byte, replySize)
		encodeReply(reply, code, r.Handle)
		if r.Type == cmdRead && code == 0 {
			reply = append(reply, make([]byte, r.Length)...)
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
