package nbd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// transmission is the server's end of one connection after negotiation ("Transmission").
//
// Its workers are the bound on requests in flight. One of them has the turn: it reads a request with all that belongs to
// it, passes the turn on, carries the request out and replies. Nothing is handed from one goroutine to another, and no
// request is read that there is no worker and no memory for. While the device answers as fast as memory does, the turn
// is kept: then one worker does request after request, with one warm buffer, and short replies leave together.
type transmission struct {
	conn    net.Conn // with TLS the secured one
	raw     net.Conn // the socket below it
	export  *served
	session Session
	client  Client
	who     identity
	since   time.Time
	counters
	shared *shared
	log    *slog.Logger

	turn    chan struct{} // holds one token: the right to read, and to the three fields below
	intake  *intake
	stopped bool // no request follows
	started int  // workers

	idle    atomic.Int64 // workers that wait for the turn
	workers sync.WaitGroup
	memory  *allowance // this connection's payload in flight
	outlet  outlet
	watch   *watch

	ctx    context.Context // ends waiting for memory
	cancel context.CancelFunc
	over   chan struct{} // closed when nothing is in flight and nothing follows
	mu     sync.Mutex
	ending bool      // no further request is to be read
	cause  error     // why it ended, if not in good order
	until  time.Time // the socket's read deadline
}

// shared is what all connections of a server share.
type shared struct {
	limits   Limits
	buffers  bufferPool
	budget   *budget // payload in flight on all connections
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
		turn: make(chan struct{}, 1), over: make(chan struct{}), who: identity{session.Key, session.Generation},
		memory: shared.budget.allow(shared.limits.ConnectionBytes),
	}
	t.intake = newIntake(conn, shared.limits.IdleTimeout, shared.limits.StallTimeout, t.await)
	t.outlet = outlet{conn: conn, raw: raw, records: recordsOf(conn), stall: shared.limits.StallTimeout, drain: shared.limits.DrainTimeout, composer: composer{session: &t.session}}
	t.watch = newWatch(t.late)
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t, nil
}

// run serves until the client leaves, the connection breaks, or end or cut is called; then it waits for what is being
// carried out, and closes the connection. It returns nil when the end was in good order.
func (t *transmission) run() error {
	defer t.cancel()
	defer close(t.over)
	if !t.export.join(t) {
		t.raw.Close()
		return fmt.Errorf("export %s was removed: %w", t.session.Export, ErrNoExport)
	}
	defer t.export.part(t)
	t.staff()
	t.turn <- struct{}{}
	t.workers.Wait()
	t.watch.stop()
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
		r, todo, kept := t.serve()
		if kept {
			t.passOn(todo)
		}
		if todo {
			t.perform(&r, false)
		} else if kept {
			return
		}
		t.idle.Add(1)
	}
}

// passOn gives the turn to another worker, and sees to it that there is one if there can be.
func (t *transmission) passOn(more bool) {
	if more && t.idle.Load() == 0 {
		t.staff()
	}
	t.turn <- struct{}{}
}

// late passes on the turn of a worker whose device is late.
func (t *transmission) late() {
	t.export.pace.part()
	t.settle()
	t.passOn(true)
}

// serve does requests while the turn is worth keeping. It returns the first one that is not: it is to do, with the turn
// kept. With the turn kept and nothing to do no request follows; without it the turn was taken away.
func (t *transmission) serve() (r request, todo, kept bool) {
	for {
		r, ok := t.next()
		if !ok {
			t.settle()
			return r, false, true
		}
		if !t.export.pace.quick(&r) {
			t.settle()
			return r, true, true
		}
		if !t.perform(&r, true) {
			return r, false, false
		}
	}
}

// next reads a request. False: none follows.
func (t *transmission) next() (request, bool) {
	if t.stopped {
		return request{}, false
	}
	r, err := t.read()
	switch {
	case err == nil && r.command == cmdDisconnect && r.refused.code != 0:
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
	h, err := t.readHead()
	if err != nil {
		return request{}, err
	}
	r := request{head: h}
	follows := h.follows(t.session.Extended)
	if t.session.Extended && follows > uint64(t.session.MaxPayload) {
		return r, fmt.Errorf("%s with a payload of %d bytes: %w", commandName(h.command), follows, ErrProtocol)
	}
	if h.command == cmdBlockStatus && follows > 0 && t.session.has(canStatusPayload) {
		err := t.readContexts(&r, follows)
		return r, err
	}
	r.refused = validate(h, &t.session)
	r.sent = r.refused.code == 0 && t.export.sendable(h) && t.outlet.sends()
	if n := r.room(); n > 0 {
		if r.buffer, err = t.reserve(n); errors.Is(err, errEnding) {
			return r, err
		} else if err != nil {
			r.refused = refusal{codeENOMEM, codeWords[codeENOMEM]}
		}
	}
	if follows == 0 {
		return r, nil
	}
	if !t.intake.ready(int(follows)) {
		t.settle()
	}
	if r.buffer == nil || h.command != cmdWrite {
		return r, t.came(fmt.Sprintf("payload of a refused %s", commandName(h.command)), t.intake.skip(follows))
	}
	if t.aheadPays(&r) {
		return t.readAhead(r)
	}
	return r, t.came(payloadOfWrite, t.intake.fill(r.buffer.payload(int(follows)), nil))
}

// readContexts reads the payload of a BLOCK_STATUS, which has the length that the head of others has.
func (t *transmission) readContexts(r *request, n uint64) error {
	t.settle()
	payload := make([]byte, min(n, 8+4*maxContexts))
	if err := t.came("contexts", t.intake.fill(payload, nil)); err != nil {
		return err
	}
	if err := t.came("contexts", t.intake.skip(n-uint64(len(payload)))); err != nil {
		return err
	}
	length, named, ok := parseContexts(payload)
	r.length, r.unanswered = length, !named
	r.refused = validate(r.head, &t.session)
	if r.refused.code == 0 && (!ok || n > uint64(len(payload))) {
		r.refused = refusal{codeEINVAL, "the payload does not name selected metadata contexts, each once"}
	}
	return nil
}

func (t *transmission) readHead() (head, error) {
	size, want := t.headSize(), protocol.TRANSMISSION_MAGIC_REQUEST
	if t.session.Extended {
		want = magicExtendedRequest
	}
	if !t.intake.ready(size) {
		t.settle()
	}
	b, err := t.intake.head(size)
	if err != nil {
		return head{}, t.came("request", err)
	}
	magic, h := decodeHead(b, t.session.Extended)
	if magic != want {
		return h, fmt.Errorf("request magic %#x: %w", magic, ErrProtocol)
	}
	return h, nil
}

// headSize is the length of the head of a request.
func (t *transmission) headSize() int {
	if t.session.Extended {
		return extendedSize
	}
	return requestSize
}

// came is the error of a read with what was to be read, or errEnding in place of what end and cut make of it.
func (t *transmission) came(what string, err error) error {
	if err == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ending {
		return errEnding
	}
	return fmt.Errorf("%s: %w", what, err)
}

// await gives the client at least three quarters of d, and d at most, for the next read; zero is for ever. So the deadline,
// a timer of the runtime's that wakes a thread, is rarely set. A connection that is ending keeps its past deadline.
func (t *transmission) await(d time.Duration) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ending {
		return errEnding
	}
	if d == 0 {
		t.until = time.Time{}
		return t.raw.SetReadDeadline(t.until)
	}
	now := time.Now()
	if left := t.until.Sub(now); left >= d-d/4 && left <= d {
		return nil
	}
	t.until = now.Add(d)
	return t.raw.SetReadDeadline(t.until)
}

// reserve waits until n bytes of payload may be in flight, on this connection and on all. Meanwhile nothing is read. Another
// error than errEnding: the system has no memory.
func (t *transmission) reserve(n int) (*buffer, error) {
	size := bufferSize(n)
	if !t.memory.try(size) {
		t.settle()
		if t.memory.wait(t.ctx, size) != nil {
			return nil, errEnding
		}
	}
	b, err := t.shared.buffers.get(n)
	if err != nil {
		t.memory.give(size)
	}
	return b, err
}

func (t *transmission) release(b *buffer) {
	if b == nil {
		return
	}
	size := b.size()
	t.shared.buffers.put(b)
	t.memory.give(size)
}

// perform carries a request out, unless it is refused, and replies. With the turn it reports whether that was kept; then
// the reply may leave later, with others.
func (t *transmission) perform(r *request, turn bool) (kept bool) {
	began := time.Now()
	o := outcome{refusal: r.refused}
	kept = turn
	if r.sent {
		o = t.send(r, kept)
	} else if o.code == 0 {
		if turn {
			o, kept = t.carryOutHere(r, began)
		} else {
			o = t.carryOut(r)
		}
		t.export.observe(r.head, began)
	}
	hold := kept && t.intake.ready(t.headSize()) // the next reply is near
	t.count(r, o.code)
	t.export.count(r, o.code)
	t.shared.counters.count(r, o.code)
	if !r.sent {
		t.answered(t.outlet.reply(r, o, hold))
	}
	t.release(r.buffer)
	if t.shared.observer != nil {
		t.shared.observer.Observe(time.Since(began).Seconds())
	}
	return kept
}

// carryOutHere does a request with the turn, and reports whether it was kept.
func (t *transmission) carryOutHere(r *request, began time.Time) (o outcome, kept bool) {
	callers := t.export.pace.enter()
	call := t.watch.begin()
	o = t.carryOut(r)
	kept = t.watch.end(call)
	t.export.pace.leave(callers, r.length, time.Since(began))
	return o, kept
}

// send replies to a READ from the device's file, inside the export's fence.
func (t *transmission) send(r *request, hold bool) (o outcome) {
	if !t.export.gate.enter() {
		o = outcome{refusal: refusal{codeESHUTDOWN, codeWords[codeESHUTDOWN]}}
		t.answered(t.outlet.reply(r, o, hold))
		return o
	}
	defer t.export.gate.leave()
	code, slow, err := t.outlet.send(r, t.export.info.File, hold)
	if slow {
		t.export.pace.hang()
	} else {
		t.export.pace.good()
	}
	t.answered(err)
	return outcome{refusal: refusal{code, codeWords[code]}}
}

// settle sends the replies that are held: before anything that can take time.
func (t *transmission) settle() { t.answered(t.outlet.flush()) }

// answered ends a connection that takes no replies.
func (t *transmission) answered(err error) {
	if err != nil {
		t.fail(fmt.Errorf("reply: %w", err))
	}
}

// carryOut does the request inside the export's fence: after the export was removed it is answered ESHUTDOWN
// ("Terminating the transmission phase").
func (t *transmission) carryOut(r *request) (o outcome) {
	if !t.export.gate.enter() {
		return outcome{refusal: refusal{codeESHUTDOWN, codeWords[codeESHUTDOWN]}}
	}
	defer t.export.gate.leave()
	if t.export.order != nil && rules[r.command].changes {
		defer t.export.order.end(t.export.order.begin(r.offset, r.length))
		if t.left() {
			return outcome{refusal: refusal{codeESHUTDOWN, codeWords[codeESHUTDOWN]}}
		}
	}
	var err error
	if r.command == cmdBlockStatus {
		if !r.unanswered {
			o.extents, err = t.export.status(t.ctx, r.head)
		}
	} else {
		err = t.export.carryOut(r)
	}
	if err == nil {
		return o
	}
	t.logFailure(r, err)
	code := wireCode(err, r.command, r.flags)
	return outcome{refusal: refusal{code, codeWords[code]}}
}

// logFailure tells of panics and of flushes that failed; other errors are the client's to tell.
func (t *transmission) logFailure(r *request, err error) {
	log := t.log.With("command", commandName(r.command), "offset", r.offset, "length", r.length, "error", err)
	if p := (*panicError)(nil); errors.As(err, &p) {
		log.Error("a device panicked", "stack", string(p.stack))
		return
	}
	if r.command == cmdFlush {
		log.Error("flush failed: the export refuses flushes until it is added anew")
		return
	}
	log.Debug("request failed")
}

// left ends a connection that its client has left, and reports whether that is so: what still comes of it the client may have
// asked for again elsewhere.
func (t *transmission) left() bool {
	socket, ok := t.raw.(syscall.Conn)
	if !ok || !hungUp(socket) {
		return false
	}
	t.fail(fmt.Errorf("the client left with requests in flight: %w", net.ErrClosed))
	return true
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
