package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cvold/cvold/dataplane"
)

// fuzzPatience is far beyond what any of these inputs takes; who needs it hangs.
const fuzzPatience = 10 * time.Second

// script is the other end of a connection: it says its bytes and takes whatever comes.
type script struct {
	net.Conn
	taken sync.WaitGroup
}

// play returns a connection to a peer that sends input, listens, and hangs up after its last byte.
func play(input []byte) (net.Conn, func()) {
	near, far := net.Pipe()
	near.SetDeadline(time.Now().Add(fuzzPatience))
	p := &script{Conn: far}
	p.taken.Go(func() { io.Copy(io.Discard, far) })
	p.taken.Go(func() {
		far.Write(input)
		far.Close()
	})
	return near, func() {
		near.Close()
		p.taken.Wait()
	}
}

func FuzzServerNegotiation(f *testing.F) {
	flags := binary.BigEndian.AppendUint32(nil, clientFixedNewstyle|clientNoZeroes)
	with := func(options ...[]byte) []byte { return append(bytes.Clone(flags), bytes.Join(options, nil)...) }
	huge := appendOption(nil, optGo, nil)
	binary.BigEndian.PutUint32(huge[12:], math.MaxUint32)
	f.Add(with(appendOption(nil, optGo, ask("disk", infoBlockSize, infoName, infoDescription))), false)
	f.Add(with(appendOption(nil, optInfo, ask("missing")), appendOption(nil, optList, nil), appendOption(nil, optAbort, nil)), false)
	f.Add(with(appendOption(nil, optStartTLS, nil), appendOption(nil, optGo, ask("disk"))), true)
	f.Add(with(appendOption(nil, optExportName, []byte("disk"))), false)
	f.Add(with(huge), true)
	goes := appendOption(nil, optGo, ask("disk"))
	for _, option := range []uint32{optStructuredReply, optExtendedHeaders} {
		begin := appendOption(nil, option, nil)
		f.Add(with(begin, appendOption(nil, optSetMetaContext, encodeQueries("disk", contextAllocation)), goes), false)
		f.Add(with(begin, appendOption(nil, optListMetaContext, encodeQueries("disk", "base:", "x-y:z")), goes), false)
		f.Add(with(begin, appendOption(nil, optListMetaContext, encodeQueries("disk", identity{strings.Repeat("0", keyLength), 7}.query())), goes), false)
		f.Add(with(begin, appendOption(nil, optSetMetaContext, encodeQueries("missing")), begin, goes), false)
	}
	f.Add([]byte{0, 0, 0, 9}, false)
	x, err := newServed(NewExport("disk", "text", newMemory(1<<20)))
	if err != nil {
		f.Fatal(err)
	}
	config := newAuthority(f).serverConfig()
	f.Fuzz(func(t *testing.T, input []byte, require bool) {
		conn, hangUp := play(input)
		defer hangUp()
		n := &negotiation{
			conn: conn, tls: config, require: require, limits: Limits{}.withDefaults(),
			list: func() []*served { return []*served{x} },
			find: func(name string) *served {
				if name == "disk" {
					return x
				}
				return nil
			},
		}
		session, err := n.run(context.Background())
		if err == nil && (require || session.Export != "disk" || session.Size != 1<<20 || session.MinBlock != 1) {
			t.Errorf("negotiated %+v", session)
		}
	})
}

// witness is a device that complains about requests that validation should not have let through.
type witness struct {
	*memory
	t *testing.T
}

func (w witness) check(off, n int64) {
	if err := dataplane.CheckRange(off, n, int64(len(w.data)), w.info.MinBlock); err != nil || n > maxPayload {
		w.t.Errorf("a device was asked for %d+%d: %v", off, n, err)
	}
}

func (w witness) ReadAt(p []byte, off int64) (int, error) {
	w.check(off, int64(len(p)))
	return w.memory.ReadAt(p, off)
}

func (w witness) WriteAt(p []byte, off int64) (int, error) {
	w.check(off, int64(len(p)))
	return w.memory.WriteAt(p, off)
}

func (w witness) ZeroAt(off, n int64, mode dataplane.ZeroMode) error {
	w.check(off, n)
	return w.memory.ZeroAt(off, n, mode)
}

func (w witness) Discard(off, n int64) error {
	w.check(off, n)
	return w.memory.Discard(off, n)
}

// The forms of a session, for FuzzServerTransmission.
const (
	formReadOnly byte = 1 << iota
	formStructured
	formExtended
)

// addRequests seeds with one request of each command, well-formed and not.
func addRequests(f *testing.F) {
	encode := func(command, flags uint16, offset uint64, length uint32, payload []byte) []byte {
		var b [requestSize]byte
		encodeRequest(&b, header(command, flags, offset, length))
		return append(b[:], payload...)
	}
	extended := func(command, flags uint16, offset, length uint64, payload ...byte) []byte {
		return append(appendHead(nil, head{command: command, flags: flags, offset: offset, length: length}, true), payload...)
	}
	for _, form := range []byte{formExtended, formExtended | formReadOnly} {
		f.Add(append(extended(cmdWrite, flagPayload, 512, 512, pattern(512)...), extended(cmdRead, flagDF, 0, 64<<10)...), form)
		f.Add(append(extended(cmdBlockStatus, flagPayload, 0, 12, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1), extended(cmdBlockStatus, flagReqOne, 0, 1024)...), form)
		f.Add(append(extended(cmdTrim, 0, 0, math.MaxUint64), extended(cmdCache, flagPayload, 0, 8, pattern(8)...)...), form)
		f.Add(extended(cmdWrite, flagPayload, 0, math.MaxUint64), form)
	}
	f.Add(append(encode(cmdBlockStatus, 0, 0, 4096, nil), encode(cmdRead, flagDF, 0, 4096, nil)...), formStructured)
	f.Add(append(encode(cmdCache, 0, 0, 4096, nil), encode(cmdRead, 0, 0, 64<<10, nil)...), formStructured)
	read := encode(cmdRead, 0, 0, 512, nil)
	f.Add(append(encode(cmdWrite, flagFUA, 512, 512, pattern(512)), read...), byte(0))
	f.Add(append(encode(cmdWrite, 0, math.MaxUint64, 512, pattern(512)), read...), formReadOnly)
	f.Add(bytes.Join([][]byte{encode(cmdFlush, 0, 0, 0, nil), encode(cmdTrim, 0, 0, 1024, nil), encode(cmdDisconnect, 0, 0, 0, nil)}, nil), byte(0))
	f.Add(append(encode(cmdWriteZeroes, flagNoHole|flagFastZero, 0, 4096, nil), encode(77, 77, 77, 77, nil)...), byte(0))
	f.Add(encode(cmdWrite, 0, 0, math.MaxUint32, pattern(100)), byte(0))
	f.Add(encode(cmdRead, 0, 0, maxPayload+1, nil)[:27], formReadOnly)
}

func FuzzServerTransmission(f *testing.F) {
	addRequests(f)
	f.Fuzz(func(t *testing.T, input []byte, form byte) {
		readOnly := form&formReadOnly != 0
		device := newMemory(64 << 10)
		device.info.MinBlock = 512
		e := NewExport("disk", "", witness{device, t})
		e.ReadOnly = readOnly
		s := NewServer(ServerOptions{})
		if err := s.Add(e); err != nil {
			t.Fatal(err)
		}
		session, err := s.find("disk").session()
		if err != nil {
			t.Fatal(err)
		}
		session.Extended = form&formExtended != 0
		session.Structured = session.Extended || form&formStructured != 0
		session.Allocation = session.Structured
		session.Flags |= session.offered()
		conn, hangUp := play(input)
		defer hangUp()
		s.transmit(conn, conn, session, s.log)
		if readOnly && !bytes.Equal(device.contents(), make([]byte, 64<<10)) {
			t.Error("a read-only export was written")
		}
		if s.shared.budget.inUse() != 0 {
			t.Error("memory was not given back")
		}
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// The forms of a client, for FuzzClientNegotiation.
const (
	formSecured    byte = 1 << iota
	formIdentified      // says who it is
)

// addServers seeds with servers that know all options, some, or none but GO, and with some that say what they must not.
func addServers(f *testing.F) {
	reply := func(option, kind uint32, data ...byte) []byte { return appendOptionReply(nil, option, kind, data) }
	server := func(replies ...[]byte) []byte {
		return append([]byte("NBDMAGICIHAVEOPT\x00\x03"), bytes.Join(replies, nil)...)
	}
	about := func(option uint32, id uint32, name string) []byte {
		return reply(option, repMetaContext, append(binary.BigEndian.AppendUint32(nil, id), name...)...)
	}
	export := reply(optGo, repInfo, encodeExport(Session{Size: 1 << 20, Flags: everything})...)
	blocks := reply(optGo, repInfo, encodeBlockSize(Session{MinBlock: 512, PreferredBlock: 4096, MaxPayload: 1 << 20})...)
	opened := append(append(bytes.Clone(export), blocks...), reply(optGo, repAck)...)
	plain := append(reply(optExtendedHeaders, repErrUnsup), reply(optStructuredReply, repErrUnsup)...)
	extended := reply(optExtendedHeaders, repAck)
	structured := append(reply(optExtendedHeaders, repErrUnsup, []byte("no")...), reply(optStructuredReply, repAck)...)
	selected := append(about(optSetMetaContext, 7, contextAllocation), reply(optSetMetaContext, repAck)...)
	known := append(about(optListMetaContext, 0, contextSession+strings.Repeat("c", keyLength)), reply(optListMetaContext, repAck)...)
	f.Add(server(plain, opened), byte(0))
	f.Add(server(structured, selected, opened), byte(0))
	f.Add(server(extended, selected, opened), byte(0))
	f.Add(server(extended, known, selected, opened), formIdentified)
	f.Add(server(extended, reply(optListMetaContext, repErrInvalid), reply(optSetMetaContext, repErrUnknown), opened), formIdentified)
	f.Add(server(structured, about(optSetMetaContext, 7, "x-y:z"), selected, export, reply(optGo, repAck)), byte(0))
	f.Add(server(plain, reply(optGo, repErrUnsup), binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint64(nil, 1<<20), everything)), byte(0))
	f.Add(server(plain, reply(optGo, repErrUnknown, []byte("no such export")...)), byte(0))
	f.Add(server(extended, selected, reply(optGo, repErrUnsup)), byte(0))
	f.Add(server(plain, export, bytes.Repeat(blocks, maxReplies)), byte(0))
	f.Add(server(reply(optExtendedHeaders, repErrTLSReqd)), byte(0))
	f.Add(server(reply(optStartTLS, repAck)), formSecured)
	f.Add(server(reply(optStartTLS, repErrUnsup)), formSecured)
	huge := server(plain, reply(optGo, repInfo))
	binary.BigEndian.PutUint32(huge[len(huge)-4:], math.MaxUint32)
	f.Add(huge, byte(0))
}

func FuzzClientNegotiation(f *testing.F) {
	addServers(f)
	config := newAuthority(f).clientConfig()
	config.ServerName = "localhost"
	f.Fuzz(func(t *testing.T, input []byte, form byte) {
		conn, hangUp := play(input)
		defer hangUp()
		h := &handshake{conn: conn, export: "disk"}
		if form&formSecured != 0 {
			h.tls = config
		}
		if form&formIdentified != 0 {
			h.who = identity{key: strings.Repeat("k", keyLength), generation: 1}
		}
		s, err := h.run(context.Background())
		if err != nil {
			return
		}
		if h.tls != nil || s.Size < 0 || s.MinBlock == 0 || s.Size%int64(s.MinBlock) != 0 || s.MaxPayload == 0 || s.MaxPayload > maxPayload ||
			s.Extended && !s.Structured || s.Allocation && !s.Structured {
			t.Errorf("negotiated %+v", s)
		}
	})
}

// FuzzClientTransmission lets three callers wait for what a server says. The cookies of their requests are those that
// the seeds have, in some order.
func FuzzClientTransmission(f *testing.F) {
	replies := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	cookie := func(uses, number uint64) uint64 { return uses<<32 | number }
	f.Add(replies(simple(0, cookie(1, 0)), simple(0, cookie(1, 1)), simple(codeEIO, cookie(1, 2)), make([]byte, 600)), byte(0))
	f.Add(replies(simple(codeEIO, cookie(1, 0)), simple(codeEPERM, cookie(1, 0))), byte(0))
	f.Add(replies(simple(codeESHUTDOWN, cookie(1, 1))), byte(0))
	f.Add(replies(simple(0, math.MaxUint64)), byte(0))
	f.Add([]byte("\x66\x8e\x33\xef"), byte(0))
	for _, extended := range []bool{false, true} {
		form := formStructured
		if extended {
			form = formExtended
		}
		chunk := func(flags, kind uint16, number uint64, payload ...byte) []byte {
			h := chunkHead{flags: flags, kind: kind, cookie: cookie(1, number), length: uint64(len(payload))}
			return append(appendChunkHead(nil, h, extended), payload...)
		}
		at := func(offset uint64, rest ...byte) []byte {
			return append(binary.BigEndian.AppendUint64(nil, offset), rest...)
		}
		for n := range uint64(3) {
			f.Add(replies(chunk(0, chunkData, n, at(0, pattern(256)...)...), chunk(replyDone, chunkHole, n, at(256, 0, 0, 1, 0)...)), form)
			f.Add(replies(chunk(0, chunkData, n, at(128, pattern(256)...)...), chunk(replyDone, chunkHole, n, at(256, 0, 0, 1, 0)...)), form)
			f.Add(replies(chunk(0, chunkError, n, 0, 0, 0, 5, 0, 2, 'n', 'o'), chunk(replyDone, chunkNone, n)), form)
			f.Add(replies(chunk(replyDone, chunkStatus, n, appendStatus(nil, []dataplane.Extent{{Length: 1 << 20, Zero: true}}, extended)...)), form)
		}
	}
	f.Fuzz(func(t *testing.T, input []byte, form byte) {
		conn, hangUp := play(input)
		defer hangUp()
		session := Session{Size: 1 << 20, Flags: everything, MinBlock: 1, PreferredBlock: 4096, MaxPayload: maxPayload, contextID: allocationID}
		session.Extended = form&formExtended != 0
		session.Structured = session.Extended || form&formStructured != 0
		session.Allocation = session.Structured
		o, err := DialOptions{Requests: 3}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		d := newDevice([]negotiated{{conn, conn, session}}, o)
		var callers sync.WaitGroup
		callers.Go(func() { d.ReadAt(make([]byte, 512), 0) })
		callers.Go(func() { d.WriteAt(make([]byte, 512), 0) })
		callers.Go(func() {
			at := int64(0)
			d.Extents(context.Background(), 0, 1<<20, func(e dataplane.Extent) error {
				if e.Offset != at || e.Length <= 0 || e.End() > 1<<20 {
					t.Errorf("extent %+v after %d", e, at)
				}
				at = e.End()
				return nil
			})
		})
		callers.Wait()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
}
