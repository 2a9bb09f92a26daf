package nbd

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/cvold/cvold/dataplane"
	"golang.org/x/sys/unix"
)

const (
	// sendLeast is the shortest read that is sent from the device's file: shorter ones are faster copied.
	sendLeast = 64 << 10
	// sendPiece is the longest sendfile(2). A file that is in memory takes a hundredth of slowCall for it.
	sendPiece = 1 << 20
)

// sendable reports whether a READ may be sent from the device's file: one that is long, of a device as fast as memory, and
// not of a hole, which is told as such when the read goes through a buffer. The file system's word on holes decides
// about the way only.
func (x *served) sendable(h head) bool {
	if h.command != cmdRead || h.length < sendLeast || x.info.File == nil || !x.pace.fast() {
		return false
	}
	data := int64(-1)
	raw, err := x.info.File.SyscallConn()
	if err != nil || raw.Control(func(fd uintptr) { data, err = unix.Seek(int(fd), int64(h.offset), unix.SEEK_DATA) }) != nil {
		return false
	}
	return err == nil && data < int64(h.offset+h.length)
}

// sends reports whether files can be sent: not through TLS.
func (o *outlet) sends() bool {
	_, ok := o.conn.(syscall.Conn)
	return ok
}

// send replies to a READ with what the file has there. A file that fails in the midst of it is told in an error chunk, after
// padding; simple replies have no such thing, so they end the connection. slow: the file is not in memory.
func (o *outlet) send(r *request, file *os.File, hold bool) (code uint32, slow bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held = o.composer.appendSent(o.held, r)
	if err := o.flushLocked(); err != nil {
		return 0, false, err
	}
	o.sending.Store(true)
	sent, slow, failed := o.sendFile(file, int64(r.offset), int64(r.length))
	o.sending.Store(false)
	if o.hastened.Load() {
		o.armed = time.Time{} // other replies have their own time
	}
	var source *fileError
	switch {
	case failed == nil:
	case !errors.As(failed, &source) || !o.composer.session.Structured:
		return codeEIO, slow, failed
	default:
		if err := o.pad(int64(r.length) - sent); err != nil {
			return codeEIO, slow, err
		}
		code = codeEIO
	}
	if o.composer.session.Structured {
		for _, part := range o.composer.conclude(r, code) {
			o.held = append(o.held, part...)
		}
	}
	if hold {
		return code, slow, nil
	}
	return code, slow, o.flushLocked()
}

// fileError is an error of the file, not of the connection.
type fileError struct{ err error }

func (e *fileError) Error() string { return e.err.Error() }
func (e *fileError) Unwrap() error { return e.err }

// sendFile sends n bytes of the file at off, and says how many went.
func (o *outlet) sendFile(file *os.File, off, n int64) (sent int64, slow bool, err error) {
	source, err := file.SyscallConn()
	if err != nil {
		return 0, false, &fileError{err}
	}
	target, err := o.conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, false, err
	}
	for sent < n && err == nil {
		if err = o.arm(); err != nil {
			break
		}
		if o.hastened.Load() {
			_ = o.raw.SetWriteDeadline(time.Now().Add(o.drain))
		}
		outer := target.Write(func(socket uintptr) bool {
			moved, took, again, failed := sendOnce(source, socket, off+sent, min(n-sent, sendPiece))
			sent, slow, err = sent+moved, slow || took > slowCall, failed
			return !again
		})
		if err == nil {
			err = outer
		}
	}
	return sent, slow, err
}

// sendOnce is one sendfile(2). again: the socket is full.
func sendOnce(source syscall.RawConn, socket uintptr, off, n int64) (moved int64, took time.Duration, again bool, err error) {
	began := time.Now()
	sent := 0
	outer := source.Control(func(fd uintptr) { sent, err = unix.Sendfile(int(socket), int(fd), &off, int(n)) })
	took = time.Since(began)
	switch {
	case outer != nil:
		return 0, took, false, &fileError{outer} // the device was closed
	case sent > 0 || errors.Is(err, unix.EINTR):
		return int64(max(sent, 0)), took, false, nil
	case errors.Is(err, unix.EAGAIN):
		return 0, 0, true, nil
	case err == nil:
		return 0, took, false, &fileError{fmt.Errorf("the file ends at %d: %w", off, dataplane.ErrIO)}
	case errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET):
		return 0, took, false, err
	}
	return 0, took, false, &fileError{fmt.Errorf("send the file: %w", err)}
}

// pad completes a chunk that must be completed ("NBD_CMD_READ": padding bytes SHOULD be zero).
func (o *outlet) pad(n int64) error {
	for n > 0 {
		if err := o.arm(); err != nil {
			return err
		}
		wrote, err := o.conn.Write(zeroGrain[:min(n, holeGrain)])
		if err != nil {
			return err
		}
		n -= int64(wrote)
	}
	return nil
}
