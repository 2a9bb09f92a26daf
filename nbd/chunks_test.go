package nbd

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/cvold/cvold/dataplane"
)

// chunkServer is a device whose server answers its first request with what answer says, and then is silent.
func chunkServer(t *testing.T, extended bool, answer func(h head, chunk chunker) []byte) *Device {
	t.Helper()
	near, far := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b := make([]byte, requestSize)
		if extended {
			b = make([]byte, extendedSize)
		}
		if _, err := io.ReadFull(far, b); err != nil {
			return
		}
		_, h := decodeHead(b, extended)
		far.Write(answer(h, func(flags, kind uint16, payload ...[]byte) []byte {
			all := []byte{}
			for _, p := range payload {
				all = append(all, p...)
			}
			c := chunkHead{flags: flags, kind: kind, cookie: h.cookie, offset: h.offset, length: uint64(len(all))}
			return append(appendChunkHead(nil, c, extended), all...)
		}))
		io.Copy(io.Discard, far)
	}()
	session := Session{
		Size: 1 << 20, Flags: everything, MinBlock: 1, PreferredBlock: 4096, MaxPayload: maxPayload,
		Structured: true, Extended: extended, Allocation: true, contextID: 9,
	}
	o, err := DialOptions{Requests: 3, Timeout: patience}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	d := newDevice([]negotiated{{near, near, session}}, o)
	t.Cleanup(func() {
		d.Close()
		far.Close()
		<-ended
	})
	return d
}

// chunker makes a chunk of the reply to the request.
type chunker func(flags, kind uint16, payload ...[]byte) []byte

func u64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }
func u32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// hostileReads are replies to a read of 1024 bytes at 4096 that must end the device.
var hostileReads = map[string]func(h head, chunk chunker) []byte{
	"overlap": func(h head, chunk chunker) []byte {
		return append(chunk(0, chunkData, u64(4096), pattern(600)), chunk(replyDone, chunkData, u64(4600), pattern(520))...)
	},
	"twice": func(h head, chunk chunker) []byte {
		return append(chunk(0, chunkHole, u64(4096), u32(512)), chunk(replyDone, chunkHole, u64(4096), u32(512))...)
	},
	"gap": func(h head, chunk chunker) []byte {
		return append(chunk(0, chunkData, u64(4096), pattern(500)), chunk(replyDone, chunkData, u64(4600), pattern(520))...)
	},
	"nothing":     func(h head, chunk chunker) []byte { return chunk(replyDone, chunkNone) },
	"before":      func(h head, chunk chunker) []byte { return chunk(replyDone, chunkData, u64(4095), pattern(1024)) },
	"beyond":      func(h head, chunk chunker) []byte { return chunk(replyDone, chunkData, u64(4097), pattern(1024)) },
	"far away":    func(h head, chunk chunker) []byte { return chunk(replyDone, chunkHole, u64(1<<63), u32(1024)) },
	"no data":     func(h head, chunk chunker) []byte { return chunk(replyDone, chunkData, u64(4096)) },
	"short data":  func(h head, chunk chunker) []byte { return chunk(replyDone, chunkData, u32(4096)) },
	"hole of 0":   func(h head, chunk chunker) []byte { return chunk(replyDone, chunkHole, u64(4096), u32(0)) },
	"hole beyond": func(h head, chunk chunker) []byte { return chunk(replyDone, chunkHole, u64(4096), u32(1025)) },
	"long hole":   func(h head, chunk chunker) []byte { return chunk(replyDone, chunkHole, u64(4096), u32(1024), u32(0)) },
	"open end":    func(h head, chunk chunker) []byte { return chunk(0, chunkNone) },
	"padded end":  func(h head, chunk chunker) []byte { return chunk(replyDone, chunkNone, u32(1)) },
	"unknown":     func(h head, chunk chunker) []byte { return chunk(replyDone, 99) },
	"status":      func(h head, chunk chunker) []byte { return chunk(replyDone, chunkStatus, u32(9), u32(512), u32(0)) },
	"short error": func(h head, chunk chunker) []byte { return chunk(replyDone, chunkError, u32(5)) },
	"error 0":     func(h head, chunk chunker) []byte { return chunk(replyDone, chunkError, u32(0), []byte{0, 0}) },
	"words too long": func(h head, chunk chunker) []byte {
		return chunk(replyDone, chunkError, u32(5), []byte{0, 9}, pattern(8))
	},
	"unknown cookie": func(h head, chunk chunker) []byte {
		b := chunk(replyDone, chunkNone)
		b[15] ^= 1
		return b
	},
	"4 GiB": func(h head, chunk chunker) []byte {
		b := chunk(replyDone, chunkData, u64(4096))
		binary.BigEndian.PutUint32(b[len(b)-12:], 1<<32-1)
		return b
	},
	"simple success": func(h head, chunk chunker) []byte { return append(simple(0, h.cookie), pattern(1024)...) },
}

// TestHostileChunks: of a server that says such things nothing is believed any more.
func TestHostileChunks(t *testing.T) {
	bothForms(t, func(t *testing.T, extended bool) {
		for name, answer := range hostileReads {
			d := chunkServer(t, extended, answer)
			if n, err := d.ReadAt(make([]byte, 1024), 4096); !errors.Is(err, dataplane.ErrDisconnected) || n != 0 {
				t.Errorf("%s: %d bytes, %v", name, n, err)
			}
		}
	})
}

// TestChunksInAnyOrder: a read is whole when all of it has come, in whatever pieces; errors come with the server's words.
func TestChunksInAnyOrder(t *testing.T) {
	bothForms(t, func(t *testing.T, extended bool) {
		d := chunkServer(t, extended, func(h head, chunk chunker) []byte {
			b := chunk(0, chunkData, u64(4096+512), pattern(512))
			b = append(b, chunk(0, chunkHole, u64(4096+100), u32(412))...)
			b = append(b, chunk(0, chunkData, u64(4096), pattern(100))...)
			return append(b, chunk(replyDone, chunkNone)...)
		})
		want := append(append(pattern(100), make([]byte, 412)...), pattern(512)...)
		if got := mustRead(t, d, 1024, 4096); string(got) != string(want) {
			t.Error("it was put together wrongly")
		}
		failing := chunkServer(t, extended, func(h head, chunk chunker) []byte {
			b := chunk(0, chunkData, u64(4096), pattern(100))
			b = append(b, chunk(0, chunkErrorOffset, u32(codeENOSPC), []byte{0, 4}, []byte("full"), u64(4200))...)
			return append(b, chunk(replyDone, uint16(1<<15|77), u32(codeEIO), []byte{0, 0}, pattern(3))...)
		})
		_, err := failing.ReadAt(make([]byte, 1024), 4096)
		wantError(t, err, dataplane.ErrNoSpace)
		if failing.cause() != nil {
			t.Errorf("an error of one request ended the device: %v", failing.cause())
		}
	})
}

// TestHostileStatus: descriptors that cannot be are not believed, and those that reach too far are cut.
func TestHostileStatus(t *testing.T) {
	bothForms(t, func(t *testing.T, extended bool) {
		kind, other := chunkStatus, chunkStatusExt
		before := func(id, count uint32) []byte { return u32(id) }
		one := func(length, state uint64) []byte { return append(u32(uint32(length)), u32(uint32(state))...) }
		if extended {
			kind, other = other, kind
			before = func(id, count uint32) []byte { return append(u32(id), u32(count)...) }
			one = func(length, state uint64) []byte { return append(u64(length), u64(state)...) }
		}
		ask := func(answer func(h head, chunk chunker) []byte) (string, error) {
			d := chunkServer(t, extended, answer)
			said := ""
			err := d.Extents(t.Context(), 4096, 1024, func(e dataplane.Extent) error {
				if e.Zero {
					said += "0"
				} else {
					said += "d"
				}
				if e.Offset < 4096 || e.End() > 5120 {
					t.Errorf("extent %+v", e)
				}
				return nil
			})
			return said, err
		}
		said, err := ask(func(h head, chunk chunker) []byte {
			return chunk(replyDone, kind, before(9, 3), one(500, stateZero|stateHole), one(500, stateHole), one(1<<30, stateZero))
		})
		if said != "0d0" || err != nil {
			t.Errorf("said %s, %v", said, err)
		}
		for name, answer := range map[string]func(h head, chunk chunker) []byte{
			"no chunk":        func(h head, chunk chunker) []byte { return chunk(replyDone, chunkNone) },
			"other context":   func(h head, chunk chunker) []byte { return chunk(replyDone, kind, before(8, 1), one(512, 0)) },
			"of no bytes":     func(h head, chunk chunker) []byte { return chunk(replyDone, kind, before(9, 1), one(0, 0)) },
			"no descriptors":  func(h head, chunk chunker) []byte { return chunk(replyDone, kind, before(9, 0)) },
			"half":            func(h head, chunk chunker) []byte { return chunk(replyDone, kind, before(9, 1), one(512, 0)[:6]) },
			"the other form":  func(h head, chunk chunker) []byte { return chunk(replyDone, other, before(9, 1), one(512, 0)) },
			"a content chunk": func(h head, chunk chunker) []byte { return chunk(replyDone, chunkData, u64(4096), pattern(1024)) },
			"two chunks": func(h head, chunk chunker) []byte {
				return append(chunk(0, kind, before(9, 1), one(512, 0)), chunk(replyDone, kind, before(9, 1), one(512, 0))...)
			},
		} {
			if said, err := ask(answer); !errors.Is(err, dataplane.ErrDisconnected) {
				t.Errorf("%s: said %s, %v", name, said, err)
			}
		}
	})
}
