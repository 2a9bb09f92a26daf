package nbd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cvold/cvold/dataplane"
)

// fakeKernel keeps devices as Linux does (drivers/block/nbd.c), and uses their connections when a test asks for it. The real
// one is in test/vm.
type fakeKernel struct {
	t       testing.TB
	machine machine

	mu         sync.Mutex
	devices    map[int]*fakeDevice
	connects   int
	reconnects int
	forgetful  bool  // reconnect finds no device
	short      int   // of what reconnect needs, so many times
	refuse     error // of the next connect
	lossy      bool  // devices end with their connections, as by ioctl
}

// fakeDevice is one of its devices.
type fakeDevice struct {
	parameters deviceParameters
	slots      []*Device
}

func newFakeKernel(t testing.TB) *fakeKernel {
	dir := t.TempDir()
	k := &fakeKernel{t: t, machine: machine{filepath.Join(dir, "dev"), filepath.Join(dir, "block")}, devices: map[int]*fakeDevice{}}
	for _, d := range []string{k.machine.dev, k.machine.sysfs, filepath.Join(k.machine.sysfs, "loop0")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, d := range k.devices {
			for _, s := range d.slots {
				s.Close()
			}
		}
	})
	return k
}

// tell writes what Linux tells of a device.
func (k *fakeKernel) tell(index int, files map[string]string) {
	k.t.Helper()
	dir := filepath.Dir(k.machine.file(index, "x"))
	err := os.MkdirAll(dir, 0o700)
	for name, content := range files {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	if err = errors.Join(err, os.WriteFile(k.machine.path(index), nil, 0o600)); err != nil {
		k.t.Error(err)
	}
}

func (k *fakeKernel) keeps() bool { return !k.lossy }

func (k *fakeKernel) connect(sockets []*os.File, p deviceParameters) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.refuse != nil {
		return 0, k.refuse
	}
	k.connects++
	index := len(k.devices)
	d := &fakeDevice{parameters: p}
	for _, s := range sockets {
		d.slots = append(d.slots, k.use(s, p))
	}
	k.devices[index] = d
	readOnly := "0\n"
	if p.flags&canReadOnly != 0 {
		readOnly = "1\n"
	}
	k.tell(index, map[string]string{"backend": p.identifier + "\n", "pid": "1\n", "ro": readOnly})
	return index, nil
}

// use makes a client of a socket.
func (k *fakeKernel) use(socket *os.File, p deviceParameters) *Device {
	conn, err := net.FileConn(socket)
	if err != nil {
		k.t.Error(err)
	}
	session := Session{Size: p.size, Flags: p.flags, MinBlock: uint32(p.block), PreferredBlock: 4096, MaxPayload: maxPayload}
	o, _ := DialOptions{}.withDefaults()
	return newDevice([]negotiated{{conn, conn, session}}, o)
}

func (k *fakeKernel) reconnect(index int, sockets []*os.File, p deviceParameters) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reconnects++
	if k.short > 0 {
		k.short--
		return errors.New("no memory")
	}
	d := k.devices[index]
	if d == nil || k.forgetful || d.parameters.identifier != p.identifier {
		return fmt.Errorf("device %d: %w", index, ErrKernelDevice)
	}
	d.parameters = p
	for _, s := range sockets {
		for i, slot := range d.slots {
			if slot.cause() != nil {
				slot.Close()
				d.slots[i] = k.use(s, p)
				break
			}
		}
	}
	return nil
}

func (k *fakeKernel) disconnect(index int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	d := k.devices[index]
	if d == nil {
		return fmt.Errorf("device %d: %w", index, ErrKernelDevice)
	}
	for _, s := range d.slots {
		s.Close()
	}
	delete(k.devices, index)
	return os.RemoveAll(filepath.Dir(k.machine.file(index, "x")))
}

// slot is one connection of a device.
func (k *fakeKernel) slot(index, n int) *Device {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.devices[index].slots[n]
}

func (k *fakeKernel) counts() (connects, reconnects int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.connects, k.reconnects
}

// attachable is a server with one export that the kernel may have.
func attachable(t testing.TB, d dataplane.Device) *Server {
	e := NewExport("x", "", d)
	e.Attachable = true
	return startServer(t, ServerOptions{}, e)
}

func (k *fakeKernel) attach(s *Server, connections int) *KernelDevice {
	k.t.Helper()
	o, err := AttachOptions{Identifier: "cvold-1", Connections: connections}.withDefaults()
	if err != nil {
		k.t.Fatal(err)
	}
	d, err := s.attach(timeLimit(k.t), k.machine, k, "x", o)
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { d.Leave(context.Background()) })
	return d
}

func TestAttach(t *testing.T) {
	m, k := newMemory(1<<20), newFakeKernel(t)
	s := attachable(t, m)
	d := k.attach(s, 2)
	if d.Path() != filepath.Join(k.machine.dev, "nbd0") || d.Index() != 0 {
		t.Errorf("the device is %s", d.Path())
	}
	if event, err := os.ReadFile(k.machine.file(0, "uevent")); err != nil || string(event) != "change" {
		t.Errorf("udev was told %q, %v", event, err)
	}
	want := pattern(64 << 10)
	mustWrite(t, k.slot(0, 0), want, 4096)
	if got := mustRead(t, k.slot(0, 1), len(want), 4096); !bytes.Equal(got, want) {
		t.Error("the other connection reads something else")
	}
	stats := s.Stats().Exports[0]
	if len(stats.Clients) != 2 || stats.Clients[0].Addr.Network() != "kernel" || stats.Clients[0].Addr.String() != "cvold-1" {
		t.Errorf("clients are %+v", stats.Clients)
	}
	if err := d.Detach(timeLimit(t), false); err != nil {
		t.Fatal(err)
	}
	if err := d.Detach(timeLimit(t), false); err != nil {
		t.Errorf("detached twice: %v", err)
	}
	if _, err := k.machine.find("cvold-1"); !errors.Is(err, ErrKernelDevice) || d.Lost() != nil {
		t.Errorf("after detach: %v, lost %v", err, d.Lost())
	}
	if err := s.Remove(timeLimit(t), "x"); err != nil {
		t.Error(err)
	}
}

// TestAttachConnectionLost: a connection that the kernel gave up is made again, but not before all that it carried is over.
func TestAttachConnectionLost(t *testing.T) {
	m, k := newMemory(1<<20), newFakeKernel(t)
	hung, release := make(chan struct{}), make(chan struct{})
	m.hook = func(call string, off, n int64) error {
		if call == "write" && off == 4096 {
			close(hung)
			<-release
		}
		return nil
	}
	s := attachable(t, m)
	k.attach(s, 2)
	first := k.slot(0, 0)
	failed := make(chan error, 1)
	go func() {
		_, err := first.WriteAt(pattern(512), 4096)
		failed <- err
	}()
	<-hung
	first.end(dataplane.ErrDisconnected) // the kernel waited too long
	if err := <-failed; err == nil {
		t.Error("a request of a connection that was lost succeeded")
	}
	// The same write comes again on the other connection, and waits for the first one.
	again := make(chan error, 1)
	go func() {
		_, err := k.slot(0, 1).WriteAt(pattern(512), 4096)
		again <- err
	}()
	mustWrite(t, k.slot(0, 1), pattern(512), 8192) // another place does not
	if _, reconnects := k.counts(); reconnects != 0 {
		t.Error("a new connection came while the old one still had a request")
	}
	if writes := m.seen()["write"]; writes != 2 || len(again) != 0 {
		t.Errorf("%d writes have begun, %d repeated ones are over", writes, len(again))
	}
	m.setHook(nil)
	close(release)
	if err := <-again; err != nil {
		t.Errorf("the write that came again: %v", err)
	}
	await(t, "the kernel has the connection again", func() bool { return k.slot(0, 0) != first })
	mustWrite(t, k.slot(0, 0), pattern(512), 0)
}

// TestAttachStale: a write that was sent on a connection which the kernel gave up is not begun any more: it may have come again on
// another one, and have been overwritten since.
func TestAttachStale(t *testing.T) {
	m, k := newMemory(1<<20), newFakeKernel(t)
	s := attachable(t, m)
	k.attach(s, 1)
	first, order := k.slot(0, 0), s.find("x").order
	order.mu.Lock() // no change can begin
	if err := first.links[0].send(head{command: cmdWrite, cookie: 1, length: 512}, pattern(512)); err != nil {
		t.Error(err)
	}
	first.end(dataplane.ErrDisconnected)
	order.mu.Unlock()
	await(t, "the kernel has another connection", func() bool { return k.slot(0, 0) != first })
	if n := m.seen()["write"]; n != 0 {
		t.Errorf("%d stale writes were carried out", n)
	}
	mustWrite(t, k.slot(0, 0), pattern(512), 0)
}

// TestAttachLeave: what is under way is answered, then the connections end; the next server takes the device over, with
// nothing lost.
func TestAttachLeave(t *testing.T) {
	m, k := newMemory(1<<20), newFakeKernel(t)
	begun, release := make(chan struct{}), make(chan struct{})
	m.hook = on("write", func() error { close(begun); <-release; return nil })
	s := attachable(t, m)
	d := k.attach(s, 1)
	written := make(chan error, 1)
	go func() {
		_, err := k.slot(0, 0).WriteAt(pattern(512), 0)
		written <- err
	}()
	<-begun
	left := make(chan error, 1)
	go func() { left <- d.Leave(timeLimit(t)) }()
	if len(left) != 0 {
		t.Error("left with a request under way")
	}
	close(release)
	if err := errors.Join(<-written, <-left); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(timeLimit(t), "x"); err != nil {
		t.Fatal(err)
	}
	m.setHook(nil)
	await(t, "the kernel has seen the end", func() bool { return k.slot(0, 0).cause() != nil })
	if timeout := k.devices[0].parameters.requestTimeout; timeout != partingTimeout {
		t.Errorf("the kernel that is left waits %v", timeout)
	}
	d = k.attach(attachable(t, m), 1)
	// One reconnect of the first process, which hastened the kernel, and one of the second, which took the haste back.
	if connects, reconnects := k.counts(); connects != 1 || reconnects != 2 || d.Index() != 0 {
		t.Errorf("%d connects, %d reconnects, device %d", connects, reconnects, d.Index())
	}
	if timeout := k.devices[0].parameters.requestTimeout; timeout != defaultRequestTimeout {
		t.Errorf("the kernel waits %v", timeout)
	}
	if got := mustRead(t, k.slot(0, 0), 512, 0); !bytes.Equal(got, pattern(512)) {
		t.Error("what was answered is not there")
	}
}

// TestAttachLeaveHangs: a device that hangs does not hold Leave up for ever.
func TestAttachLeaveHangs(t *testing.T) {
	m, k := newMemory(1<<20), newFakeKernel(t)
	begun, release := make(chan struct{}), make(chan struct{})
	m.hook = on("write", func() error { close(begun); <-release; return nil })
	d := k.attach(attachable(t, m), 1)
	go k.slot(0, 0).WriteAt(pattern(512), 0)
	<-begun
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	wantError(t, d.Leave(ctx), context.DeadlineExceeded)
	close(release)
	if err := d.Leave(timeLimit(t)); err != nil {
		t.Error(err)
	}
}

// TestAttachForgotten: a device that somebody else took away is not fought for.
func TestAttachForgotten(t *testing.T) {
	k := newFakeKernel(t)
	d := k.attach(attachable(t, newMemory(1<<20)), 1)
	k.mu.Lock()
	k.forgetful = true
	k.mu.Unlock()
	k.slot(0, 0).end(dataplane.ErrDisconnected)
	await(t, "the device is known to be lost", func() bool { return errors.Is(d.Lost(), ErrKernelDevice) })
	if err := d.Detach(timeLimit(t), true); err != nil || k.devices[0] == nil {
		t.Errorf("detached afterwards: %v", err)
	}
}

// TestAttachShort: a connection that cannot be made again at once is made again later, and the device is not given up.
func TestAttachShort(t *testing.T) {
	k := newFakeKernel(t)
	d := k.attach(attachable(t, newMemory(1<<20)), 1)
	first := k.slot(0, 0)
	k.mu.Lock()
	k.short = 3
	k.mu.Unlock()
	first.end(dataplane.ErrDisconnected)
	await(t, "the kernel has another connection", func() bool { return k.slot(0, 0) != first })
	mustWrite(t, k.slot(0, 0), pattern(512), 0)
	if d.Lost() != nil {
		t.Errorf("the device counts as lost: %v", d.Lost())
	}
}

// TestAttachTakenOver: a device whose number somebody else has by now is over, and theirs is not touched.
func TestAttachTakenOver(t *testing.T) {
	for _, force := range []bool{true, false} {
		k := newFakeKernel(t)
		d := k.attach(attachable(t, newMemory(1<<20)), 1)
		k.tell(0, map[string]string{"backend": "somebody else's"})
		if err := d.Detach(timeLimit(t), force); err != nil {
			t.Error(err)
		}
		if k.devices[0] == nil {
			t.Error("somebody else's device was taken away")
		}
	}
}

// TestAttachUnknown: without a list of devices nothing is made: there could be one already.
func TestAttachUnknown(t *testing.T) {
	k := newFakeKernel(t)
	s := attachable(t, newMemory(1<<20))
	k.machine.sysfs += "/none"
	o, err := AttachOptions{Identifier: "cvold-1"}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if _, err = s.attach(timeLimit(t), k.machine, k, "x", o); err == nil || k.connects != 0 {
		t.Errorf("%v, %d devices made", err, k.connects)
	}
}

// TestAttachLossy: a device that ends with its connection is lost with it, and ended by Leave.
func TestAttachLossy(t *testing.T) {
	for _, lost := range []bool{false, true} {
		k := newFakeKernel(t)
		k.lossy = true
		d := k.attach(attachable(t, newMemory(1<<20)), 4)
		if n := len(k.devices[0].slots); n != 1 {
			t.Errorf("%d connections", n)
		}
		if lost {
			k.slot(0, 0).end(dataplane.ErrDisconnected)
			await(t, "the device is known to be lost", func() bool { return d.Lost() != nil })
		}
		if err := d.Leave(timeLimit(t)); err != nil {
			t.Error(err)
		}
		if _, left := k.devices[0]; left != lost {
			t.Errorf("the device is there: %v", left)
		}
	}
}

// TestAttachFails: what the kernel refuses leaves no connection and touches no other device.
func TestAttachFails(t *testing.T) {
	for _, lossy := range []bool{false, true} {
		k := newFakeKernel(t)
		k.lossy = lossy
		s := attachable(t, newMemory(1<<20))
		k.attach(s, 1)
		k.refuse = errors.New("no more devices")
		o, err := AttachOptions{Identifier: "cvold-2"}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.attach(timeLimit(t), k.machine, k, "x", o)
		wantError(t, err, k.refuse)
		mustWrite(t, k.slot(0, 0), pattern(512), 0)
		if n := len(s.Stats().Exports[0].Clients); n != 1 || k.devices[0].parameters.requestTimeout != defaultRequestTimeout {
			t.Errorf("%d connections are left, device 0 has %+v", n, k.devices[0].parameters)
		}
	}
}

// TestAttachReplaces: a device of the identifier that can be written to is not taken for one that cannot.
func TestAttachReplaces(t *testing.T) {
	m, k := newMemory(1<<20), newFakeKernel(t)
	s := attachable(t, m)
	if err := k.attach(s, 1).Leave(timeLimit(t)); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(timeLimit(t), "x"); err != nil {
		t.Fatal(err)
	}
	e := NewExport("x", "", m)
	e.Attachable, e.ReadOnly = true, true
	k.attach(startServer(t, ServerOptions{}, e), 1)
	if connects, _ := k.counts(); connects != 2 || k.devices[0].parameters.flags&canReadOnly == 0 {
		t.Errorf("%d connects", connects)
	}
	_, err := k.slot(0, 0).WriteAt(pattern(512), 0)
	wantError(t, err, dataplane.ErrReadOnly)
}

// TestAttachGrows: requests past the size of before are let through once the device has grown.
func TestAttachGrows(t *testing.T) {
	m, k := newMemory(1<<20), newFakeKernel(t)
	d := k.attach(attachable(t, m), 1)
	m.mu.Lock()
	m.data = append(m.data, make([]byte, 1<<20)...)
	m.mu.Unlock()
	if err := d.Resize(); err != nil {
		t.Fatal(err)
	}
	if size := k.devices[0].parameters.size; size != 2<<20 {
		t.Errorf("the kernel knows of %d bytes", size)
	}
	slot := k.slot(0, 0)
	slot.session.Size = 4 << 20
	mustWrite(t, slot, pattern(512), 1<<20)
	_, err := slot.WriteAt(pattern(512), 2<<20)
	wantError(t, err, dataplane.ErrNoSpace)
}

func TestAttachRefused(t *testing.T) {
	k := newFakeKernel(t)
	odd, large := newMemory(1000), newMemory(1<<20)
	large.info.MinBlock = 8192
	for _, test := range []struct {
		name   string
		export Export
		o      AttachOptions
		want   error
		says   string
	}{
		{"no export", Export{}, AttachOptions{Identifier: "a"}, ErrNoExport, "x"},
		{"not attachable", NewExport("x", "", newMemory(512)), AttachOptions{Identifier: "a"}, ErrInvalidExport, "not added for that"},
		{"no sectors", attachableExport(odd), AttachOptions{Identifier: "a"}, ErrInvalidExport, "1000 bytes"},
		{"empty", attachableExport(newMemory(0)), AttachOptions{Identifier: "a"}, ErrInvalidExport, "0 bytes"},
		{"large blocks", attachableExport(large), AttachOptions{Identifier: "a"}, ErrInvalidExport, "8192"},
		{"no identifier", attachableExport(newMemory(512)), AttachOptions{}, nil, "identifier"},
		{"identifier of a path", attachableExport(newMemory(512)), AttachOptions{Identifier: "../a"}, nil, "identifier"},
		{"identifier with a dot first", attachableExport(newMemory(512)), AttachOptions{Identifier: "..a"}, nil, "identifier"},
		{"long identifier", attachableExport(newMemory(512)), AttachOptions{Identifier: strings.Repeat("a", 256)}, nil, "identifier"},
		{"connections", attachableExport(newMemory(512)), AttachOptions{Identifier: "a", Connections: 17}, dataplane.ErrOutOfRange, "17"},
		{"negative", attachableExport(newMemory(512)), AttachOptions{Identifier: "a", DeadTimeout: -1}, dataplane.ErrOutOfRange, "-1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := startServer(t, ServerOptions{})
			if test.export.Backend != nil {
				if err := s.Add(test.export); err != nil {
					t.Fatal(err)
				}
			}
			o, err := test.o.withDefaults()
			if err == nil {
				_, err = s.attach(t.Context(), k.machine, k, "x", o)
			}
			if err == nil || !strings.Contains(err.Error(), test.says) || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("%v, want %v that says %q", err, test.want, test.says)
			}
		})
	}
}

func attachableExport(d dataplane.Device) Export {
	e := NewExport("x", "", d)
	e.Attachable = true
	return e
}

// TestAttachNoKernel: where the kernel has no NBD client, as on most test machines, that is said with the way out.
func TestAttachNoKernel(t *testing.T) {
	if all, err := thisMachine.indices(); err != nil || len(all) > 0 {
		t.Skipf("this kernel has an NBD client: %v, %v", all, err)
	}
	s := attachable(t, newMemory(512))
	for _, method := range KernelMethods() {
		_, err := s.Attach(t.Context(), "x", AttachOptions{Identifier: "a", Method: method})
		if !errors.Is(err, ErrNoKernel) || !strings.Contains(err.Error(), "modprobe nbd") {
			t.Errorf("%s: %v", method, err)
		}
	}
}

// TestAttachServerClosed: the kernel's connections end with the server.
func TestAttachServerClosed(t *testing.T) {
	k := newFakeKernel(t)
	s := attachable(t, newMemory(1<<20))
	d := k.attach(s, 2)
	if err := errors.Join(d.Leave(timeLimit(t)), s.Close(timeLimit(t))); err != nil {
		t.Error(err)
	}
	_, err := s.attach(t.Context(), k.machine, k, "x", AttachOptions{Identifier: "a", Connections: 1})
	wantError(t, err, ErrNoExport)
}
