package nbd

import (
	"bufio"
	"errors"
	"io"
	"net"
	"time"
)

// intake reads a connection's requests. What is slow to come has a deadline; what has come already costs no system call.
type intake struct {
	conn     net.Conn // with TLS the secured one
	reader   *bufio.Reader
	deadline func(d time.Duration) error // for the next read; 0: none
	idle     time.Duration
	stall    time.Duration
}

// ready reports whether n bytes have come already.
func (in *intake) ready(n int) bool { return in.reader.Buffered() >= n }

// head returns the next n bytes, n small. They are good until the next call. io.EOF is the end of the stream before the
// first of them.
func (in *intake) head(n int) ([]byte, error) {
	if !in.ready(n) {
		if err := in.deadline(in.idle); err != nil {
			return nil, err
		}
		if _, err := in.reader.Peek(1); err != nil {
			return nil, err
		}
	}
	if !in.ready(n) {
		if err := in.deadline(in.stall); err != nil {
			return nil, err
		}
	}
	b, err := in.reader.Peek(n)
	if err != nil {
		return nil, inside(err)
	}
	_, err = in.reader.Discard(n)
	return b, err
}

// fill reads p.
func (in *intake) fill(p []byte) error {
	for len(p) > 0 {
		piece := p[:min(len(p), stallPiece)]
		if !in.ready(len(piece)) {
			if err := in.deadline(in.stall); err != nil {
				return err
			}
		}
		if _, err := io.ReadFull(in.reader, piece); err != nil {
			return inside(err)
		}
		p = p[len(piece):]
	}
	return nil
}

// skip reads n bytes away.
func (in *intake) skip(n uint64) error {
	for n > 0 {
		if err := in.deadline(in.stall); err != nil {
			return err
		}
		skipped, err := in.reader.Discard(int(min(n, stallPiece)))
		if err != nil {
			return inside(err)
		}
		n -= uint64(skipped)
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
