package nbd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pojntfx/go-nbd/pkg/protocol"
	"golang.org/x/sync/semaphore"
)

// transmission is the server's end of one connection after negotiation ("Transmission").
//
// Its workers are the bound on requests in flight. One of them has the turn: it reads a request with all that belongs to
// it, passes the turn on, carries the request out and replies. Nothing is handed from one goroutine to another, and no
// request is read that there is no worker and no memory for.
type transmission struct {
	conn    net.Conn // with TLS the secured one
	raw     net.Conn // the socket below it
	export  *served
	session Session
	client  Client
	since   time.Time
	counters
	shared *shared
	log    *slog.Logger

	turn    chan struct{} // holds one token: the right to read, and to the three fields below
	reader  *bufio.Reader
	stopped bool // no request follows
	started int  // workers

	idle    atomic.Int64 // workers that wait for the turn
	workers sync.WaitGroup

	bytes   *semaphore.Weighted // this connection's payload in flight
	writing sync.Mutex          // one reply at a time
	header  [replySize]byte     // a reply without payload, under writing

	ctx    context.Context // ends waiting for memory
	cancel context.CancelFunc
	mu     sync.Mutex
	ending bool  // no further request is to be read
	cause  error // why it ended, if not in good order
}

// shared is what all connections of a server share.
type shared struct {
	limits   Limits
	buffers  bufferPool
	bytes    *semaphore.Weighted // payload in flight on all connections
	counters counters
	observer Observer
}

// errEnding stops the reader of a connection that is being ended by the server.
var errEnding = errors.New("connection is ending")

// newTransmission makes the transmission of a session over conn, whose socket is raw.
func newTransmission(conn, raw net.Conn, x *served, session Session, shared *shared, log *slog.Logger) (*transmission, error) {
	client, err := session.Client()
	if err != nil {
		return nil, err
	}
	t := &transmission{
		conn: conn, raw: raw, export: x, session: session, client: client, since: time.Now(), shared: shared, log: log,
		turn:   make(chan struct{}, 1),
		reader: bufio.NewReaderSize(conn, bufferedBytes),
		bytes:  semaphore.NewWeighted(shared.limits.ConnectionBytes),
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t, nil
}

// run serves until the client leaves, the connection breaks, or end or cut is called; then it waits for what is being
// carried out, and closes the connection. It returns nil when the end was in good order.
func (t *transmission) run() error {
	defer t.cancel()
	if !t.export.join(t) {
		t.raw.Close()
		return fmt.Errorf("export %s was removed: %w", t.session.Export, ErrNoExport)
	}
	defer t.export.part(t)
	t.staff()
	t.turn <- struct{}{}
	t.workers.Wait()
	t.conn.Close() // with TLS this says goodbye first
	t.raw.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cause
}

// staff starts one more worker, if there may be one.
func (t *transmission) staff() {
	if t.started == t.shared.limits.Requests {
		return
	}
	t.started++
	t.workers.Add(1)
	t.idle.Add(1)
	go t.work()
}

func (t *transmission) work() {
	defer t.workers.Done()
	for {
		<-t.turn
		t.idle.Add(-1)
		r, ok := t.next()
		if ok && t.idle.Load() == 0 {
			t.staff()
		}
		t.turn <- struct{}{}
		if !ok {
			return
		}
		t.perform(r)
		t.idle.Add(1)
	}
}

// next reads a request. False: none follows.
func (t *transmission) next() (request, bool) {
	if t.stopped {
		return request{}, false
	}
	r, err := t.read()
	switch {
	case err == nil && r.Type == cmdDisconnect && r.refused != 0:
		// NBD_CMD_DISC is in no rule: "There is no reply"; what is in flight is carried out before the close.
		t.stopped = true
	case err != nil:
		t.stopped = true
		t.release(r.buffer)
		if !errors.Is(err, io.EOF) && !errors.Is(err, errEnding) {
			t.fail(err)
		}
	}
	return r, !t.stopped
}

// read reads a request, validates it, and reads its payload into a buffer or, when it is refused, away. io.EOF is the
// end of the stream between two requests.
func (t *transmission) read() (request, error) {
	h, err := t.readHeader()
	if err != nil {
		return request{}, err
	}
	r := request{TransmissionRequestHeader: h, refused: validate(h, &t.session)}
	if n := r.payloadSize(); n > 0 {
		if r.buffer, err = t.reserve(n); err != nil {
			return r, err
		}
		if r.Type == cmdWrite {
			return r, t.receive(r.buffer.payload(n))
		}
		return r, nil
	}
	if r.Type == cmdWrite {
		return r, t.skip(int64(h.Length))
	}
	return r, nil
}

func (t *transmission) readHeader() (protocol.TransmissionRequestHeader, error) {
	if t.reader.Buffered() < requestSize {
		if err := t.await(t.shared.limits.IdleTimeout); err != nil {
			return protocol.TransmissionRequestHeader{}, err
		}
		if _, err := t.reader.Peek(1); err != nil {
			return protocol.TransmissionRequestHeader{}, t.ended(err)
		}
		if err := t.await(t.shared.limits.StallTimeout); err != nil {
			return protocol.TransmissionRequestHeader{}, err
		}
	}
	b, err := t.reader.Peek(requestSize)
	if err != nil {
		return protocol.TransmissionRequestHeader{}, fmt.Errorf("request header: %w", t.ended(inside(err)))
	}
	h := decodeRequest((*[requestSize]byte)(b))
	if h.RequestMagic != protocol.TRANSMISSION_MAGIC_REQUEST {
		return h, fmt.Errorf("request magic %#x: %w", h.RequestMagic, ErrProtocol)
	}
	_, err = t.reader.Discard(requestSize)
	return h, err
}

// receive fills p from the connection.
func (t *transmission) receive(p []byte) error {
	for len(p) > 0 {
		if err := t.await(t.shared.limits.StallTimeout); err != nil {
			return err
		}
		n, err := io.ReadFull(t.reader, p[:min(len(p), stallPiece)])
		if err != nil {
			return fmt.Errorf("write payload: %w", t.ended(inside(err)))
		}
		p = p[n:]
	}
	return nil
}

// skip reads n bytes away.
func (t *transmission) skip(n int64) error {
	for n > 0 {
		if err := t.await(t.shared.limits.StallTimeout); err != nil {
			return err
		}
		skipped, err := t.reader.Discard(int(min(n, stallPiece)))
		if err != nil {
			return fmt.Errorf("payload of a refused request: %w", t.ended(inside(err)))
		}
		n -= int64(skipped)
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

// await gives the client d for the next read; zero is for ever. A connection that is ending keeps its past deadline.
func (t *transmission) await(d time.Duration) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ending {
		return errEnding
	}
	var deadline time.Time
	if d > 0 {
		deadline = time.Now().Add(d)
	}
	return t.raw.SetReadDeadline(deadline)
}

// ended is errEnding in place of what end and cut make of a read.
func (t *transmission) ended(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ending {
		return errEnding
	}
	return err
}

// reserve waits until n bytes of payload may be in flight, on this connection and on all. Meanwhile nothing is read.
func (t *transmission) reserve(n int) (*buffer, error) {
	size := bufferSize(n)
	if t.bytes.Acquire(t.ctx, size) != nil {
		return nil, errEnding
	}
	if t.shared.bytes.Acquire(t.ctx, size) != nil {
		t.bytes.Release(size)
		return nil, errEnding
	}
	return t.shared.buffers.get(n), nil
}

func (t *transmission) release(b *buffer) {
	if b == nil {
		return
	}
	size := b.size()
	t.shared.buffers.put(b)
	t.shared.bytes.Release(size)
	t.bytes.Release(size)
}

// perform carries a request out, unless it is refused, and replies.
func (t *transmission) perform(r request) {
	began := time.Now()
	code := r.refused
	if code == 0 {
		code = t.carryOut(r)
	}
	t.count(r, code)
	t.export.count(r, code)
	t.shared.counters.count(r, code)
	t.reply(r, code)
	t.release(r.buffer)
	if t.shared.observer != nil {
		t.shared.observer.Observe(time.Since(began).Seconds())
	}
}

// carryOut does the request inside the export's fence: after the export was removed it is answered ESHUTDOWN
// ("Terminating the transmission phase").
func (t *transmission) carryOut(r request) uint32 {
	if !t.export.gate.enter() {
		return codeESHUTDOWN
	}
	defer t.export.gate.leave()
	err := t.export.carryOut(r)
	if err != nil {
		t.logFailure(r, err)
	}
	return wireCode(err, r.Type, r.CommandFlags)
}

// logFailure tells of panics and of flushes that failed; other errors are the client's to tell.
func (t *transmission) logFailure(r request, err error) {
	log := t.log.With("command", commandName(r.Type), "offset", r.Offset, "length", r.Length, "error", err)
	if p := (*panicError)(nil); errors.As(err, &p) {
		log.Error("a device panicked", "stack", string(p.stack))
		return
	}
	if r.Type == cmdFlush {
		log.Error("flush failed: the export refuses flushes until it is added anew")
		return
	}
	log.Debug("request failed")
}

// reply sends a simple reply ("Simple reply message"), in one write. A client that does not take it is cut off.
func (t *transmission) reply(r request, code uint32) {
	t.writing.Lock()
	defer t.writing.Unlock()
	message := t.header[:]
	if code == 0 && r.Type == cmdRead && r.buffer != nil {
		message = r.buffer.reply(int(r.Length))
	}
	encodeReply(message, code, r.Handle)
	for len(message) > 0 {
		if err := t.raw.SetWriteDeadline(time.Now().Add(t.shared.limits.StallTimeout)); err != nil {
			t.fail(err)
			return
		}
		n, err := t.conn.Write(message[:min(len(message), stallPiece)])
		if err != nil {
			t.fail(fmt.Errorf("reply: %w", err))
			return
		}
		message = message[n:]
	}
}

// fail cuts the connection off for a reason.
func (t *transmission) fail(err error) {
	t.mu.Lock()
	if t.cause == nil && !t.ending {
		t.cause = err
	}
	t.mu.Unlock()
	t.cut()
}

// end reads no further request; what was read is carried out and answered.
func (t *transmission) end() {
	t.cancel()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ending = true
	t.raw.SetReadDeadline(time.Unix(1, 0))
}

// cut ends the connection now; what is being carried out finds nobody to reply to.
func (t *transmission) cut() {
	t.end()
	t.raw.Close()
}
