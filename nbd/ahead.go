package nbd

import "time"

const (
	// aheadLeast is what is written ahead at once: less costs more calls than it saves waiting.
	aheadLeast = 64 << 10
	// aheadAlign is where writes ahead end: a page of the page cache is filled by one of them.
	aheadAlign = 4 << 10
)

// payloadOfWrite names what is read in errors.
const payloadOfWrite = "write payload"

// aheadPays: the payload is long, and the device as fast as memory. Where changes have an order each is one.
func (t *transmission) aheadPays(r *request) bool {
	return r.length >= 2*aheadLeast && t.export.order == nil && t.export.pace.fast()
}

// readAhead reads the payload of a WRITE that is carried out while it comes: what has come is written while the client fills its
// socket again. A client that leaves in the midst has its write carried out in part, which the protocol leaves open for a
// write without a reply.
func (t *transmission) readAhead(r request) (request, error) {
	err := t.intake.fill(r.buffer.payload(int(r.length)), func(came int) { t.writeAhead(&r, came) })
	err = t.came(payloadOfWrite, err)
	return r, err
}

// writeAhead writes what has come and was not written. It stops at the first error, when the device turns out to be slow, and
// when the export is removed: carryOut does the rest then, or says why not.
func (t *transmission) writeAhead(r *request, came int) {
	x := t.export
	align := max(uint64(x.info.MinBlock), aheadAlign)
	end := int64((r.offset+uint64(came))&^(align-1)) - int64(r.offset)
	if end-int64(r.written) < aheadLeast || r.failed != nil || !x.pace.fast() || !x.gate.enter() {
		return
	}
	defer x.gate.leave()
	began, callers := time.Now(), x.pace.enter()
	r.failed = guard(commandName(r.command), func() error { return x.write(r, int(end)) })
	x.pace.leave(callers, uint64(end)-uint64(r.written), time.Since(began))
	r.written = int(end)
}

// write carries a WRITE out up to byte end of its payload.
func (x *served) write(r *request, end int) error {
	if r.failed != nil {
		return r.failed
	}
	p := r.buffer.payload(end)[r.written:]
	return inPieces(p, int64(r.offset)+int64(r.written), x.info.MaxBlock, x.device.WriteAt)
}
