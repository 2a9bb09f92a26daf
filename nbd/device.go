package nbd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/cvold/cvold/dataplane"
)

const (
	// zeroPiece is the longest WRITE_ZEROES or TRIM: a server that really writes is done with it in about a second, and
	// it is a multiple of every block size.
	zeroPiece = 128 << 20
	// farewellTimeout bounds NBD_CMD_DISC to a server that does not read.
	farewellTimeout = time.Second
)

// Device is an export of an NBD server, opened by Dial. It is a dataplane.Device.
//
// A connection that breaks ends the device: what is in flight and all later calls fail with dataplane.ErrDisconnected
// (whether they were carried out is not known), and nothing is sent again. A request that exceeds DialOptions.Timeout
// does the same with an error that is dataplane.ErrAbandoned, too. A failed Sync is sticky. Close it in any case.
type Device struct {
	session Session
	timeout time.Duration // of a request; 0: none
	log     *slog.Logger
	links   []*link
	free    chan *slot // of all links in turn
	gate    gate
	flusher flusher

	mu        sync.Mutex
	err       error         // why the device ended
	ended     chan struct{} // closed when err is set
	receivers sync.WaitGroup
}

func newDevice(connections []negotiated, o DialOptions) *Device {
	d := &Device{
		session: connections[0].session, timeout: o.Timeout, log: o.Logger,
		free:  make(chan *slot, len(connections)*o.Requests),
		ended: make(chan struct{}),
	}
	for _, c := range connections {
		d.links = append(d.links, newLink(c, o.Requests))
	}
	for n := range o.Requests {
		for _, l := range d.links {
			d.free <- d.arm(l.slots[n])
		}
	}
	for _, l := range d.links {
		d.receivers.Go(func() {
			d.end(fmt.Errorf("%w: %w", dataplane.ErrDisconnected, l.receive()))
			l.bury(d.cause())
		})
	}
	return d
}

// arm gives the slot a stopped timer, if requests have a deadline.
func (d *Device) arm(s *slot) *slot {
	if d.timeout > 0 {
		s.timer = time.AfterFunc(d.timeout, func() {
			d.end(fmt.Errorf("no reply within %v: %w: %w", d.timeout, dataplane.ErrAbandoned, dataplane.ErrDisconnected))
		})
		s.timer.Stop()
	}
	return s
}

// end breaks the device for the first reason that comes.
func (d *Device) end(err error) {
	if d.settle(err) {
		d.log.Warn("NBD device broke", "export", d.session.Export, "server", d.session.Address, "error", err)
		d.disconnect()
	}
}

// settle says why the device ends; false: it has ended already.
func (d *Device) settle(err error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return false
	}
	d.err = err
	close(d.ended)
	return true
}

func (d *Device) disconnect() {
	for _, l := range d.links {
		l.raw.Close()
	}
}

func (d *Device) cause() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// do sends a request and waits for its reply. p is what a WRITE sends or a READ fills.
func (d *Device) do(command, flags uint16, off, n int64, p []byte) error {
	_, err := d.ask(command, flags, off, n, p)
	return err
}

// ask is do with what the answer says beside an error.
func (d *Device) ask(command, flags uint16, off, n int64, p []byte) ([]dataplane.Extent, error) {
	var s *slot
	select {
	case s = <-d.free:
	case <-d.ended:
		return nil, d.cause()
	}
	defer func() { d.free <- s }()
	h := head{command: command, flags: flags, offset: uint64(off), length: uint64(n)}
	if err := s.begin(&h, p); err != nil {
		return nil, err
	}
	if s.timer != nil {
		s.timer.Reset(d.timeout)
		defer s.timer.Stop()
	}
	if err := s.link.send(h, p); err != nil {
		d.end(fmt.Errorf("%w: send: %w", dataplane.ErrDisconnected, err))
	}
	err := <-s.done // from the receiver always, for until then it may write to p
	return s.answer.extents, err
}

// enter is the check with which calls begin; who gets nil must leave the gate.
func (d *Device) enter(off, n int64, changes bool) error {
	if !d.gate.enter() {
		return dataplane.ErrClosed
	}
	err := dataplane.CheckRange(off, n, d.session.Size, int64(d.session.MinBlock))
	if changes && d.session.has(canReadOnly) {
		err = dataplane.ErrReadOnly
	}
	if err == nil {
		err = d.cause()
	}
	if err != nil {
		d.gate.leave()
	}
	return err
}

// ReadAt implements dataplane.Device. What exceeds the server's largest payload is read in several requests.
func (d *Device) ReadAt(p []byte, off int64) (int, error) {
	return d.move(cmdRead, p, off)
}

// WriteAt implements dataplane.Device. What exceeds the server's largest payload is written in several requests.
func (d *Device) WriteAt(p []byte, off int64) (int, error) {
	return d.move(cmdWrite, p, off)
}

func (d *Device) move(command uint16, p []byte, off int64) (moved int, err error) {
	if err := d.enter(off, int64(len(p)), command == cmdWrite); err != nil {
		return 0, err
	}
	defer d.gate.leave()
	err = inPieces(p, off, int64(d.session.MaxPayload), func(p []byte, off int64) (int, error) {
		if err := d.do(command, 0, off, int64(len(p)), p); err != nil {
			return 0, err
		}
		moved += len(p)
		return len(p), nil
	})
	return moved, err
}

// Sync implements dataplane.Device with one FLUSH, which covers what was written on all connections ("Ordering of
// messages and writes", CAN_MULTI_CONN). Without SEND_FLUSH it is ErrNotSupported.
func (d *Device) Sync() error {
	if err := d.enter(0, 0, false); err != nil {
		return err
	}
	defer d.gate.leave()
	if !d.session.has(canFlush) {
		return fmt.Errorf("flush of export %s: %w", d.session.Export, dataplane.ErrNotSupported)
	}
	return d.flusher.flush(func() error { return d.do(cmdFlush, 0, 0, 0, nil) })
}

// Size implements dataplane.Device: what the server said at Dial.
func (d *Device) Size() (int64, error) {
	if !d.gate.enter() {
		return 0, dataplane.ErrClosed
	}
	defer d.gate.leave()
	return d.session.Size, nil
}

// ZeroAt implements dataplane.Device with WRITE_ZEROES, or by writing zeroes where the server cannot. With FastOnly a
// server may refuse in the midst of a range over 128 MiB; the part before reads as zeroes then.
func (d *Device) ZeroAt(off, n int64, mode dataplane.ZeroMode) error {
	if err := d.enter(off, n, true); err != nil {
		return err
	}
	defer d.gate.leave()
	var flags uint16
	if !mode.MayUnmap {
		flags |= flagNoHole
	}
	if mode.FastOnly {
		flags |= flagFastZero
	}
	if !d.session.has(canWriteZeroes) || mode.FastOnly && !d.session.has(canFastZero) {
		return d.writeZeroes(off, n, mode)
	}
	err := d.sweep(cmdWriteZeroes, flags, off, n)
	if errors.Is(err, dataplane.ErrNotSupported) && !mode.FastOnly {
		return d.writeZeroes(off, n, mode)
	}
	return err
}

func (d *Device) writeZeroes(off, n int64, mode dataplane.ZeroMode) error {
	return dataplane.WriteZeroes(d.WriteAt, off, n, int64(d.session.MaxPayload), mode)
}

// Discard implements dataplane.Device with TRIM; a server that cannot is not asked.
func (d *Device) Discard(off, n int64) error {
	if err := d.enter(off, n, true); err != nil {
		return err
	}
	defer d.gate.leave()
	if !d.session.has(canTrim) {
		return nil
	}
	return d.sweep(cmdTrim, 0, off, n)
}

// sweep sends a command without payload over a range, in pieces: large ones first, and of the largest payload once the
// server says that those are too long ("Size constraints").
func (d *Device) sweep(command, flags uint16, off, n int64) error {
	piece := int64(zeroPiece)
	for n > 0 {
		length := min(n, piece)
		err := d.do(command, flags, off, length, nil)
		if tooLong(err) && length > int64(d.session.MaxPayload) {
			piece = int64(d.session.MaxPayload)
			continue
		}
		if err != nil {
			return err
		}
		off, n = off+length, n-length
	}
	return nil
}

// tooLong: the server said that the command's length needs more than it is willing to give.
func tooLong(err error) bool {
	reply := (*replyError)(nil)
	return errors.As(err, &reply) && (reply.code == codeEOVERFLOW || reply.code == codeEINVAL)
}

// Extents implements dataplane.Device with BLOCK_STATUS for base:allocation: zeroes are what the server calls
// NBD_STATE_ZERO. All is data where the server has no such context.
func (d *Device) Extents(ctx context.Context, off, n int64, fn func(dataplane.Extent) error) error {
	if err := d.enter(off, n, false); err != nil {
		return err
	}
	defer d.gate.leave()
	if !d.session.Allocation {
		return dataplane.AllData(ctx, off, n, fn)
	}
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		extents, err := d.ask(cmdBlockStatus, 0, off, min(n, d.longest()), nil)
		if err != nil {
			return err
		}
		for _, e := range extents {
			if err := fn(e); err != nil {
				return err
			}
			off, n = off+e.Length, n-e.Length
		}
	}
	return nil
}

// longest is the longest range of a request without payload.
func (d *Device) longest() int64 {
	if d.session.Extended {
		return math.MaxInt64
	}
	return longestDescriptor
}

// Info implements dataplane.Device. Without the server's word on its blocks they are taken for 512 bytes, unless the
// size says otherwise.
func (d *Device) Info() dataplane.Info {
	return dataplane.Info{
		ReadOnly:       d.session.has(canReadOnly),
		MinBlock:       int64(d.session.MinBlock),
		PreferredBlock: int64(d.session.PreferredBlock),
		FastZero:       d.session.has(canFastZero) && d.session.has(canWriteZeroes),
	}
}

// Session is what was negotiated, for showing it.
func (d *Device) Session() Session { return d.session }

// Connections is the number of connections in use.
func (d *Device) Connections() int { return len(d.links) }

// Close implements dataplane.Device. It takes leave of the server (NBD_CMD_DISC) if nothing is in flight.
func (d *Device) Close() error {
	if !d.gate.close() {
		return dataplane.ErrClosed
	}
	if d.settle(dataplane.ErrClosed) && d.gate.drained() {
		for _, l := range d.links {
			l.farewell()
		}
	}
	d.disconnect()
	d.receivers.Wait()
	return d.gate.wait(context.Background())
}

// farewell sends NBD_CMD_DISC and ends TLS, as well as can be done in a short time.
func (l *link) farewell() {
	l.raw.SetWriteDeadline(time.Now().Add(farewellTimeout))
	l.send(head{command: cmdDisconnect}, nil)
	if l.conn != l.raw {
		l.conn.Close()
	}
}
