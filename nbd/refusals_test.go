package nbd

import (
	"math"
	"math/bits"
	"slices"
	"testing"
)

// This file holds every command against every flag and every kind of range, on exports of all kinds, in all forms of a reply.
// What is right is written down a second time, from the protocol's text and in another way than request.go has it: as all
// faults of a request, any of which a server may answer with.

// world is what a client knows of its session.
type world struct {
	name                           string
	block                          uint64
	readOnly, fastZero             bool
	structured, extended, contexts bool
}

// worlds are the exports of startValidated in each form.
func worlds() (all []world) {
	for _, export := range []world{
		{name: "disk", block: 1, fastZero: true}, {name: "sectors", block: 512, fastZero: true}, {name: "slow", block: 1},
		{name: "fixed", block: 1, readOnly: true},
	} {
		for _, form := range []struct{ structured, extended, contexts bool }{
			{}, {true, false, false}, {true, false, true}, {true, true, false}, {true, true, true},
		} {
			w := export
			w.structured, w.extended, w.contexts = form.structured, form.extended, form.contexts
			all = append(all, w)
		}
	}
	return all
}

// faults are the errors of a request ("Request types", "Command flags", "Error values", "Size constraints"). Without any it
// must be carried out.
func (w world) faults(h head) (codes []uint32) {
	is := func(commands ...uint16) bool { return slices.Contains(commands, h.command) }
	set := func(flag uint16) bool { return h.flags&flag != 0 }
	fault := func(is bool, code uint32) {
		if is {
			codes = append(codes, code)
		}
	}
	if !is(cmdRead, cmdWrite, cmdFlush, cmdTrim, cmdCache, cmdWriteZeroes, cmdBlockStatus) {
		return []uint32{codeEINVAL}
	}
	fault(set(flagFUA) && w.readOnly, codeEINVAL) // not offered where nothing can be written
	fault(set(flagNoHole) && !is(cmdWriteZeroes), codeEINVAL)
	fault(set(flagDF) && !(is(cmdRead) && w.structured), codeEINVAL)
	fault(set(flagReqOne) && !is(cmdBlockStatus), codeEINVAL)
	fault(set(flagFastZero) && !(is(cmdWriteZeroes) && w.fastZero), codeEINVAL)
	fault(set(flagPayload) && !(w.extended && (is(cmdWrite) || is(cmdBlockStatus) && w.contexts)), codeEINVAL)
	fault(!set(flagPayload) && w.extended && is(cmdWrite), codeEINVAL)
	fault(h.flags >= flagPayload<<1, codeEINVAL)
	fault(is(cmdBlockStatus) && !w.contexts, codeEINVAL)
	fault(is(cmdWrite, cmdTrim, cmdWriteZeroes) && w.readOnly, codeEPERM)
	if is(cmdFlush) {
		fault(h.offset != 0 || h.length != 0, codeEINVAL)
		return codes
	}
	end, over := bits.Add64(h.offset, h.length, 0)
	past := over == 1 || end > diskSize
	fault(past && is(cmdRead, cmdTrim, cmdCache, cmdBlockStatus), codeEINVAL)
	fault(past && is(cmdWrite, cmdWriteZeroes), codeENOSPC)
	fault(h.length > 32<<20 && is(cmdRead, cmdCache), codeEOVERFLOW)
	fault(h.length > 32<<20 && is(cmdWrite), codeEINVAL)
	fault((h.offset|h.length)&(w.block-1) != 0, codeEINVAL)
	fault(is(cmdBlockStatus) && h.length == 0, codeEINVAL)
	return codes
}

var (
	allCommands = []uint16{cmdRead, cmdWrite, cmdFlush, cmdTrim, cmdCache, cmdWriteZeroes, cmdBlockStatus, 8, 99, math.MaxUint16}

	allRanges = []struct{ offset, length uint64 }{
		{0, 512}, {diskSize - 512, 512}, {1024, 4096}, // within
		{0, 0}, {512, 0}, {diskSize, 0}, {diskSize + 512, 0}, // of no bytes
		{diskSize, 512}, {diskSize - 512, 1024}, {diskSize + 512, 512}, {1 << 40, 512}, // past the end, and over it
		{math.MaxUint64 - 511, 512}, {math.MaxUint64 - 511, 1024}, {1 << 63, 512}, {1<<63 - 512, 512}, // around all numbers
		{512, math.MaxUint32 - 511}, {0, math.MaxUint32}, // longer than all
		{1, 512}, {512, 511}, {511, 1}, {diskSize - 1, 1}, {diskSize - 1, 2}, // on no block
		{0, maxPayload}, {512, maxPayload}, {0, maxPayload + 1}, {0, maxPayload + 512}, {0, diskSize}, // as long as a payload, and longer
	}
	longRanges = []struct{ offset, length uint64 }{ // with extended headers only
		{0, 1 << 32}, {512, math.MaxUint64 - 511}, {0, math.MaxUint64}, {math.MaxUint64, math.MaxUint64}, {1 << 63, 1 << 63},
	}
)

// requests calls do with each command, flags, range that can be said in w.
func (w world) requests(flags []uint16, do func(h head)) {
	ranges := allRanges
	if w.extended {
		ranges = slices.Concat(allRanges, longRanges)
	}
	for _, command := range allCommands {
		for _, f := range flags {
			for _, r := range ranges {
				do(head{command: command, flags: f, offset: r.offset, length: r.length})
			}
		}
	}
}

// statusPayload: offset and length say nothing of the range then.
func (w world) statusPayload(h head) bool {
	return w.extended && h.command == cmdBlockStatus && h.flags&flagPayload != 0
}

// TestEveryRefusal: all flags with all others, 128 a command, as validate judges them.
func TestEveryRefusal(t *testing.T) {
	s, _ := startValidated(t)
	flags := []uint16{1 << 15, 1<<15 | flagFUA}
	for f := range flagPayload << 2 {
		flags = append(flags, f)
	}
	for _, w := range worlds() {
		session, err := s.find(w.name).session()
		if err != nil {
			t.Fatal(err)
		}
		session.Structured, session.Extended, session.Allocation = w.structured, w.extended, w.contexts
		session.Flags |= session.offered()
		w.requests(flags, func(h head) {
			if !w.statusPayload(h) && !right(validate(h, &session).code, w.faults(h)) {
				t.Errorf("%+v: %s %+v gets %d, want one of %d", w, commandName(h.command), h, validate(h, &session).code, w.faults(h))
			}
		})
	}
}

// right: the code is one of the request's faults, or it has none and is carried out.
func right(code uint32, faults []uint32) bool {
	return code == 0 && len(faults) == 0 || slices.Contains(faults, code)
}

// TestEveryRefusalOnTheWire: one connection for each world says it all, and stays in step; what is refused is so with words where the
// form has them, and does not reach the device. Long payloads are left to TestValidation and TestStatusPayload.
func TestEveryRefusalOnTheWire(t *testing.T) {
	s, o := startValidated(t)
	flags := []uint16{0, flagFUA, flagNoHole, flagDF, flagReqOne, flagFastZero, flagPayload, 1 << 6, 1 << 15, flagFUA | flagNoHole | flagFastZero,
		flagFUA | flagPayload, flagReqOne | flagPayload, math.MaxUint16}
	refused, done := map[uint16]int{}, map[uint16]int{}
	for _, w := range worlds() {
		o.Export = w.name
		client := w.open(t, o)
		device := s.find(w.name).device.(*memory)
		w.requests(flags, func(h head) {
			var payload []byte
			if !w.extended && h.command == cmdWrite || w.extended && h.flags&flagPayload != 0 {
				if h.length > 64<<10 {
					return
				}
				payload = make([]byte, h.length) // as that of a BLOCK_STATUS it asks for nothing
			}
			faults := w.faults(h)
			if w.statusPayload(h) {
				faults = []uint32{codeEINVAL}
			}
			if len(faults) == 0 && h.length > 64<<10 && h.command != cmdTrim {
				return
			}
			before := len(device.called())
			code := w.say(client, h, payload)
			if !right(code, faults) {
				t.Errorf("%+v: %s %+v is answered with %d, want one of %d", w, commandName(h.command), h, code, faults)
			}
			if code == 0 {
				done[h.command]++
			} else if refused[h.command]++; len(device.called()) != before {
				t.Errorf("%+v: %s %+v is refused, and reached the device", w, commandName(h.command), h)
			}
		})
	}
	for _, command := range allCommands {
		if known := command <= cmdBlockStatus; refused[command] == 0 || (done[command] > 0) != known {
			t.Errorf("%s: refused %d times, carried out %d times", commandName(command), refused[command], done[command])
		}
	}
}

func (w world) open(t *testing.T, o DialOptions) *raw {
	t.Helper()
	if !w.structured {
		return opened(t, o)
	}
	return chunked(t, o, w.extended, w.contexts)
}

// say sends a request and returns the code of its reply.
func (w world) say(client *raw, h head, payload []byte) uint32 {
	client.t.Helper()
	if !w.structured {
		return client.request(header(h.command, h.flags, h.offset, uint32(h.length)))
	}
	reply := client.chunks(h, payload, w.extended)
	code := codeOf(reply)
	if code != 0 && len(reply[0].payload) < 10 {
		client.t.Errorf("%+v: %s %+v is refused without words", w, commandName(h.command), h)
	}
	return code
}
