package nbd

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/file"
	"github.com/cvold/cvold/internal/program"
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

// shortcomings are those of go-nbd v0.3.2, each with the tests that hold ours to better. Where another test is about it anyway,
// it stands here by its name; the others follow.
var shortcomings = map[string][]func(*testing.T){
	// its server: negotiation
	"no EXPORT_NAME":                                  {TestExportName},
	"no STARTTLS, no certificates":                    {TestTLSIsRequired, TestTLSIsOptional, TestEveryClientUsesTLS},
	"no STRUCTURED_REPLY":                             {TestReadsHaveHoles, TestErrorsHaveWords, TestNBDDumpReadsOurServer},
	"no EXTENDED_HEADERS":                             {TestReadsHaveHoles, TestExtendedPrevail},
	"no LIST_META_CONTEXT, no SET_META_CONTEXT":       {TestContexts, TestOthersSeeOurHoles},
	"LIST puts all names into one reply":              {TestList, TestNBDClientListsOurServer},
	"the data of LIST is not read away":               {TestList, TestRefusedOptionsAreDrained},
	"GO to a missing name serves what INFO asked for": {TestGoMeansItsOwnName},
	"a name of 4 GiB is allocated":                    {TestHugeOptionCostsNothing},
	"no HAS_FLAGS without CAN_MULTI_CONN; never READ_ONLY, SEND_FLUSH, SEND_FUA, SEND_TRIM": {TestFlagsTellTheExport, TestNBDInfoReadsOurServer},
	// its server: requests
	"no FLUSH":                                               {TestEveryRefusalOnTheWire, TestRoundTrip, TestStickyFlush},
	"no TRIM, no CACHE, no WRITE_ZEROES":                     {TestEveryRefusalOnTheWire, TestRoundTrip, TestCacheReads},
	"no BLOCK_STATUS":                                        {TestEveryRefusalOnTheWire, TestBlockStatus},
	"FUA is ignored":                                         {TestFUAIsDurable},
	"other flags are ignored":                                {TestEveryRefusal, TestEveryRefusalOnTheWire},
	"an unknown command waits for a payload":                 {TestEveryRefusalOnTheWire},
	"one request at a time":                                  {TestRepliesInAnyOrder, TestRequestsInFlight},
	"connections wait for each other's writes":               {TestBrokenDeviceStaysBroken}, // each of its connections has writes at the device
	"a header and its payload are written apart":             {TestRepliesLeaveInOneWrite},
	"a buffer for each request of another length":            {TestRequestsDoNotAllocateTheirPayload},
	"the largest request is not the one that was configured": {TestNBDInfoReadsOurServer, TestEveryRefusal}, // there is one limit, told and held
	"a longer request drops the connection":                  {TestValidation},
	"no bounds":                                              {TestWritesPastTheEndDoNotGrowTheFile, TestEveryRefusalOnTheWire},
	"an error of a read comes after its success":             {TestErrorsCrossTheWire, TestOthersSeeOurErrors},
	"an error of a write drops the connection":               {TestErrorsCrossTheWire, TestOthersSeeOurErrors},
	// its server: what is around them
	"no context, no close":                                       {TestCloseWhileInUse, TestRemoveIsAFence},
	"no limit of connections":                                    {TestConnectionLimits, TestHandshakeLimit, TestTenThousandConnections},
	"no deadlines":                                               {TestHandshakeDeadline, TestTrickle, TestIdleTimeout, TestClientThatDoesNotRead},
	"its backend in memory panics and keeps its lock":            {TestMemoryBackendSurvives},
	"a panic ends the process":                                   {TestPanicsAreEIO, TestPanicInAdmitEndsTheConnectionOnly, TestFromBackendMistrustsTheBackend},
	"its backend for files says that a block device has 0 bytes": {TestBlockDevicesHaveASize},
	// its client
	"client flags of 0, and GO with a length of 0": {TestHandshakeIsWellFormed, TestOurClientUsesNBDKit, TestOurClientUsesQemuNBD},
	"blocks of 512 to 4096 only":                   {TestDeviceKeepsTheContract, TestOurClientUsesNBDKit},
	"the server's flags go nowhere":                {TestRequestsOfACaller, TestInfoOfTheDevice},
	"one connection":                               {TestRoundTrip, TestConnectionsMustAgree},
	"sockets of the kernel only: no TLS":           {TestOurClientUsesEveryServersTLS, TestHostileSTARTTLS},
	"no way back to a server":                      {TestReconnectingKeepsTheContract, TestConnectionsBreakUnderLoad},
	"closing it panics, or leaves goroutines":      {TestCloseEndsWhatIsInFlight, TestCloseSaysGoodbye, TestSilentServer}, // and see TestMain
}

// TestShortcomingsAreHeld: none is without a test.
func TestShortcomingsAreHeld(t *testing.T) {
	for what, tests := range shortcomings {
		if len(tests) == 0 {
			t.Errorf("%s: no test", what)
		}
	}
}

// TestFlagsTellTheExport: exactly what can be done with it, in each form of a reply.
func TestFlagsTellTheExport(t *testing.T) {
	_, o := startValidated(t)
	always := canFlags | canFlush | canMultiConn | canCache
	writable := always | canFUA | canTrim | canWriteZeroes
	for name, flags := range map[string]uint16{
		"disk": writable | canFastZero, "sectors": writable | canFastZero, "slow": writable, "fixed": always | canReadOnly,
	} {
		for form, c := range map[string]struct {
			options []uint32
			more    uint16
		}{
			"simple":     {nil, 0},
			"structured": {[]uint32{optStructuredReply}, canDF},
			"extended":   {[]uint32{optExtendedHeaders}, canDF},
			"contexts":   {[]uint32{optExtendedHeaders, optSetMetaContext}, canDF | canStatusPayload},
		} {
			client := greeted(t, o)
			for _, option := range c.options {
				var data []byte
				if option == optSetMetaContext {
					data = encodeQueries(name, contextAllocation)
				}
				client.wantOption(option, data, repAck)
			}
			_, replies := client.option(optGo, ask(name))
			if got := binary.BigEndian.Uint16(replies[0][10:]); got != flags|c.more {
				t.Errorf("%s, %s: flags %#x, want %#x", name, form, got, flags|c.more)
			}
		}
	}
}

// TestWritesPastTheEndDoNotGrowTheFile: its server writes where it is told.
func TestWritesPastTheEndDoNotGrowTheFile(t *testing.T) {
	disk := openFile(t, filepath.Join(t.TempDir(), "disk"), 1<<20)
	client := opened(t, serveBackend(t, backend.NewFileBackend(disk)))
	for _, offset := range []uint64{1 << 20, 1<<20 - 1, 5 << 20, math.MaxInt64, math.MaxUint64} {
		if code := client.request(header(cmdWrite, 0, offset, 4096)); code != codeENOSPC {
			t.Errorf("a write at %d is answered with %d", offset, code)
		}
	}
	if info, err := disk.Stat(); err != nil || info.Size() != 1<<20 {
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

// TestBlockDevicesHaveASize: its backend for files says 0 of them. Ours serves what the kernel says, and everything else too.
func TestBlockDevicesHaveASize(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a loop device wants root")
	}
	program.NeedFile(t, "/dev/loop-control")
	path := emptyFile(t, 8<<20)
	name := strings.TrimSpace(run(t, "losetup", "--find", "--show", path))
	t.Cleanup(func() { run(t, "losetup", "--detach", name) })
	device, err := file.OpenPath(t.Context(), name, dataplane.Mode{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { device.Close() })
	_, o := serveOne(t, device)
	d := dial(t, o)
	if size, err := d.Size(); err != nil || size != 8<<20 {
		t.Errorf("the size is %d, %v", size, err)
	}
	exercise(t, d)
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got[:1<<20], pattern(1<<20)) {
		t.Errorf("the file below holds other bytes, %v", err)
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

// TestHandshakeIsWellFormed: its client says flags of 0 and sends GO with a length of 0, which others than its own server refuse.
// Ours takes up what it is offered, and each option is as long as it says.
func TestHandshakeIsWellFormed(t *testing.T) {
	for offered, want := range map[uint16]uint32{1: clientFixedNewstyle, 3: clientFixedNewstyle | clientNoZeroes} {
		said := make(chan []byte, 1)
		o := fakeServer(t, func(conn net.Conn) {
			var heard bytes.Buffer
			defer func() { said <- heard.Bytes() }()
			conn.Write(binary.BigEndian.AppendUint16([]byte("NBDMAGICIHAVEOPT"), offered))
			io.CopyN(&heard, conn, 4)
			for heard.Len() < 1<<10 {
				var b [optionSize]byte
				if _, err := io.ReadFull(conn, b[:]); err != nil {
					return
				}
				heard.Write(b[:])
				h := decodeOption(&b)
				io.CopyN(&heard, conn, int64(h.Length))
				if h.ID == optGo {
					return
				}
				conn.Write(appendOptionReply(nil, h.ID, repErrUnsup, nil))
			}
		})
		o.Export = "disk"
		if _, err := Dial(timeLimit(t), o); err == nil {
			t.Error("a server that hung up was opened")
		}
		exact := binary.BigEndian.AppendUint32(nil, want)
		for _, option := range []uint32{optExtendedHeaders, optStructuredReply} {
			exact = appendOption(exact, option, nil)
		}
		exact = appendOption(exact, optGo, ask("disk", infoBlockSize))
		if got := <-said; !bytes.Equal(got, exact) {
			t.Errorf("offered %d, the client says %x, want %x", offered, got, exact)
		}
	}
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
