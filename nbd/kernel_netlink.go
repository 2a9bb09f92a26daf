package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The generic netlink family of the kernel's client (include/uapi/linux/nbd-netlink.h).
const (
	nbdFamily  = "nbd"
	nbdVersion = 1

	nbdConnect     = uint8(1)
	nbdDisconnect  = uint8(2)
	nbdReconfigure = uint8(3)

	attrIndex       = 1
	attrSize        = 2
	attrBlockSize   = 3
	attrTimeout     = 4
	attrServerFlags = 5
	attrClientFlags = 6
	attrSockets     = 7
	attrDeadTimeout = 8
	attrBackend     = 10 // since Linux 5.14

	attrSocketItem = 1
	attrSocketFD   = 1
)

// netlinkKernel commands the kernel's client by netlink.
type netlinkKernel struct{ family uint16 }

// newNetlinkKernel looks the family up. Kernels that cannot keep an identifier are not used this way: after a restart
// nothing would tell our devices from others'.
func newNetlinkKernel() (kernel, error) {
	request := nl.NewNetlinkRequest(nl.GENL_ID_CTRL, unix.NLM_F_ACK)
	request.AddData(&nl.Genlmsg{Command: nl.GENL_CTRL_CMD_GETFAMILY, Version: nl.GENL_CTRL_VERSION})
	request.AddData(nl.NewRtAttr(nl.GENL_CTRL_ATTR_FAMILY_NAME, nl.ZeroTerminated(nbdFamily)))
	answers, err := request.Execute(unix.NETLINK_GENERIC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("%w: it is not there: modprobe nbd", ErrNoKernel)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: look for its netlink family: %w", ErrNoKernel, err)
	}
	family, attributes := uint16(0), uint32(0)
	for _, b := range answers {
		if len(b) < nl.SizeofGenlmsg {
			continue
		}
		values, err := nl.ParseRouteAttrAsMap(b[nl.SizeofGenlmsg:])
		if err != nil {
			return nil, fmt.Errorf("%w: its netlink family: %w", ErrNoKernel, err)
		}
		if v := values[nl.GENL_CTRL_ATTR_FAMILY_ID].Value; len(v) >= 2 {
			family = binary.NativeEndian.Uint16(v)
		}
		if v := values[nl.GENL_CTRL_ATTR_MAXATTR].Value; len(v) >= 4 {
			attributes = binary.NativeEndian.Uint32(v)
		}
	}
	if family == 0 || attributes < attrBackend {
		return nil, fmt.Errorf("%w: by netlink it needs Linux 5.14", ErrNoKernel)
	}
	return netlinkKernel{family}, nil
}

func (netlinkKernel) keeps() bool { return true }

func (k netlinkKernel) connect(sockets []*os.File, p deviceParameters) (int, error) {
	answers, err := k.ask(nbdConnect,
		append(p.attributes(),
			nl.NewRtAttr(attrBlockSize, nl.Uint64Attr(uint64(p.block))),
			nl.NewRtAttr(attrServerFlags, nl.Uint64Attr(uint64(p.flags))),
			nl.NewRtAttr(attrClientFlags, nl.Uint64Attr(0)),
			socketAttributes(sockets)))
	if err != nil {
		return 0, fmt.Errorf("connect an NBD device: %w", err)
	}
	return parseIndex(answers)
}

// parseIndex reads which device the kernel has made.
func parseIndex(answers [][]byte) (int, error) {
	for _, b := range answers {
		if len(b) < nl.SizeofGenlmsg {
			continue
		}
		values, err := nl.ParseRouteAttrAsMap(b[nl.SizeofGenlmsg:])
		if err != nil {
			return 0, fmt.Errorf("connect an NBD device: %w", err)
		}
		if v := values[attrIndex].Value; len(v) >= 4 {
			return int(binary.NativeEndian.Uint32(v)), nil
		}
	}
	return 0, errors.New("connect an NBD device: the kernel does not say which one it is")
}

func (k netlinkKernel) reconnect(index int, sockets []*os.File, p deviceParameters) error {
	attributes := append(p.attributes(), nl.NewRtAttr(attrIndex, nl.Uint32Attr(uint32(index))))
	if len(sockets) > 0 {
		attributes = append(attributes, socketAttributes(sockets))
	}
	_, err := k.ask(nbdReconfigure, attributes)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("connect %s again: %w: %w", thisMachine.path(index), ErrKernelDevice, err)
	}
	if err != nil {
		return fmt.Errorf("connect %s again: %w", thisMachine.path(index), err)
	}
	return nil
}

func (k netlinkKernel) disconnect(index int) error {
	_, err := k.ask(nbdDisconnect, []*nl.RtAttr{nl.NewRtAttr(attrIndex, nl.Uint32Attr(uint32(index)))})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("disconnect %s: %w: %w", thisMachine.path(index), ErrKernelDevice, err)
	}
	if err != nil {
		return fmt.Errorf("disconnect %s: %w", thisMachine.path(index), err)
	}
	return nil
}

// attributes are those that a device is made with, and can be given again. The kernel refuses another identifier than the
// device was made with.
func (p deviceParameters) attributes() []*nl.RtAttr {
	return []*nl.RtAttr{
		nl.NewRtAttr(attrSize, nl.Uint64Attr(uint64(p.size))),
		nl.NewRtAttr(attrTimeout, nl.Uint64Attr(seconds(p.requestTimeout))),
		nl.NewRtAttr(attrDeadTimeout, nl.Uint64Attr(seconds(p.deadTimeout))),
		nl.NewRtAttr(attrBackend, nl.ZeroTerminated(p.identifier)),
	}
}

// seconds of a timeout; a part of one is a whole one, for zero means something else.
func seconds(d time.Duration) uint64 { return uint64((d + time.Second - 1) / time.Second) }

func socketAttributes(sockets []*os.File) *nl.RtAttr {
	list := nl.NewRtAttr(attrSockets|unix.NLA_F_NESTED, nil)
	for _, s := range sockets {
		item := list.AddRtAttr(attrSocketItem|unix.NLA_F_NESTED, nil)
		item.AddRtAttr(attrSocketFD, nl.Uint32Attr(uint32(s.Fd())))
	}
	return list
}

// ask sends one command and returns the answers. The kernel's word on what is wrong comes as its error.
func (k netlinkKernel) ask(command uint8, attributes []*nl.RtAttr) ([][]byte, error) {
	request := nl.NewNetlinkRequest(int(k.family), unix.NLM_F_ACK)
	request.AddData(&nl.Genlmsg{Command: command, Version: nbdVersion})
	for _, a := range attributes {
		request.AddData(a)
	}
	answers, err := request.Execute(unix.NETLINK_GENERIC, k.family)
	if errors.Is(err, unix.EPERM) {
		err = fmt.Errorf("%w: it wants CAP_SYS_ADMIN: %w", ErrNoKernel, err)
	}
	return answers, err
}
