package nbd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/drivertest"
	"github.com/cvold/cvold/dataplane/faulty"
	"github.com/pojntfx/go-nbd/pkg/backend"
)

// TestDeviceKeepsTheContract runs the suite of all devices over the wire, on devices with different manners.
func TestDeviceKeepsTheContract(t *testing.T) {
	for name, info := range map[string]dataplane.Info{
		"bytes":   {},
		"sectors": {MinBlock: 512, FastZero: true},
		"limited": {MinBlock: 4096, MaxBlock: 64 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			drivertest.Device(t, func(t *testing.T, size int64) dataplane.Device {
				_, o := serveOne(t, faulty.NewMemoryInfo(size, info))
				o.Connections = 2
				return dial(t, o)
			})
		})
	}
}

func TestFromBackendKeepsTheContract(t *testing.T) {
	drivertest.Device(t, func(t *testing.T, size int64) dataplane.Device {
		return FromBackend(backend.NewMemoryBackend(make([]byte, size)))
	})
}

func TestFromBackendServesAFile(t *testing.T) {
	file := openFile(t, filepath.Join(t.TempDir(), "disk"), 1<<20)
	e := Export{}
	e.Name, e.Backend = "disk", backend.NewFileBackend(file)
	o := listen(t, startServer(t, ServerOptions{}, e), "unix", ListenOptions{})
	o.Export = "disk"
	d := dial(t, o)
	content := pattern(1 << 20)
	mustWrite(t, d, content, 0)
	if err := errors.Join(d.ZeroAt(0, 4096, dataplane.ZeroMode{}), d.Sync()); err != nil {
		t.Error(err)
	}
	clear(content[:4096])
	got := make([]byte, 1<<20)
	if _, err := file.ReadAt(got, 0); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the file holds other bytes, %v", err)
	}
}

func TestFromBackendKeepsDevices(t *testing.T) {
	device := newMemory(512)
	if FromBackend(device) != dataplane.Device(device) {
		t.Error("a device was wrapped")
	}
}

// odd is a backend of four bytes whose calls do as told.
type odd struct {
	transfer func(p []byte) (int, error)
	size     func() (int64, error)
}

func (o odd) ReadAt(p []byte, _ int64) (int, error)  { return o.transfer(p) }
func (o odd) WriteAt(p []byte, _ int64) (int, error) { return o.transfer(p) }
func (o odd) Sync() error                            { panic("no sync") }
func (o odd) Size() (int64, error) {
	if o.size != nil {
		return o.size()
	}
	return 4, nil
}

func TestFromBackendMistrustsTheBackend(t *testing.T) {
	for name, b := range map[string]odd{
		"panics":         {transfer: func([]byte) (int, error) { panic("oh") }},
		"moves too few":  {transfer: func([]byte) (int, error) { return 3, nil }},
		"ends too early": {transfer: func([]byte) (int, error) { return 3, io.EOF }},
		"panics at size": {size: func() (int64, error) { panic("size") }},
	} {
		t.Run(name, func(t *testing.T) {
			d := FromBackend(b)
			_, err := d.ReadAt(make([]byte, 4), 0)
			wantError(t, err, dataplane.ErrIO)
			_, err = d.WriteAt(make([]byte, 4), 0)
			wantError(t, err, dataplane.ErrIO)
			wantError(t, d.ZeroAt(0, 4, dataplane.ZeroMode{}), dataplane.ErrIO)
			wantError(t, d.Sync(), dataplane.ErrIO)
		})
	}
	full := FromBackend(odd{transfer: func(p []byte) (int, error) { return len(p), io.EOF }})
	if n, err := full.ReadAt(make([]byte, 4), 0); n != 4 || err != nil {
		t.Errorf("a full read that ends the file: %d, %v", n, err)
	}
}

// TestErrorsCrossTheWire: what a device fails with on the server, its client fails with.
func TestErrorsCrossTheWire(t *testing.T) {
	device := newMemory(1 << 20)
	_, o := serveOne(t, device)
	d := dial(t, o)
	failWith := func(err error) { device.setHook(func(string, int64, int64) error { return err }) }
	calls := map[string]func() error{
		"read":    func() error { _, err := d.ReadAt(make([]byte, 512), 0); return err },
		"write":   func() error { _, err := d.WriteAt(make([]byte, 512), 0); return err },
		"zero":    func() error { return d.ZeroAt(0, 512, dataplane.ZeroMode{}) },
		"discard": func() error { return d.Discard(0, 512) },
	}
	for _, c := range []struct {
		fail, want error
	}{
		{dataplane.ErrIO, dataplane.ErrIO}, {errors.New("strange"), dataplane.ErrIO}, {dataplane.ErrNoSpace, dataplane.ErrNoSpace},
		{dataplane.ErrReadOnly, dataplane.ErrReadOnly}, {dataplane.ErrDisconnected, dataplane.ErrIO},
		{dataplane.ErrAbandoned, dataplane.ErrIO},
	} {
		for name, call := range calls {
			failWith(fmt.Errorf("the %s: %w", name, c.fail))
			if err := call(); !errors.Is(err, c.want) {
				t.Errorf("%s that fails with %v: %v, want %v", name, c.fail, err, c.want)
			}
		}
	}
	failWith(dataplane.ErrNotSupported)
	wantError(t, d.ZeroAt(0, 512, dataplane.ZeroMode{FastOnly: true}), dataplane.ErrNotSupported)
	failWith(dataplane.ErrClosed)
	wantError(t, calls["write"](), dataplane.ErrDisconnected)
	wantError(t, calls["read"](), dataplane.ErrDisconnected)
}

func TestPanicsAreEIO(t *testing.T) {
	device := newMemory(1 << 20)
	s, o := serveOne(t, device)
	d := dial(t, o)
	device.setHook(func(call string, _, _ int64) error { panic(call) })
	_, err := d.ReadAt(make([]byte, 512), 0)
	wantError(t, err, dataplane.ErrIO)
	_, err = d.WriteAt(make([]byte, 512), 0)
	wantError(t, err, dataplane.ErrIO)
	wantError(t, d.ZeroAt(0, 512, dataplane.ZeroMode{}), dataplane.ErrIO)
	wantError(t, d.Sync(), dataplane.ErrIO)
	device.setHook(nil)
	mustRead(t, d, 512, 0)
	if failed := s.Stats().Failed; failed != 4 {
		t.Errorf("counted %d failed requests", failed)
	}
}

// TestShortReadsAreEIO: what a device did not fill in is another's data, or none.
func TestShortReadsAreEIO(t *testing.T) {
	e := NewExport("disk", "", shortReader{newMemory(1 << 20)})
	o := listen(t, startServer(t, ServerOptions{}, e), "unix", ListenOptions{})
	o.Export = "disk"
	_, err := dial(t, o).ReadAt(make([]byte, 512), 0)
	wantError(t, err, dataplane.ErrIO)
}

type shortReader struct{ *memory }

func (shortReader) ReadAt(p []byte, _ int64) (int, error) { return len(p) - 1, nil }

// TestStickyFlush: after one failed flush none succeeds, until the export is added anew.
func TestStickyFlush(t *testing.T) {
	device := newMemory(1 << 20)
	s, o := serveOne(t, device)
	d, other := dial(t, o), dial(t, o)
	device.setHook(on("sync", func() error { return dataplane.ErrIO }))
	wantError(t, d.Sync(), dataplane.ErrIO)
	device.setHook(nil)
	wantError(t, d.Sync(), dataplane.ErrIO)
	wantError(t, other.Sync(), dataplane.ErrIO)
	if n := device.syncs.Load(); n != 1 {
		t.Errorf("the device was asked %d times", n)
	}
	mustWrite(t, other, pattern(512), 0)
	wantError(t, other.do(cmdWrite, flagFUA, 0, 512, pattern(512)), dataplane.ErrIO)
	if err := s.Remove(timeLimit(t), "disk"); err != nil {
		t.Fatal(err)
	}
	if err := s.Add(NewExport("disk", "", device)); err != nil {
		t.Fatal(err)
	}
	if err := dial(t, o).Sync(); err != nil {
		t.Errorf("flush of the export added anew: %v", err)
	}
}

// TestStickyFlushOfTheClient: a client remembers for itself, whatever the server forgets.
func TestStickyFlushOfTheClient(t *testing.T) {
	var flushes atomic.Int64
	d := dialFake(t, canFlags|canFlush, 1<<20, func(r request) uint32 {
		if flushes.Add(1) == 1 {
			return codeEIO
		}
		return 0
	})
	wantError(t, d.Sync(), dataplane.ErrIO)
	wantError(t, d.Sync(), dataplane.ErrIO)
}

// TestFlushIsShared: callers that come while a flush runs share the next one, and its failure is theirs and all others'.
func TestFlushIsShared(t *testing.T) {
	var f flusher
	began, proceed := make(chan int), make(chan error)
	runs := 0
	sync1 := func() error { runs++; began <- runs; return <-proceed }
	first := make(chan error, 1)
	go func() { first <- f.flush(sync1) }()
	<-began
	var rest sync.WaitGroup
	results := make(chan error, 8)
	for range 8 {
		rest.Go(func() { results <- f.flush(sync1) })
	}
	proceed <- nil
	if err := <-first; err != nil {
		t.Error(err)
	}
	go func() {
		for range began {
			proceed <- dataplane.ErrIO
		}
	}()
	rest.Wait()
	close(began)
	for range 8 {
		wantError(t, <-results, dataplane.ErrIO)
	}
	if runs > 2 {
		t.Errorf("%d flushes for callers that waited together, the last after a failure", runs)
	}
}

// TestFUAIsDurable: a write with FUA is synced before its reply.
func TestFUAIsDurable(t *testing.T) {
	for _, command := range []uint16{cmdWrite, cmdWriteZeroes, cmdTrim} {
		device := newMemory(1 << 20)
		_, o := serveOne(t, device)
		d := dial(t, o)
		var payload []byte
		if command == cmdWrite {
			payload = pattern(512)
		}
		if err := d.do(command, flagFUA, 0, 512, payload); err != nil {
			t.Fatal(err)
		}
		if err := d.do(cmdRead, flagFUA, 0, 512, make([]byte, 512)); err != nil {
			t.Errorf("READ with FUA: %v", err)
		}
		if c := device.calls; len(c) != 3 || c[0] == "sync" || c[1] != "sync" || c[2] != "read" {
			t.Errorf("%s and READ with FUA did %v", commandName(command), c)
		}
	}
}
