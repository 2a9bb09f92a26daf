package file

import (
	"errors"

	"golang.org/x/sys/unix"
)

// abilities is what the directory's file system can do.
type abilities struct {
	xattr     bool // extended attributes of users
	birth     bool // says when a file was made
	punch     bool // FALLOC_FL_PUNCH_HOLE
	zeroRange bool // FALLOC_FL_ZERO_RANGE
	direct    bool // O_DIRECT opens and reads
	holes     bool // SEEK_HOLE is believed
}

// believed are the file systems whose SEEK_HOLE never calls data a hole after fsync, by the magic of statfs(2). Others
// may be right as well; theirs is read. 0xEF53 is ext2 and ext3 too: one driver serves all of them.
var believed = map[int64]bool{
	unix.EXT4_SUPER_MAGIC:  true,
	unix.XFS_SUPER_MAGIC:   true,
	unix.BTRFS_SUPER_MAGIC: true,
	unix.TMPFS_MAGIC:       true,
}

// probe tries everything on a file of its own. Only what says "not supported" in some way is an answer; other errors
// are errors.
func (d *Driver) probe() (can abilities, err error) {
	var fs unix.Statfs_t
	if err := again(func() error { return unix.Fstatfs(d.dir, &fs) }); err != nil {
		return can, err
	}
	can.holes = believed[int64(fs.Type)]
	name := newPrefix + newObjectID()
	fd, err := openat(d.dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return can, err
	}
	defer func() {
		err = errors.Join(err, unix.Unlinkat(d.dir, name, 0), unix.Close(fd))
	}()
	if err := writeFull(fd, make([]byte, 4*directAlign), 0); err != nil {
		return can, err
	}
	_, birthErr := birth(fd)
	can.birth = birthErr == nil
	can.direct = d.probeDirect(name)
	err = errors.Join(
		supported(&can.xattr, unix.Fsetxattr(fd, markName, []byte("probe"), 0)),
		supported(&can.punch, fallocate(fd, punchMode, 0, directAlign)),
		supported(&can.zeroRange, fallocate(fd, zeroMode, directAlign, directAlign)),
	)
	return can, err
}

// supported sets can and swallows the errors that mean no.
func supported(can *bool, err error) error {
	switch err {
	case nil:
		*can = true
		return nil
	case unix.EOPNOTSUPP, unix.ENOSYS, unix.EPERM, unix.EACCES, unix.ENODEV, unix.EINVAL:
		return nil
	}
	return err
}

// probeDirect says whether the file can be read past the page cache.
func (d *Driver) probeDirect(name string) bool {
	fd, err := d.openDirect(name)
	if err != nil {
		return false
	}
	_ = unix.Close(fd)
	return true
}

// openDirect opens a file for reading with O_DIRECT and tries it, for some file systems open and then refuse to read,
// and others read through their cache and say so only in statx.
func (d *Driver) openDirect(name string) (int, error) {
	fd, err := openat(d.dir, name, unix.O_RDONLY|unix.O_DIRECT|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if err := tryDirect(fd); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func tryDirect(fd int) error {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &st)
	if err == nil && st.Mask&unix.STATX_DIOALIGN != 0 {
		if st.Dio_offset_align == 0 || st.Dio_offset_align > directAlign || st.Dio_mem_align > directAlign {
			return unix.EOPNOTSUPP
		}
	}
	p, err := takeSlab()
	if err != nil {
		return err
	}
	defer giveSlab(p)
	return again(func() error { _, err := unix.Pread(fd, p[:directAlign], 0); return err })
}
