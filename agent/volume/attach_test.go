package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/nbd"
)

// kernel is a machine's kernel, which outlives the agent; the real one is in test/vm.
type kernel struct {
	mu      sync.Mutex
	devices map[string]*kernelDevice // by identifier
	made    int
	fail    error              // of the next attach
	touch   func(string) error // of the process that commands; nil: it lives
}

type kernelDevice struct {
	kernel     *kernel
	identifier string
	index      int
	o          nbd.AttachOptions
	export     string
	left       bool
	busy       bool
	lost       error
	resized    int
}

// withKernel gives the rig a kernel, for this start and later ones.
func withKernel(r *rig) *kernel {
	k := &kernel{devices: map[string]*kernelDevice{}}
	r.options.Kernel = k.attach
	return k
}

func (k *kernel) attach(_ context.Context, export string, o nbd.AttachOptions) (KernelDevice, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		return nil, k.fail
	}
	if err := k.touched("before attach"); err != nil {
		return nil, err
	}
	d := k.devices[o.Identifier]
	if d == nil {
		d = &kernelDevice{kernel: k, identifier: o.Identifier, index: k.made}
		k.made++
		k.devices[o.Identifier] = d
	}
	d.export, d.o, d.left, d.lost = export, o, false, nil
	return d, k.touched("after attach")
}

func (k *kernel) touched(what string) error {
	if k.touch == nil {
		return nil
	}
	return k.touch(what)
}

func (k *kernel) device(identifier string) *kernelDevice {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.devices[identifier]
}

func (d *kernelDevice) Path() string { return fmt.Sprintf("/dev/nbd%d", d.index) }
func (d *kernelDevice) Lost() error  { return d.lost }
func (d *kernelDevice) Resize() error {
	d.resized++
	return nil
}

func (d *kernelDevice) Detach(_ context.Context, force bool) error {
	if d.busy && !force {
		return fmt.Errorf("%s is mounted: %w", d.Path(), dataplane.ErrBusy)
	}
	d.kernel.mu.Lock()
	defer d.kernel.mu.Unlock()
	if err := d.kernel.touched("before detach"); err != nil {
		return err
	}
	delete(d.kernel.devices, d.identifier)
	return d.kernel.touched("after detach")
}

func (d *kernelDevice) Leave(context.Context) error {
	d.left = true
	return nil
}

func TestAttach(t *testing.T) {
	r := prepareRig(t)
	k := withKernel(r)
	r.options.Attach = nbd.AttachOptions{Connections: 3, Method: nbd.KernelNetlink}
	r.start()
	v := r.create("data")
	a, err := r.Attach(t.Context(), v.ID, false)
	check(t, err)
	if a.Device != "/dev/nbd0" || a.Connections != 3 || a.Export != "volume-"+v.ID {
		t.Errorf("attachment %+v", a)
	}
	r.status(v.ID, catalog.StatusInUse)
	if all := r.Attachments(v.ID); len(all) != 1 || all[0] != a {
		t.Errorf("recorded %+v, answered %+v", all, a)
	}
	d := k.device("cvold-" + v.ID)
	if d == nil || d.export != a.Export || d.o.Connections != 3 || d.o.Method != nbd.KernelNetlink {
		t.Fatalf("the kernel has %+v", d)
	}
	_, err = r.Attach(t.Context(), v.ID, false)
	wants(t, err, ErrInUse)
	reader, err := r.Attach(t.Context(), v.ID, true)
	check(t, err)
	if reader.Device != "/dev/nbd1" || k.device("cvold-"+v.ID+"."+reader.ID) == nil {
		t.Errorf("a reader beside it: %+v", reader)
	}
	check(t, r.Unexport(t.Context(), reader.ID))

	d.busy = true
	wants(t, r.Unexport(t.Context(), a.ID), dataplane.ErrBusy)
	r.status(v.ID, catalog.StatusInUse)
	if r.Trouble(a) != nil {
		t.Errorf("a refused detach left %v", r.Trouble(a))
	}
	check(t, r.Detach(t.Context(), a.ID, true))
	r.status(v.ID, catalog.StatusAvailable)
	if len(k.devices) != 0 || !r.refuses(a.Export) {
		t.Error("something is left over")
	}
}

// TestAttachRestart: the next run of the agent takes the device over under its identifier, with the connections that it was
// made with; after the kernel's own restart it is another one.
func TestAttachRestart(t *testing.T) {
	r := prepareRig(t)
	k := withKernel(r)
	r.options.Attach.Connections = 2
	r.start()
	v := r.create("data")
	a, err := r.Attach(t.Context(), v.ID, false)
	check(t, err)
	d := k.device("cvold-" + v.ID)
	r.stop()
	if !d.left {
		t.Error("the device was not left in good order")
	}
	r.options.Attach.Connections = 4
	r.start()
	if d.left || d.o.Connections != 2 || k.made != 1 {
		t.Errorf("taken over %v with %d connections, %d devices", !d.left, d.o.Connections, k.made)
	}
	r.stop()
	clear(k.devices)
	r.start()
	if all := r.Attachments(v.ID); len(all) != 1 || all[0].Device != "/dev/nbd1" || all[0].ID != a.ID {
		t.Errorf("recorded %+v", all)
	}
}

// TestAttachFails: what the kernel refuses leaves nothing behind; at a start the reason is told, and a later start mends it.
func TestAttachFails(t *testing.T) {
	r := prepareRig(t)
	k := withKernel(r)
	r.start()
	v := r.create("data")
	k.fail = nbd.ErrNoKernel
	_, err := r.Attach(t.Context(), v.ID, false)
	wants(t, err, nbd.ErrNoKernel)
	r.status(v.ID, catalog.StatusAvailable)
	if len(r.Attachments("")) != 0 || len(r.Users(v.ID)) != 0 || !r.refuses("volume-"+v.ID) {
		t.Error("something is left over")
	}
	k.fail = nil
	a, err := r.Attach(t.Context(), v.ID, false)
	check(t, err)
	k.fail = errors.New("the kernel is without modules today")
	r.restart()
	if got := r.get(v.ID); !strings.Contains(got.StatusReason, "without modules") {
		t.Errorf("the reason is %q", got.StatusReason)
	}
	if r.Trouble(a) == nil {
		t.Error("an attachment that is not served has no trouble")
	}
	k.fail = nil
	check(t, r.Start(t.Context()))
	if got := r.get(v.ID); got.StatusReason != "" || r.Trouble(a) != nil {
		t.Errorf("afterwards: %q, %v", got.StatusReason, r.Trouble(a))
	}
	k.device("cvold-" + v.ID).lost = nbd.ErrKernelDevice
	wants(t, r.Trouble(a), nbd.ErrKernelDevice)
	if s := r.Stats(); s.Attachments != 1 || s.Served != 0 {
		t.Errorf("with a device that is lost: %+v", s)
	}
}

// TestAttachGrows: the kernel is told when the volume is extended.
func TestAttachGrows(t *testing.T) {
	r := prepareRig(t)
	k := withKernel(r)
	r.start()
	v := r.create("data")
	_, err := r.Attach(t.Context(), v.ID, false)
	check(t, err)
	_, err = r.Extend(t.Context(), v.ID, 2*mib)
	check(t, err)
	if n := k.device("cvold-" + v.ID).resized; n != 1 {
		t.Errorf("the kernel was told %d times", n)
	}
}

// TestAttachStoreFails: a device whose record cannot be written is taken away again.
func TestAttachStoreFails(t *testing.T) {
	for n := 1; n < walkMax; n++ {
		f := &failing{at: n}
		r := prepareRig(t)
		k := withKernel(r)
		r.wrapDB = f.store
		r.start()
		v := r.create("data")
		f.arm()
		_, err := r.Attach(t.Context(), v.ID, false)
		struck := f.disarm()
		if struck && (err == nil || len(k.devices) != 0) {
			t.Errorf("update %d failed: %v, the kernel has %d devices", n, err, len(k.devices))
		}
		r.restart()
		whole(t, r)
		if kept := len(r.Attachments(v.ID)); kept != len(k.devices) {
			t.Errorf("update %d failed: %d attachments and %d devices after a restart", n, kept, len(k.devices))
		}
		r.stop()
		if !struck {
			return
		}
	}
}

// TestAttachCrash: whatever attach and detach touch, a crash there leaves an attachment with its device or neither.
func TestAttachCrash(t *testing.T) {
	for _, call := range []func(r *rig, id string) error{
		func(r *rig, id string) error { _, err := r.Attach(r.t.Context(), id, false); return err },
		func(r *rig, id string) error {
			a, err := r.Attach(r.t.Context(), id, false)
			if err != nil {
				return err
			}
			return r.Unexport(r.t.Context(), a.ID)
		},
	} {
		for n := 1; n < walkMax; n++ {
			r := prepareRig(t)
			k := withKernel(r)
			m := &mortal{t: t}
			r.wrap, r.wrapDB, k.touch = m.driver, m.store, m.touch
			r.start()
			v := r.create("data")
			m.arm(n)
			err := call(r, v.ID)
			if dead := m.dead; dead && err == nil {
				t.Errorf("death %s was answered with success", m.where)
			}
			dead := m.dead
			r.die(m)
			k.touch = nil
			r.start()
			whole(t, r)
			var want []string
			for _, a := range r.Attachments("") {
				want = append(want, identifier(a))
			}
			var got []string
			for id := range k.devices {
				got = append(got, id)
			}
			if !slices.Equal(got, want) {
				t.Errorf("after death %s: devices %v, attachments %v", m.where, got, want)
			}
			r.stop()
			if !dead {
				break
			}
		}
	}
}
