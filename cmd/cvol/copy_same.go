package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
)

// errSameDevice: the copy would be of a device onto itself.
var errSameDevice = errors.New("source and target are one and the same")

// place is where the bytes of a local file or block device are.
type place struct {
	// file is the device and inode of the file itself, or of the one behind a loop device, which has its bytes from the
	// from-th to before the to-th.
	file     [2]uint64
	from, to uint64
	// device is a block device's number, disk that of the disk of which it is a partition; 0: none.
	device, disk uint64
}

// same says that two devices are one file, one block device, a partition and its disk, or a file and a loop device on it.
func same(a, b dataplane.Device) bool {
	return samePlace(a.Info().Path, b.Info().Path)
}

// samePlace is same for paths; that of a device elsewhere is empty.
func samePlace(a, b string) bool {
	if a == "" || b == "" {
		return false
	}
	x, errX := placeOf(a)
	y, errY := placeOf(b)
	return errX == nil && errY == nil && x.overlaps(y)
}

func (p place) overlaps(q place) bool {
	if p.device != 0 && (p.device == q.device || p.device == q.disk) || p.disk != 0 && p.disk == q.device {
		return true
	}
	partitions := p.disk != 0 && q.disk != 0
	return p.file != [2]uint64{} && p.file == q.file && p.from < q.to && q.from < p.to && !partitions
}

func placeOf(path string) (p place, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return p, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return place{file: [2]uint64{st.Dev, st.Ino}, to: math.MaxUint64}, nil
	case unix.S_IFBLK:
	default:
		return p, nil // a pipe, a terminal
	}
	p.device = st.Rdev
	sys := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	if _, err := os.Stat(sys + "/partition"); err == nil {
		p.disk = sysfsNumber(sys + "/../dev")
	}
	if at, err := os.Readlink(sys); err == nil && strings.Contains(at, "/block/loop") {
		p.behindLoop(path)
	}
	return p, nil
}

// sysfsNumber reads a number like 8:0 of sysfs; 0: there is none.
func sysfsNumber(path string) uint64 {
	text, err := os.ReadFile(path)
	var major, minor uint32
	if err == nil {
		_, err = fmt.Sscanf(string(text), "%d:%d", &major, &minor)
	}
	if err != nil {
		return 0
	}
	return unix.Mkdev(major, minor)
}

// behindLoop notes the file behind a loop device, if loop(4) tells it.
func (p *place) behindLoop(path string) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer func() { _ = unix.Close(fd) }()
	info, err := unix.IoctlLoopGetStatus64(fd)
	if err != nil {
		return
	}
	p.file, p.from, p.to = [2]uint64{info.Device, info.Inode}, info.Offset, math.MaxUint64
	if info.Sizelimit > 0 {
		p.to = info.Offset + info.Sizelimit
	}
}
