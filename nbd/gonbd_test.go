package nbd

import (
	"bytes"
	"math"
	"net"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/cvold/cvold/dataplane"
	"github.com/pojntfx/go-nbd/pkg/backend"
	"github.com/pojntfx/go-nbd/pkg/server"
)

// serveBackend serves a go-nbd backend as export "disk".
func serveBackend(t *testing.T, b backend.Backend) DialOptions {
	t.Helper()
	e := Export{}
	e.Name, e.Backend = "disk", b
	o := listen(t, startServer(t, ServerOptions{}, e), "unix", ListenOptions{})
	o.Export = "disk"
	return o
}

// What follows are shortcomings of go-nbd v0.3.2, one test each for those that no other test here is about:
//
//	flags say too little                    TestNBDInfoReadsOurServer
//	LIST puts all names into one reply      TestList
//	FLUSH, TRIM, WRITE_ZEROES, FUA unknown  TestValidation, TestFUAIsDurable
//	one request at a time                   TestRepliesInAnyOrder
//	long requests drop the connection       TestValidation
//	a read's error comes after "success"    TestErrorsCrossTheWire
//	a write's error drops the connection    TestErrorsCrossTheWire
//	4 GiB names are allocated               TestHugeOptionCostsNothing
//	unknown commands hang                   TestValidation
//	panics end the process                  TestPanicsAreEIO
//	the client speaks with its own server   TestOurClientUsesNBDKit, TestOurClientUsesQemuNBD

// TestWritesPastTheEndDoNotGrowTheFile: its server writes where it is told.
func TestWritesPastTheEndDoNotGrowTheFile(t *testing.T) {
	file := openFile(t, filepath.Join(t.TempDir(), "disk"), 1<<20)
	client := opened(t, serveBackend(t, backend.NewFileBackend(file)))
	for _, offset := range []uint64{1 << 20, 1<<20 - 1, 5 << 20, math.MaxInt64, math.MaxUint64} {
		if code := client.request(header(cmdWrite, 0, offset, 4096)); code != codeENOSPC {
			t.Errorf("a write at %d is answered with %d", offset, code)
		}
	}
	if info, err := file.Stat(); err != nil || info.Size() != 1<<20 {
		t.Errorf("the file has %d bytes now, %v", info.Size(), err)
	}
}

// TestMemoryBackendSurvives: its backend in memory panics over the end, and at the end keeps its lock.
func TestMemoryBackendSurvives(t *testing.T) {
	client := opened(t, serveBackend(t, backend.NewMemoryBackend(make([]byte, 1<<20))))
	for _, offset := range []uint64{1<<20 - 1, 1 << 20, 1 << 63, math.MaxUint64} {
		if code := client.request(header(cmdRead, 0, offset, 4096)); code != codeEINVAL {
			t.Errorf("a read at %d is answered with %d", offset, code)
		}
	}
	if code := client.request(header(cmdRead, 0, 0, 4096)); code != 0 {
		t.Errorf("a read within is answered with %d", code)
	}
}

// TestGoMeansItsOwnName: its server serves "a" after INFO of "a" and GO to a name that is missing.
func TestGoMeansItsOwnName(t *testing.T) {
	_, o := serveOne(t, newMemory(512))
	client := greeted(t, o)
	client.wantOption(optInfo, ask("disk"), repAck)
	client.wantOption(optGo, ask("missing"), repErrUnknown)
	client.wantOption(optGo, ask("disk"), repAck)
}

// TestRequestsDoNotAllocateTheirPayload: its server makes a buffer anew whenever the length changes.
func TestRequestsDoNotAllocateTheirPayload(t *testing.T) {
	_, o := serveOne(t, newMemory(1<<20))
	d := dial(t, o)
	p := make([]byte, 64<<10)
	alternate := func(rounds int) {
		for range rounds {
			d.ReadAt(p[:4096], 0)
			d.WriteAt(p, 0)
		}
	}
	alternate(10)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	alternate(200)
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / 400; each > 20<<10 { // under the race detector a sync.Pool loses a quarter
		t.Errorf("%d bytes allocated a request", each)
	}
}

// TestOurClientUsesGoNBD: its server as a peer that can read and write and nothing else.
func TestOurClientUsesGoNBD(t *testing.T) {
	exports := []*server.Export{{Name: "disk", Backend: backend.NewMemoryBackend(make([]byte, 4<<20))}}
	o := fakeServer(t, func(conn net.Conn) { server.Handle(conn, exports, nil) })
	o.Export = "disk"
	d := dial(t, o)
	content := pattern(4 << 20)
	mustWrite(t, d, content, 0)
	if err := d.ZeroAt(4096, 8192, dataplane.ZeroMode{MayUnmap: true}); err != nil {
		t.Error(err)
	}
	clear(content[4096 : 4096+8192])
	if !bytes.Equal(mustRead(t, d, 4<<20, 0), content) {
		t.Error("read other bytes than were written")
	}
	wantError(t, d.Sync(), dataplane.ErrNotSupported)
	if err := d.Discard(0, 512); err != nil {
		t.Error(err)
	}
}
