package nbd

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// The ioctls of the kernel's client (include/uapi/linux/nbd.h): go-nbd's numbers, which it has for amd64 or with cgo only; a
// test holds them together.
const (
	ioctlSetSocket  = 0xab00
	ioctlSetBlock   = 0xab01
	ioctlDoIt       = 0xab03
	ioctlClear      = 0xab04
	ioctlSetBlocks  = 0xab07
	ioctlDisconnect = 0xab08
	ioctlSetTimeout = 0xab09
	ioctlSetFlags   = 0xab0a
)

// ioctlKernel commands the kernel's client by ioctl: for kernels before 5.14, and where the host's netlink is out of reach.
// A device is lost with its connection, so it has one, and the kernel does not end that for being slow.
type ioctlKernel struct {
	mu      sync.Mutex
	devices map[int]*ioctlDevice
}

// ioctlDevice is a device that this process made.
type ioctlDevice struct {
	file  *os.File
	ended chan struct{} // closed when the kernel has let go of it
}

// ioctlDevices are of the process, whichever server made them.
var ioctlDevices = &ioctlKernel{devices: map[int]*ioctlDevice{}}

func newIoctlKernel() (kernel, error) {
	if all, err := thisMachine.indices(); err != nil || len(all) == 0 {
		return nil, fmt.Errorf("%w: there is no /dev/nbd0: modprobe nbd", ErrNoKernel)
	}
	return ioctlDevices, nil
}

func (*ioctlKernel) keeps() bool { return false }

// connect takes the first device that is free.
func (k *ioctlKernel) connect(sockets []*os.File, p deviceParameters) (int, error) {
	all, err := thisMachine.indices()
	if err != nil {
		return 0, err
	}
	for _, index := range all {
		if thisMachine.connected(index) {
			continue
		}
		err := k.take(index, sockets[0], p)
		if err == nil {
			return index, nil
		}
		if !errors.Is(err, unix.EBUSY) { // somebody was faster
			return 0, err
		}
	}
	return 0, fmt.Errorf("connect an NBD device: all %d are in use: modprobe nbd nbds_max=N makes more", len(all))
}

func (k *ioctlKernel) take(index int, socket *os.File, p deviceParameters) error {
	f, err := os.OpenFile(thisMachine.path(index), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("connect an NBD device: %w", err)
	}
	d := &ioctlDevice{file: f, ended: make(chan struct{})}
	if err := d.configure(socket, p); err != nil {
		f.Close()
		if errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("%w: it wants CAP_SYS_ADMIN: %w", ErrNoKernel, err)
		}
		return fmt.Errorf("connect %s: %w", thisMachine.path(index), err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.devices[index] = d
	go func() {
		d.run()
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.devices, index)
		close(d.ended)
	}()
	return nil
}

// configure sets the socket first: the kernel says then whether somebody else has the device.
func (d *ioctlDevice) configure(socket *os.File, p deviceParameters) error {
	for _, step := range []struct {
		name    string
		command uint
		value   int64
	}{
		{"socket", ioctlSetSocket, int64(socket.Fd())},
		{"block size", ioctlSetBlock, p.block},
		{"size", ioctlSetBlocks, p.size / p.block},
		{"flags", ioctlSetFlags, int64(p.flags)},
		{"timeout", ioctlSetTimeout, 0},
	} {
		if err := d.ioctl(step.command, step.value); err != nil {
			if step.command != ioctlSetSocket {
				d.ioctl(ioctlClear, 0)
			}
			return fmt.Errorf("set its %s: %w", step.name, err)
		}
	}
	return nil
}

// run is the kernel's work for the device, until that is disconnected. A signal would end it, so its thread takes none; the
// thread ends with it.
func (d *ioctlDevice) run() {
	runtime.LockOSThread()
	var all unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if unix.PthreadSigmask(unix.SIG_BLOCK, &all, nil) == nil {
		d.ioctl(ioctlDoIt, 0) // its error says how it ended, which does not matter
	}
	d.ioctl(ioctlClear, 0)
	d.file.Close()
}

// ioctl calls with the file's own descriptor, which stays open meanwhile.
func (d *ioctlDevice) ioctl(command uint, value int64) (err error) {
	raw, err := d.file.SyscallConn()
	if err != nil {
		return err
	}
	controlled := raw.Control(func(fd uintptr) { err = unix.IoctlSetInt(int(fd), command, int(value)) })
	return errors.Join(controlled, err)
}

func (k *ioctlKernel) device(index int) (*ioctlDevice, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	d := k.devices[index]
	if d == nil {
		return nil, fmt.Errorf("%s: %w", thisMachine.path(index), ErrKernelDevice)
	}
	return d, nil
}

// reconnect can set the size alone.
func (k *ioctlKernel) reconnect(index int, sockets []*os.File, p deviceParameters) error {
	d, err := k.device(index)
	if err != nil {
		return err
	}
	if len(sockets) > 0 {
		return fmt.Errorf("connect %s again: %w: its connection was lost", thisMachine.path(index), ErrKernelDevice)
	}
	if err := d.ioctl(ioctlSetBlocks, p.size/p.block); err != nil {
		return fmt.Errorf("set the size of %s: %w", thisMachine.path(index), err)
	}
	return nil
}

func (k *ioctlKernel) disconnect(index int) error {
	d, err := k.device(index)
	if err != nil {
		return err
	}
	if err := d.ioctl(ioctlDisconnect, 0); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("disconnect %s: %w", thisMachine.path(index), err)
	}
	<-d.ended
	return nil
}
