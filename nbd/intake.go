package nbd

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// intakeBytes is the buffer of what came with a head: many short requests cost one system call.
	intakeBytes = 64 << 10
	// longPayload goes from the socket to its place without the buffer; then only aheadBytes are read with it: the next
	// head, and not the next payload.
	longPayload = 32 << 10
	aheadBytes  = 64
)

// intake reads a connection's requests. What is slow to come has a deadline; what has come already costs no system call.
type intake struct {
	conn     net.Conn                    // with TLS the secured one
	raw      syscall.RawConn             // the socket, for two reads in one; nil with TLS
	deadline func(d time.Duration) error // for the next read; 0: none
	idle     time.Duration
	stall    time.Duration

	buffer  []byte
	r, w    int  // what came and was not taken is buffer[r:w]
	long    bool // the last payload was long
	vectors [2][]byte
	got     int
	err     error
	readv   func(fd uintptr) bool // made once
}

func newIntake(conn net.Conn, idle, stall time.Duration, deadline func(time.Duration) error) *intake {
	in := &intake{conn: conn, deadline: deadline, idle: idle, stall: stall, buffer: make([]byte, intakeBytes)}
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			in.raw = raw
		}
	}
	in.readv = func(fd uintptr) bool {
		in.got, in.err = unix.Readv(int(fd), in.vectors[:])
		return !errors.Is(in.err, unix.EAGAIN) && !errors.Is(in.err, unix.EINTR)
	}
	return in
}

// ready reports whether n bytes have come already.
func (in *intake) ready(n int) bool { return in.w-in.r >= n }

// head returns the next n bytes, n small. They are good until the next call. io.EOF is the end of the stream before the
// first of them.
func (in *intake) head(n int) ([]byte, error) {
	for begun := false; !in.ready(n); {
		switch {
		case in.w == in.r && in.idle > 0:
			if err := in.deadline(in.idle); err != nil {
				return nil, err
			}
		case in.w > in.r && !begun:
			begun = true
			if err := in.deadline(in.stall); err != nil {
				return nil, err
			}
		}
		err := in.more()
		switch {
		case err == nil:
		case in.w > in.r:
			return nil, inside(err)
		case in.idle == 0 && errors.Is(err, os.ErrDeadlineExceeded):
			// It was the last message's. Nobody takes it off before, for that costs every message a timer.
			if err := in.deadline(0); err != nil {
				return nil, err
			}
		default:
			return nil, err
		}
	}
	b := in.buffer[in.r : in.r+n]
	in.r += n
	return b, nil
}

// more reads into the buffer, what was not taken first.
func (in *intake) more() error {
	in.w = copy(in.buffer, in.buffer[in.r:in.w])
	in.r = 0
	room := in.buffer[in.w:]
	if in.long {
		room = room[:min(len(room), aheadBytes)]
	}
	n, err := in.conn.Read(room)
	in.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// fill reads p, and each stallPiece of it within the deadline. It says how much has come each time that it would read on, unless
// came is nil.
func (in *intake) fill(p []byte, came func(n int)) error {
	in.long = len(p) >= longPayload
	all := len(p)
	n := copy(p, in.buffer[in.r:in.w])
	in.r += n
	for p = p[n:]; len(p) > 0; {
		if err := in.deadline(in.stall); err != nil {
			return err
		}
		piece := p[:min(len(p), stallPiece)]
		p = p[len(piece):]
		for len(piece) > 0 {
			n, err := in.direct(piece, len(p) == 0)
			if err != nil {
				return inside(err)
			}
			piece = piece[n:]
			if came != nil && len(p)+len(piece) > 0 {
				came(all - len(p) - len(piece))
			}
		}
	}
	return nil
}

// direct reads into p and, if it is the last of its message, what comes right behind into the buffer, which is empty.
func (in *intake) direct(p []byte, last bool) (int, error) {
	in.r, in.w = 0, 0
	if in.raw == nil || !last {
		return in.conn.Read(p)
	}
	ahead := in.buffer
	if in.long {
		ahead = ahead[:aheadBytes]
	}
	in.vectors = [2][]byte{p, ahead}
	outer := in.raw.Read(in.readv)
	in.vectors = [2][]byte{}
	switch {
	case outer != nil:
		return 0, outer
	case in.err != nil:
		return 0, in.err
	case in.got <= 0:
		return 0, io.EOF
	}
	n := min(in.got, len(p))
	in.w = in.got - n
	return n, nil
}

// skip reads n bytes away, each stallPiece of them within the deadline.
func (in *intake) skip(n uint64) error {
	in.long = false
	moved := uint64(stallPiece)
	for n > 0 {
		if in.r == in.w {
			if moved >= stallPiece {
				moved = 0
				if err := in.deadline(in.stall); err != nil {
					return err
				}
			}
			if err := in.more(); err != nil {
				return inside(err)
			}
		}
		skipped := min(n, uint64(in.w-in.r))
		in.r += int(skipped)
		n -= skipped
		moved += skipped
	}
	return nil
}

// inside is an error in the midst of a message, where the end of the stream is none in good order.
func inside(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
