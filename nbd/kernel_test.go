package nbd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pojntfx/go-nbd/pkg/ioctl"
	"github.com/vishvananda/netlink/nl"
)

// TestIoctlNumbers: ours are go-nbd's, which it has not for every architecture.
func TestIoctlNumbers(t *testing.T) {
	for _, n := range []struct{ ours, theirs uint }{
		{ioctlSetSocket, ioctl.NEGOTIATION_IOCTL_SET_SOCK}, {ioctlSetBlock, ioctl.NEGOTIATION_IOCTL_SET_BLOCKSIZE},
		{ioctlSetBlocks, ioctl.NEGOTIATION_IOCTL_SET_SIZE_BLOCKS}, {ioctlDoIt, ioctl.NEGOTIATION_IOCTL_DO_IT},
		{ioctlSetTimeout, ioctl.NEGOTIATION_IOCTL_SET_TIMEOUT}, {ioctlDisconnect, ioctl.TRANSMISSION_IOCTL_DISCONNECT},
		{ioctlClear, ioctl.TRANSMISSION_IOCTL_CLEAR_SOCK},
	} {
		if n.ours != n.theirs {
			t.Errorf("%#x is %#x at go-nbd", n.ours, n.theirs)
		}
	}
}

// TestNetlinkAttributes: what the kernel is told, byte for byte.
func TestNetlinkAttributes(t *testing.T) {
	p := deviceParameters{identifier: "ab", size: 1 << 20, requestTimeout: 1500 * time.Millisecond, deadTimeout: time.Minute}
	var got, want []byte
	for _, a := range p.attributes() {
		got = append(got, a.Serialize()...)
	}
	number := func(kind uint16, v uint64) {
		want = binary.NativeEndian.AppendUint16(want, 12)
		want = binary.NativeEndian.AppendUint16(want, kind)
		want = binary.NativeEndian.AppendUint64(want, v)
	}
	number(2, 1<<20)
	number(4, 2)
	number(8, 60)
	want = binary.NativeEndian.AppendUint16(want, 7)
	want = append(binary.NativeEndian.AppendUint16(want, 10), "ab\x00\x00"...)
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%x, want\n%x", got, want)
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want = want[:0]
	for _, head := range [][2]uint16{{16, 7 | 1<<15}, {12, 1 | 1<<15}, {8, 1}} {
		want = binary.NativeEndian.AppendUint16(binary.NativeEndian.AppendUint16(want, head[0]), head[1])
	}
	want = binary.NativeEndian.AppendUint32(want, uint32(f.Fd()))
	if got := socketAttributes([]*os.File{f}).Serialize(); !bytes.Equal(got, want) {
		t.Errorf("sockets are\n%x, want\n%x", got, want)
	}
}

// TestParseIndex: the kernel's answers, whole, without an index, and cut.
func TestParseIndex(t *testing.T) {
	answer := append((&nl.Genlmsg{Command: nbdConnect, Version: 1}).Serialize(), nl.NewRtAttr(attrIndex, nl.Uint32Attr(7)).Serialize()...)
	if index, err := parseIndex([][]byte{nil, answer}); err != nil || index != 7 {
		t.Errorf("index %d, %v", index, err)
	}
	for n := range len(answer) {
		if index, err := parseIndex([][]byte{answer[:n]}); err == nil {
			t.Errorf("%d bytes are index %d", n, index)
		}
	}
}

func TestMachine(t *testing.T) {
	k := newFakeKernel(t)
	k.tell(3, map[string]string{"backend": "cvold-1\n", "pid": "7\n", "size": "2048\n"})
	k.tell(12, map[string]string{"size": "x"})
	k.tell(4, map[string]string{"backend": "cvold-10"})
	for _, name := range []string{"nbdx", "nbd-1", "nbd"} {
		if err := os.Mkdir(filepath.Join(k.machine.sysfs, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	all, err := k.machine.indices()
	if err != nil || len(all) != 3 || all[0] != 3 || all[2] != 12 {
		t.Errorf("indices %v, %v", all, err)
	}
	if index, err := k.machine.find("cvold-1"); err != nil || index != 3 {
		t.Errorf("found %d, %v", index, err)
	}
	if index, err := k.machine.find("cvold-10"); err != nil || index != 4 {
		t.Errorf("found %d, %v", index, err)
	}
	_, err = k.machine.find("cvold-")
	wantError(t, err, ErrKernelDevice)
	if !k.machine.connected(3) || k.machine.connected(4) || k.machine.connected(5) {
		t.Error("device 3 alone is connected")
	}
	if n, err := k.machine.number(3, "size"); err != nil || n != 2048 {
		t.Errorf("size %d, %v", n, err)
	}
	if _, err := k.machine.number(12, "size"); err == nil {
		t.Error("x is no number")
	}
	_, err = machine{sysfs: filepath.Join(k.machine.sysfs, "none")}.find("a")
	if err == nil || errors.Is(err, ErrKernelDevice) {
		t.Errorf("without a directory: %v", err)
	}
}
