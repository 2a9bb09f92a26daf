package nbd

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestValidationInChunks: the table of wrong requests has the same answers where replies are chunks, compact or extended.
func TestValidationInChunks(t *testing.T) {
	bothForms(t, func(t *testing.T, extended bool) {
		s, o := startValidated(t)
		clients := map[string]*raw{}
		for _, x := range s.listed(new(int)) {
			o.Export = x.Name
			clients[x.Name] = chunked(t, o, extended, false)
		}
		for _, c := range validations {
			payload := []byte(nil)
			h := head{command: c.command, flags: c.flags, offset: c.offset, length: uint64(c.length)}
			switch {
			case c.flags&flagDF != 0, c.flags&flagPayload != 0:
				continue // these mean something here
			case c.command == cmdWrite && extended && c.length > maxPayload:
				continue // ends the connection, see TestStatusPayload
			case c.command == cmdWrite:
				payload = make([]byte, c.length)
				if extended {
					h.flags |= flagPayload
				}
			}
			client := clients[c.export]
			if got := codeOf(client.chunks(h, payload, extended)); got != c.want {
				t.Errorf("%s: %+v is answered with %d, want %d", c.export, h, got, c.want)
			}
			if got := codeOf(client.chunks(head{command: cmdRead, offset: 512, length: 512}, nil, extended)); got != 0 {
				t.Fatalf("%s: after %+v the next request is answered with %d", c.export, h, got)
			}
		}
	})
}

// codeOf is the code of a reply: that of its error chunk, or of a simple reply that raw.chunks took for a success.
func codeOf(reply []ofReply) uint32 {
	for _, c := range reply {
		if c.kind == chunkError {
			return binary.BigEndian.Uint32(c.payload)
		}
	}
	return 0
}

// openFiles is the number of descriptors of this process.
func openFiles(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestTenThousandConnections come, say something or nothing, and drop: nothing of them stays.
func TestTenThousandConnections(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	s := startServer(t, ServerOptions{Limits: Limits{Handshakes: 200}}, NewExport("disk", "", newMemory(1<<20)))
	o := listen(t, s, "unix", ListenOptions{})
	steady := dial(t, DialOptions{Network: o.Network, Address: o.Address, Export: "disk"})
	mustRead(t, steady, 512, 0)
	files, routines := openFiles(t), runtime.NumGoroutine()
	var all sync.WaitGroup
	var came atomic.Uint64
	for worker := range 8 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(worker)))
			for range 1250 {
				if drop(o, random) {
					came.Add(1)
				}
			}
		})
	}
	all.Wait()
	// The last ones may still lie in the listener's queue.
	await(t, "all are counted", func() bool { stats := s.Stats(); return stats.Accepted+stats.Rejected == came.Load()+1 })
	await(t, "all are gone", func() bool { return s.Stats().Connections == 1 })
	await(t, "their goroutines have ended", func() bool { return runtime.NumGoroutine() <= routines })
	if n := openFiles(t); n > files {
		t.Errorf("%d descriptors, %d before", n, files)
	}
	if n := s.shared.budget.inUse(); n != 0 {
		t.Errorf("%d bytes are still in use", n)
	}
	if n := came.Load(); n != 10000 {
		t.Errorf("%d connections were made", n)
	}
	mustRead(t, steady, 512, 0)
}

// drop makes a connection, if it can, and leaves it at some stage.
func drop(o DialOptions, random *rand.Rand) bool {
	conn, err := net.Dial(o.Network, o.Address)
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	stages := [][]byte{
		binary.BigEndian.AppendUint32(nil, clientFixedNewstyle|clientNoZeroes),
		appendOption(nil, optExtendedHeaders, nil),
		appendOption(nil, optSetMetaContext, encodeQueries("disk", contextAllocation)),
		appendOption(nil, optGo, ask("disk")),
		appendHead(nil, head{command: cmdRead, length: 1 << 20}, true),
		append(appendHead(nil, head{command: cmdWrite, flags: flagPayload, length: 1 << 20}, true), make([]byte, 1000)...),
	}
	for _, bytes := range stages[:random.IntN(len(stages)+1)] {
		if _, err := conn.Write(bytes[:1+random.IntN(len(bytes))]); err != nil {
			break
		}
		if random.IntN(4) == 0 {
			conn.SetReadDeadline(time.Now().Add(time.Millisecond)) // a part of a message has no answer
			conn.Read(make([]byte, 1+random.IntN(64)))
		}
	}
	return true
}

// TestHostileClientsCostLittle: clients that do not read, trickle, or announce 4 GiB, as many as are let in, cost bounded memory
// and leave the others their time.
func TestHostileClientsCostLittle(t *testing.T) {
	device := newMemory(maxPayload)
	s, o := openLimited(t, Limits{Connections: 64, StallTimeout: time.Minute}, device)
	other := dial(t, o)
	before := resident(t)
	for n := range 48 {
		c := opened(t, o)
		switch n % 3 {
		case 0: // does not read
			for range 64 {
				sendHeader(c, cmdRead, 0, maxPayload)
			}
		case 1: // trickles
			sendHeader(c, cmdWrite, 0, maxPayload)
			c.send([]byte{1})
		case 2: // announces
			sendHeader(c, cmdWrite, 0, 1<<32-1)
			c.send(make([]byte, 64<<10))
		}
	}
	var times []time.Duration
	for n := range 200 {
		began := time.Now()
		mustRead(t, other, 4096, int64(n)*4096)
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	if limit := int64(64<<20 + 48*guaranteed); s.shared.budget.inUse() > limit {
		t.Errorf("%d bytes in use, more than %d", s.shared.budget.inUse(), limit)
	}
	if grown := resident(t) - before; grown > 256<<20 {
		t.Errorf("the process has grown by %d MiB", grown>>20)
	}
	if median := times[len(times)/2]; median > time.Second {
		t.Errorf("a read of another client takes %v", median)
	}
}

// resident is the memory of this process, in bytes.
func resident(t *testing.T) int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
