package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"github.com/cvold/cvold/dataplane"
	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// holed is a memory that knows which of its parts are zeroes.
type holed struct {
	*memory
	extents []dataplane.Extent
}

func (h holed) Extents(ctx context.Context, off, n int64, fn func(dataplane.Extent) error) error {
	for _, e := range h.extents {
		from, to := max(e.Offset, off), min(e.End(), off+n)
		if from >= to {
			continue
		}
		if err := fn(dataplane.Extent{Offset: from, Length: to - from, Zero: e.Zero}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// alternating is a device of n grains of 64 KiB, of which each second one is a hole.
func alternating(n int) holed {
	h := holed{memory: newMemory(n * 64 << 10)}
	for i := range n {
		e := dataplane.Extent{Offset: int64(i) * 64 << 10, Length: 64 << 10, Zero: i%2 == 1}
		if !e.Zero {
			copy(h.data[e.Offset:e.End()], pattern(64<<10))
		}
		h.extents = append(h.extents, e)
	}
	return h
}

// chunked is in transmission with what was asked for.
func chunked(t testing.TB, o DialOptions, extended, allocation bool) *raw {
	t.Helper()
	c := greeted(t, o)
	option := optStructuredReply
	if extended {
		option = optExtendedHeaders
	}
	c.wantOption(option, nil, repAck)
	if allocation {
		c.wantOption(optSetMetaContext, encodeQueries(o.Export, contextAllocation), repAck)
	}
	c.wantOption(optGo, ask(o.Export), repAck)
	return c
}

// ofReply is a chunk of a reply, with what follows its head.
type ofReply struct {
	chunkHead
	payload []byte
}

// chunks sends a request and returns its reply's chunks, to the last one. A simple reply, of a success, is nil.
func (c *raw) chunks(h head, payload []byte, extended bool) (reply []ofReply) {
	c.t.Helper()
	h.cookie = 77
	c.send(append(appendHead(nil, h, extended), payload...))
	for {
		size := chunkHeadSize(extended)
		b := c.receive(replySize)
		if !extended && binary.BigEndian.Uint32(b) != magicStructured {
			if r := decodeReply((*[replySize]byte)(b)); r.ReplyMagic != protocol.TRANSMISSION_MAGIC_REPLY || r.Handle != 77 || r.Error != 0 {
				c.t.Fatalf("reply to %+v is %x", h, b)
			}
			return nil
		}
		b = append(b, c.receive(size-replySize)...)
		chunk := ofReply{chunkHead: decodeChunkHead(b, extended)}
		chunk.payload = c.receive(int(chunk.length))
		if chunk.cookie != 77 || extended && (binary.BigEndian.Uint32(b) != magicExtendedReply || chunk.offset != h.offset) {
			c.t.Fatalf("reply to %+v begins with %x", h, b)
		}
		reply = append(reply, chunk)
		if chunk.flags&replyDone != 0 {
			return reply
		}
	}
}

func bothForms(t *testing.T, test func(t *testing.T, extended bool)) {
	for name, extended := range map[string]bool{"structured": false, "extended": true} {
		t.Run(name, func(t *testing.T) { test(t, extended) })
	}
}

// TestReadsHaveHoles: zeroes go out as holes, whatever the device knows of them, unless the client said DF.
func TestReadsHaveHoles(t *testing.T) {
	bothForms(t, func(t *testing.T, extended bool) {
		device := alternating(160)
		_, o := serveOne(t, device)
		c := chunked(t, o, extended, false)
		for _, r := range []struct {
			offset, length uint64
			want           string // kinds of chunks
		}{
			{0, 4096, "[1]"}, {64 << 10, 4096, "[2]"}, {0, 256 << 10, "[1 2 1 2]"}, {64<<10 - 512, 1024, "[1 2]"},
			{128<<10 - 1, 2, "[2 1]"}, {1, 64 << 10, "[1 2]"}, {64<<10 + 1, 64<<10 - 2, "[2]"}, {0, 0, "[0]"},
		} {
			reply := c.chunks(head{command: cmdRead, offset: r.offset, length: r.length}, nil, extended)
			if got := fmt.Sprint(kinds(reply)); got != r.want {
				t.Errorf("read %d+%d: chunks %s, want %s", r.offset, r.length, got, r.want)
			}
			wantContents(t, reply, r.offset, device.data[r.offset:r.offset+r.length])
		}
		whole := c.chunks(head{command: cmdRead, length: 10 << 20}, nil, extended)
		if len(whole) != maxFragments {
			t.Errorf("160 pieces came in %d chunks", len(whole))
		}
		wantContents(t, whole, 0, device.data)
		df := c.chunks(head{command: cmdRead, flags: flagDF, length: 256 << 10}, nil, extended)
		if got := fmt.Sprint(kinds(df)); got != "[1]" {
			t.Errorf("with DF: chunks %s", got)
		}
		wantContents(t, df, 0, device.data[:256<<10])
	})
}

func kinds(reply []ofReply) (kinds []uint16) {
	for _, c := range reply {
		kinds = append(kinds, c.kind)
	}
	return kinds
}

// wantContents puts the chunks together.
func wantContents(t *testing.T, reply []ofReply, offset uint64, want []byte) {
	t.Helper()
	got := bytes.Repeat([]byte{0xee}, len(want))
	for _, c := range reply {
		if c.kind == chunkNone {
			continue
		}
		at := binary.BigEndian.Uint64(c.payload) - offset
		if c.kind == chunkHole {
			clear(got[at : at+uint64(binary.BigEndian.Uint32(c.payload[8:]))])
		} else {
			copy(got[at:], c.payload[8:])
		}
	}
	if !bytes.Equal(got, want) {
		t.Errorf("a read at %d gives other bytes", offset)
	}
}

// TestErrorsHaveWords: each refusal and each error of the device says what it is about, in every form of a reply.
func TestErrorsHaveWords(t *testing.T) {
	bothForms(t, func(t *testing.T, extended bool) {
		device := newMemory(1 << 20)
		device.setHook(on("read", func() error { return dataplane.ErrIO }))
		_, o := serveOne(t, device)
		c := chunked(t, o, extended, true)
		for _, r := range []struct {
			head
			payload []byte
			code    uint32
			words   string
		}{
			{head{command: cmdRead, length: 512}, nil, codeEIO, "the device failed"},
			{head{command: cmdRead, offset: 1 << 30, length: 512}, nil, codeEINVAL, "past the end"},
			{head{command: cmdRead, length: maxPayload + 1}, nil, codeEINVAL, "past the end"},
			{head{command: 99}, nil, codeEINVAL, "not known"},
			{head{command: cmdBlockStatus}, nil, codeEINVAL, "no bytes"},
			{head{command: cmdBlockStatus, flags: flagNoHole, length: 512}, nil, codeEINVAL, "flag"},
			{head{command: cmdTrim, flags: flagReqOne, length: 512}, nil, codeEINVAL, "flag"},
		} {
			reply := c.chunks(r.head, r.payload, extended)
			if len(reply) != 1 || reply[0].kind != chunkError || binary.BigEndian.Uint32(reply[0].payload) != r.code ||
				int(binary.BigEndian.Uint16(reply[0].payload[4:])) != len(reply[0].payload)-6 || !bytes.Contains(reply[0].payload[6:], []byte(r.words)) {
				t.Errorf("%+v is answered with %+v %q", r.head, kinds(reply), reply[0].payload)
			}
		}
		if reply := c.chunks(head{command: cmdFlush}, nil, extended); extended != (reply != nil) {
			t.Errorf("FLUSH is answered with %v", reply)
		}
	})
}

// descriptors decodes a status chunk.
func descriptors(payload []byte, extended bool) (text string) {
	before, each := 4, 8
	if extended {
		before, each = 8, 16
	}
	for b := payload[before:]; len(b) > 0; b = b[each:] {
		if extended {
			text += fmt.Sprintf("%d:%d ", binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]))
		} else {
			text += fmt.Sprintf("%d:%d ", binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]))
		}
	}
	return text
}

// TestBlockStatus: what is zero is said, at whole blocks, and never more than that.
func TestBlockStatus(t *testing.T) {
	bothForms(t, func(t *testing.T, extended bool) {
		device := alternating(4)
		device.info.MinBlock = 4096
		device.extents[1].Offset, device.extents[1].Length = 64<<10+1, 64<<10-1 // its first byte is data
		_, o := serveOne(t, device)
		c := chunked(t, o, extended, true)
		kind := chunkStatus
		if extended {
			kind = chunkStatusExt
		}
		for _, r := range []struct {
			flags          uint16
			offset, length uint64
			want           string
		}{
			{0, 0, 256 << 10, "69632:0 61440:3 65536:0 65536:3 "},
			{0, 0, 4096, "4096:0 "},
			{0, 192 << 10, 4096, "4096:3 "},
			{flagReqOne, 0, 256 << 10, "69632:0 "},
			{flagReqOne, 0, 8192, "8192:0 "},
			{flagReqOne, 72 << 10, 256<<10 - 72<<10, "57344:3 "},
		} {
			reply := c.chunks(head{command: cmdBlockStatus, flags: r.flags, offset: r.offset, length: r.length}, nil, extended)
			if len(reply) != 1 || reply[0].kind != kind || descriptors(reply[0].payload, extended) != r.want {
				t.Errorf("status of %d+%d: %v %s, want %s", r.offset, r.length, kinds(reply), descriptors(reply[0].payload, extended), r.want)
			}
		}
	})
}

// TestLongStatus: an answer ends somewhere, and our client goes on from there. It is the device's own word in the end.
func TestLongStatus(t *testing.T) {
	device := holed{memory: newMemory(64 << 20)}
	for at := int64(0); at < 64<<20; at += 2048 {
		device.extents = append(device.extents, dataplane.Extent{Offset: at, Length: 2048, Zero: at%4096 == 0})
	}
	_, o := serveOne(t, device)
	d := dial(t, o)
	var got []dataplane.Extent
	err := d.Extents(t.Context(), 0, 64<<20, func(e dataplane.Extent) error {
		got = append(got, e)
		return nil
	})
	if err != nil || fmt.Sprint(got) != fmt.Sprint(device.extents) {
		t.Errorf("%d extents became %d, %v", len(device.extents), len(got), err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, d.Extents(ended, 0, 512, func(dataplane.Extent) error { return nil }), context.Canceled)
	wantError(t, d.Extents(t.Context(), 0, 4096, func(dataplane.Extent) error { return errEnough }), errEnough)
}

// TestStatusPayload: with extended headers a client may name the contexts that it wants to hear of.
func TestStatusPayload(t *testing.T) {
	_, o := serveOne(t, alternating(4))
	c := chunked(t, o, true, true)
	payload := func(length uint64, ids ...uint32) []byte {
		b := binary.BigEndian.AppendUint64(nil, length)
		for _, id := range ids {
			b = binary.BigEndian.AppendUint32(b, id)
		}
		return b
	}
	many := make([]uint32, 100)
	for name, r := range map[string]struct {
		payload []byte
		want    uint16
	}{
		"ours":        {payload(128<<10, allocationID), chunkStatusExt},
		"none":        {payload(128 << 10), chunkNone},
		"twice":       {payload(128<<10, allocationID, allocationID), chunkError},
		"unknown":     {payload(128<<10, 9), chunkError},
		"too many":    {payload(128<<10, many...), chunkError},
		"short":       {make([]byte, 4), chunkError},
		"odd":         {make([]byte, 11), chunkError},
		"past an end": {payload(math.MaxUint64, allocationID), chunkError},
	} {
		reply := c.chunks(head{command: cmdBlockStatus, flags: flagPayload, length: uint64(len(r.payload))}, r.payload, true)
		if len(reply) != 1 || reply[0].kind != r.want {
			t.Errorf("%s: %v", name, kinds(reply))
		}
	}
	unasked := c.chunks(head{command: cmdTrim, flags: flagPayload, length: 100}, make([]byte, 100), true)
	bare := c.chunks(head{command: cmdWrite, length: 512}, nil, true)
	if fmt.Sprint(kinds(unasked), kinds(bare)) != fmt.Sprint([]uint16{chunkError}, []uint16{chunkError}) {
		t.Errorf("a TRIM with payload %v, a WRITE without %v", kinds(unasked), kinds(bare))
	}
	c.send(appendHead(nil, head{command: cmdWrite, flags: flagPayload, length: maxPayload + 1}, true))
	c.wantClosed()
}

// TestContexts: what is listed and selected for which queries, and what undoes it.
func TestContexts(t *testing.T) {
	s, o := serveOne(t, newMemory(4096))
	if err := s.Add(NewExport("other", "", newMemory(4096))); err != nil {
		t.Fatal(err)
	}
	many := make([]string, maxQueries+1)
	for _, q := range []struct {
		option  uint32
		export  string
		queries []string
		want    []uint32
	}{
		{optListMetaContext, "disk", nil, []uint32{repMetaContext, repAck}},
		{optListMetaContext, "disk", []string{"base:"}, []uint32{repMetaContext, repAck}},
		{optListMetaContext, "disk", []string{"qemu:", "base:nothing", "x-y:z"}, []uint32{repAck}},
		{optListMetaContext, "missing", nil, []uint32{repErrUnknown}},
		{optListMetaContext, "disk", many, []uint32{repErrTooBig}},
		{optSetMetaContext, "disk", nil, []uint32{repAck}},
		{optSetMetaContext, "disk", []string{"base:"}, []uint32{repAck}},
		{optSetMetaContext, "disk", []string{"x-y:z", contextAllocation, contextAllocation}, []uint32{repMetaContext, repAck}},
	} {
		c := greeted(t, o)
		c.wantOption(optStructuredReply, nil, repAck)
		if got, _ := c.option(q.option, encodeQueries(q.export, q.queries...)); fmt.Sprint(got) != fmt.Sprint(q.want) {
			t.Errorf("option %d for %s %q: %x, want %x", q.option, q.export, q.queries, got, q.want)
		}
	}
	for name, undo := range map[string]func(c *raw){
		"nothing":            func(*raw) {},
		"selected again":     func(c *raw) { c.wantOption(optSetMetaContext, encodeQueries("disk"), repAck) },
		"selected wrongly":   func(c *raw) { c.wantOption(optSetMetaContext, []byte{0}, repErrInvalid) },
		"for another export": func(c *raw) { c.wantOption(optSetMetaContext, encodeQueries("other", contextAllocation), repAck) },
	} {
		c := greeted(t, o)
		c.wantOption(optStructuredReply, nil, repAck)
		c.wantOption(optSetMetaContext, encodeQueries("disk", contextAllocation), repAck)
		undo(c)
		c.wantOption(optGo, ask("disk"), repAck)
		reply := c.chunks(head{command: cmdBlockStatus, length: 512}, nil, false)
		if selected := reply[0].kind == chunkStatus; selected != (name == "nothing") {
			t.Errorf("%s: the status of blocks is answered with %v", name, kinds(reply))
		}
	}
}

// TestExtendedPrevail: of the two options the second one cannot be taken back, but by STARTTLS.
func TestExtendedPrevail(t *testing.T) {
	_, o := serveOne(t, newMemory(4096))
	c := greeted(t, o)
	c.wantOption(optStructuredReply, nil, repAck)
	c.wantOption(optExtendedHeaders, nil, repAck)
	c.wantOption(optStructuredReply, nil, repErrExtended)
	c.wantOption(optExtendedHeaders, nil, repErrInvalid)
}

// TestCacheReads: the device sees the range, in pieces.
func TestCacheReads(t *testing.T) {
	device := newMemory(8 << 20)
	_, o := serveOne(t, device)
	if code := opened(t, o).request(header(cmdCache, 0, 4096, cachePiece+512)); code != 0 {
		t.Fatal(code)
	}
	if seen := device.seen(); seen["read"] != 2 {
		t.Errorf("the device was asked %v", seen)
	}
}

func TestCoverage(t *testing.T) {
	var c coverage
	for _, step := range []struct {
		from, to uint64
		ok       bool
	}{
		{10, 20, true}, {0, 5, true}, {4, 6, false}, {19, 21, false}, {12, 13, false}, {0, 100, false}, {30, 40, true},
		{5, 10, true}, {20, 30, true}, {40, 41, true}, {0, 1, false},
	} {
		if got := c.add(step.from, step.to); got != step.ok {
			t.Errorf("add %d-%d to %v: %v", step.from, step.to, c.patches, got)
		}
	}
	if !c.whole(41) || c.whole(42) {
		t.Errorf("covered %v", c.patches)
	}
	var scattered coverage
	for i := range uint64(maxPatches + 1) {
		if ok := scattered.add(2*i, 2*i+1); ok != (i < maxPatches) {
			t.Fatalf("patch %d: %v", i, ok)
		}
	}
}
