package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/zeebo/xxh3"
	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/transfer"
)

// identity tells the object behind a device from any other, and its generation whether it was written to, as far as can
// be seen from outside: known says whether it can.
type identity struct {
	name       string
	generation uint64
	known      bool
	written    int64 // when it was written to last, in nanoseconds
}

// identify looks at the device that name stands for. A file is its inode and when it was born, for inodes are used again;
// what changes it changes its times. A block device and an NBD export show no change, nor do files of a program (FUSE).
func identify(name string, d dataplane.Device) (id identity, err error) {
	size, err := d.Size()
	if err != nil {
		return id, err
	}
	path := d.Info().Path
	if path == "" {
		return identity{name: shortened(fmt.Sprintf("%s %d", name, size))}, nil
	}
	var x unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &x); err != nil {
		return id, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	if x.Mode&unix.S_IFMT == unix.S_IFBLK {
		return identity{name: fmt.Sprintf("block device %s of %d bytes", diskName("/sys/dev/block", x.Rdev_major, x.Rdev_minor), size)}, nil
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return id, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	var times []byte
	for _, t := range []unix.StatxTimestamp{x.Mtime, x.Ctime} {
		times = binary.BigEndian.AppendUint64(times, uint64(t.Sec))
		times = binary.BigEndian.AppendUint32(times, t.Nsec)
	}
	return identity{
		name:       fmt.Sprintf("file %d on %s, born %d.%09d", x.Ino, fileSystem(&fs, &x), x.Btime.Sec, x.Btime.Nsec),
		generation: xxh3.Hash(times), known: int64(fs.Type) != unix.FUSE_SUPER_MAGIC,
		written: x.Mtime.Sec*int64(time.Second) + int64(x.Mtime.Nsec),
	}, nil
}

// fileSystem names a file system by its own id, which is the same after a restart of the machine where there is one; the
// number of its device need not be.
func fileSystem(fs *unix.Statfs_t, x *unix.Statx_t) string {
	if fs.Fsid.Val == [2]int32{} {
		return fmt.Sprintf("device %d:%d", x.Dev_major, x.Dev_minor)
	}
	return fmt.Sprintf("%08x%08x", uint32(fs.Fsid.Val[0]), uint32(fs.Fsid.Val[1]))
}

// diskName names a block device by what the disk says of itself, and a partition's number. Where it says nothing it is the
// number that no two disks have had since the machine was started (Documentation/ABI in the kernel: sysfs-block).
func diskName(sys string, major, minor uint32) string {
	at := fmt.Sprintf("%s/%d:%d/", sys, major, minor)
	read := func(name string) string {
		text, err := os.ReadFile(at + name)
		if err != nil {
			return ""
		}
		return strings.Join(strings.Fields(string(text)), " ")
	}
	disk, number := "", ""
	if number = read("partition"); number != "" {
		disk, number = "../", " partition "+number
	}
	for _, name := range []string{"dm/uuid", "wwid", "device/wwid", "serial"} {
		if id := read(disk + name); id != "" {
			return id + number
		}
	}
	return fmt.Sprintf("%d:%d disk %s", major, minor, read(disk+"diskseq")) + number
}

// shortened is a name that fits into a checkpoint: of one that is too long, the end is its hash.
func shortened(name string) string {
	if len(name) <= transfer.MaxIdentity {
		return name
	}
	hash := fmt.Sprintf(" %016x", xxh3.HashString(name))
	return name[:transfer.MaxIdentity-len(hash)] + hash
}
