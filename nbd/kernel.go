package nbd

import (
	"errors"
	"os"
	"strings"
	"time"
)

var (
	// ErrNoKernel: this machine's kernel has no NBD client, or does not let this process use it.
	ErrNoKernel = errors.New("the kernel's NBD client cannot be used")
	// ErrKernelDevice: the kernel has no such device, or took it away from this process.
	ErrKernelDevice = errors.New("no such NBD device")
)

// KernelMethod is how the kernel's client is commanded.
type KernelMethod string

// The methods. Devices made by netlink outlive the process that made them, for a time; those made by ioctl do not.
const (
	KernelAuto    KernelMethod = "auto" // netlink, else ioctl
	KernelNetlink KernelMethod = "netlink"
	KernelIoctl   KernelMethod = "ioctl"
)

// KernelMethods are all of them.
func KernelMethods() []KernelMethod { return []KernelMethod{KernelAuto, KernelNetlink, KernelIoctl} }

// kernel is the kernel's NBD client. Its sockets are ends of connections in transmission; the caller closes its own copies
// of them after the call. A device is known by its index N, as /dev/nbdN.
type kernel interface {
	// keeps says that devices outlive their connections, and the process, so that reconnect can give them others.
	keeps() bool
	// connect makes a device.
	connect(sockets []*os.File, p deviceParameters) (index int, err error)
	// reconnect gives a device sockets in the place of such as are lost; those that it has no place for are closed. It
	// has p's size and timeouts then. ErrKernelDevice if it is not p's device.
	reconnect(index int, sockets []*os.File, p deviceParameters) error
	// disconnect ends a device. The kernel takes leave of the server first.
	disconnect(index int) error
}

// deviceParameters are what the kernel is told of a device.
type deviceParameters struct {
	identifier     string
	size           int64
	block          int64 // logical block size
	flags          uint16
	requestTimeout time.Duration
	deadTimeout    time.Duration
}

// openKernel finds out how the kernel can be commanded.
func openKernel(method KernelMethod) (kernel, error) {
	if method == KernelIoctl {
		return newIoctlKernel()
	}
	k, err := newNetlinkKernel()
	if err == nil || method == KernelNetlink {
		return k, err
	}
	if old, other := newIoctlKernel(); other == nil {
		return old, nil
	}
	return nil, err
}

// checkIdentifier wants what can stand in the name of a link below /dev.
func checkIdentifier(identifier string) error {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
	if identifier == "" || len(identifier) > 255 || strings.Trim(identifier, letters) != "" || identifier[0] == '.' {
		return errors.New("an identifier has letters, digits, -, _ and ., at most 255")
	}
	return nil
}
