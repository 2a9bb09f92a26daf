package file

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
)

// object is a file of ours as it was found.
type object struct {
	id    string
	inode uint64
	size  int64
	mark  dataplane.Mark
}

// identity tells this file from any other that ever had its name.
func (o object) identity() string { return o.id + ":" + strconv.FormatUint(o.inode, 10) }

// find is the object of that name: ErrNotFound, ErrNotOurs. It does not count as having the file open.
func (d *Driver) find(name string) (object, error) {
	if err := checkName(name); err != nil {
		return object{}, err
	}
	fd, err := openat(d.dir, name, unix.O_PATH, 0)
	if err != nil {
		return object{}, border(err)
	}
	defer func() { _ = unix.Close(fd) }()
	return d.inspect(fd)
}

// inspect is the object that is open as fd.
func (d *Driver) inspect(fd int) (object, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return object{}, border(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return object{}, fmt.Errorf("no regular file: %w", dataplane.ErrNotOurs)
	}
	r, err := d.marks.read(d.dir, fd)
	if err != nil {
		return object{}, border(err)
	}
	if r.Inode != st.Ino {
		return object{}, fmt.Errorf("copy of an object of ours: %w", dataplane.ErrNotOurs)
	}
	return object{id: r.Object, inode: st.Ino, size: st.Size, mark: r.Mark}, nil
}

// require is find for v's own object: ErrNotOurs if it is another one.
func (d *Driver) require(v dataplane.Volume) (object, error) {
	o, err := d.find(v.Name)
	if err != nil {
		return o, err
	}
	return o, o.mustBe(v)
}

func (o object) mustBe(v dataplane.Volume) error {
	if v.Identity == "" || v.Identity != o.identity() {
		return fmt.Errorf("identity %s, not %q: %w", o.identity(), v.Identity, dataplane.ErrNotOurs)
	}
	return nil
}

// openObject opens v's own object. The caller closes fd.
func (d *Driver) openObject(v dataplane.Volume, flags int) (fd int, o object, err error) {
	if o, err = d.require(v); err != nil { // before opening: a foreign file may be a pipe that blocks
		return -1, o, err
	}
	// Non-blocking is for the pipe that could take the file's place now; regular files don't care.
	if fd, err = openat(d.dir, v.Name, flags|unix.O_NONBLOCK, 0); err != nil {
		return -1, o, border(err)
	}
	if o, err = d.inspect(fd); err == nil {
		err = o.mustBe(v)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, o, err
	}
	return fd, o, nil
}

// renameNew gives a file another name that nobody has: ErrExists.
func renameNew(dir int, oldName, newName string) error {
	err := unix.Renameat2(dir, oldName, dir, newName, unix.RENAME_NOREPLACE)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	// A file system that cannot do that: a link fails where the name is taken.
	if err := unix.Linkat(dir, oldName, dir, newName, 0); err != nil {
		return err
	}
	return unix.Unlinkat(dir, oldName, 0)
}
