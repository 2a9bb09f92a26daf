package file

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
)

// Create is dataplane.Driver.Create. Size is a multiple of 512 bytes. The file takes no space yet.
//
// The file is made, marked and synced under a name of the driver's own and then renamed, so that one that carries the
// volume's name is always whole.
func (d *Driver) Create(ctx context.Context, v dataplane.Volume, mark dataplane.Mark) (dataplane.Volume, error) {
	leave, err := d.enter(ctx)
	if err != nil {
		return dataplane.Volume{}, err
	}
	defer leave()
	o, err := d.create(ctx, v, mark)
	if err != nil {
		return dataplane.Volume{}, d.failed("create", v.Name, err)
	}
	return d.complete(v, o), nil
}

func (d *Driver) create(ctx context.Context, v dataplane.Volume, mark dataplane.Mark) (object, error) {
	if err := checkName(v.Name); err != nil {
		return object{}, err
	}
	if err := checkSize(v.Size); err != nil {
		return object{}, err
	}
	unlock, err := d.lock.take(ctx)
	if err != nil {
		return object{}, err
	}
	defer unlock()
	if err := d.sweep(); err != nil {
		return object{}, err
	}
	o, err := d.find(v.Name)
	switch {
	case errors.Is(err, dataplane.ErrNotFound):
		return d.make(v, mark)
	case errors.Is(err, dataplane.ErrNotOurs):
		return o, fmt.Errorf("%w: it is not ours", dataplane.ErrExists)
	case err != nil:
		return o, err
	case o.mark != mark:
		return o, fmt.Errorf("%w: its mark is %+v", dataplane.ErrExists, o.mark)
	case o.size != v.Size:
		return o, fmt.Errorf("%w: it has %d bytes, not %d", dataplane.ErrExists, o.size, v.Size)
	}
	return o, d.syncDir() // who made it may have been killed before he could
}

func checkSize(size int64) error {
	if size <= 0 {
		return fmt.Errorf("%d bytes: %w", size, dataplane.ErrOutOfRange)
	}
	if size%sector != 0 {
		return fmt.Errorf("%d bytes are no multiple of %d: %w", size, sector, dataplane.ErrUnaligned)
	}
	return nil
}

// make makes the file under the directory's lock.
func (d *Driver) make(v dataplane.Volume, mark dataplane.Mark) (object, error) {
	o := object{id: newObjectID(), size: v.Size, mark: mark}
	temp := newPrefix + o.id
	fd, err := openat(d.dir, temp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return o, err
	}
	defer func() { _ = unix.Close(fd) }()
	d.step("created")
	if err = d.fill(fd, &o); err == nil {
		err = renameNew(d.dir, temp, v.Name)
	}
	if err != nil {
		return o, errors.Join(err, d.unmake(temp, o.inode))
	}
	d.step("renamed")
	return o, d.syncDir()
}

// fill gives the new file its size and mark, durably.
func (d *Driver) fill(fd int, o *object) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	o.inode = st.Ino
	if err := again(func() error { return unix.Ftruncate(fd, o.size) }); err != nil {
		return err
	}
	d.step("sized")
	r := record{Version: markVersion, Object: o.id, Inode: o.inode, Mark: o.mark}
	if err := d.marks.write(d.dir, fd, r); err != nil {
		return fmt.Errorf("write mark: %w", err)
	}
	d.step("marked")
	err := again(func() error { return unix.Fsync(fd) })
	d.step("synced")
	return err
}

// unmake removes what make made, as sweep would.
func (d *Driver) unmake(temp string, inode uint64) error {
	err := unix.Unlinkat(d.dir, temp, 0)
	if inode == 0 {
		return err
	}
	return errors.Join(err, d.marks.remove(d.dir, inode))
}
