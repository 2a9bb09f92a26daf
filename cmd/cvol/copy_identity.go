package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"

	"github.com/zeebo/xxh3"
	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
)

// identity tells the object behind a device from any other, and its generation whether it was written to, as far as can
// be seen from outside: known says whether it can.
type identity struct {
	name       string
	generation uint64
	known      bool
}

// identify looks at the device that name stands for. A file is its inode and when it was born, for inodes are used again;
// what changes it changes its times. A block device and an NBD export show no change.
func identify(name string, d dataplane.Device) (id identity, err error) {
	size, err := d.Size()
	if err != nil {
		return id, err
	}
	path := d.Info().Path
	if path == "" {
		return identity{name: fmt.Sprintf("%s %d", name, size)}, nil
	}
	var x unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &x); err != nil {
		return id, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	if x.Mode&unix.S_IFMT == unix.S_IFBLK {
		return identity{name: fmt.Sprintf("block %d:%d %s %d", x.Rdev_major, x.Rdev_minor, diskSequence(x.Rdev_major, x.Rdev_minor), size)}, nil
	}
	var times []byte
	for _, t := range []unix.StatxTimestamp{x.Mtime, x.Ctime} {
		times = binary.BigEndian.AppendUint64(times, uint64(t.Sec))
		times = binary.BigEndian.AppendUint32(times, t.Nsec)
	}
	return identity{
		name:       fmt.Sprintf("file %d:%d %d born %d.%09d", x.Dev_major, x.Dev_minor, x.Ino, x.Btime.Sec, x.Btime.Nsec),
		generation: xxh3.Hash(times), known: true,
	}, nil
}

// diskSequence is a number that no two disks have had since the machine was started (Documentation/ABI/testing/sysfs-block of
// the kernel); empty where the kernel does not tell.
func diskSequence(major, minor uint32) string {
	for _, at := range []string{"diskseq", "../diskseq"} { // of a partition its disk has it
		text, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/%s", major, minor, at))
		if err == nil {
			return "disk " + strings.TrimSpace(string(text))
		}
	}
	return ""
}
