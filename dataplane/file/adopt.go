package file

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
)

// Manageable is dataplane.Driver.Manageable: the regular files of the directory whose names are not hidden. Whether
// somebody else has one open is not looked at.
func (d *Driver) Manageable(ctx context.Context, fn func(dataplane.Candidate) error) error {
	leave, err := d.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	names, err := d.names()
	if err != nil {
		return d.failed("list", d.config.Directory, err)
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		c, ok, err := d.candidate(name)
		if err != nil {
			return d.failed("look at", name, err)
		}
		if !ok {
			continue
		}
		if err := fn(c); err != nil {
			return err
		}
	}
	return nil
}

// candidate is what there is of that name; false if it is no file that a volume could be, or gone.
func (d *Driver) candidate(name string) (c dataplane.Candidate, ok bool, err error) {
	if checkName(name) != nil {
		return c, false, nil
	}
	fd, err := openat(d.dir, name, unix.O_PATH, 0)
	if errors.Is(err, unix.ENOENT) {
		return c, false, nil
	}
	if err != nil {
		return c, false, err
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return c, false, err
	}
	c = dataplane.Candidate{Name: name, Size: st.Size, Unfit: unfit(st)}
	switch r, err := d.marks.read(d.dir, fd); {
	case errors.Is(err, errNoMark):
	case err != nil && !errors.Is(err, dataplane.ErrNotOurs):
		return c, false, err
	case err == nil && r.Inode == st.Ino:
		c.VolumeID, c.Unfit = r.Mark.VolumeID, "it is the object of volume "+r.Mark.VolumeID
	default:
		c.Unfit = foreignMark
	}
	if c.Unfit == "" && d.isOpen(st.Ino) {
		c.Unfit = "it is open"
	}
	return c, true, nil
}

// foreignMark is why a file with a mark that is not its own is not taken: whose it is should be known first.
const foreignMark = "it carries the mark of another object, as a copy of one does: if it is not needed, remove the attribute " + markName

// unfit says why a file cannot be a volume; empty if it can.
func unfit(st unix.Stat_t) string {
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return "it is not a regular file"
	case st.Size == 0:
		return "it is empty"
	case st.Size%sector != 0:
		return fmt.Sprintf("its size, %d bytes, is no multiple of %d: enlarge it with truncate --size=%%%d", st.Size, sector, sector)
	case st.Nlink != 1:
		return fmt.Sprintf("it has %d names (hard links): through the others it could be written", st.Nlink)
	}
	return ""
}

// Adopt is dataplane.Driver.Adopt for a file of the directory. It is marked first and renamed then: a call that was killed
// between the two is finished by the next one.
func (d *Driver) Adopt(ctx context.Context, v dataplane.Volume, existing string, mark dataplane.Mark,
) (dataplane.Volume, error) {
	leave, err := d.enter(ctx)
	if err != nil {
		return dataplane.Volume{}, err
	}
	defer leave()
	o, err := d.adopt(ctx, v.Name, existing, mark)
	if err != nil {
		return dataplane.Volume{}, d.failed("adopt", existing, err)
	}
	return d.complete(v, o), nil
}

func (d *Driver) adopt(ctx context.Context, name, existing string, mark dataplane.Mark) (object, error) {
	if err := errors.Join(checkName(name), checkName(existing)); err != nil {
		return object{}, err
	}
	unlock, err := d.lock.take(ctx)
	if err != nil {
		return object{}, err
	}
	defer unlock()
	there, err := d.find(name)
	switch {
	case err == nil && there.mark == mark: // called before
		return there, d.dropName(existing, name, there.inode)
	case name == existing, errors.Is(err, dataplane.ErrNotFound):
	case err == nil, errors.Is(err, dataplane.ErrNotOurs):
		return object{}, fmt.Errorf("the name %s: %w", name, dataplane.ErrExists)
	default:
		return object{}, err
	}
	return d.takeOver(ctx, name, existing, mark)
}

// dropName removes the second name of a file whose rename, by link and unlink, was not finished, and makes the first durable.
func (d *Driver) dropName(second, first string, inode uint64) error {
	var st unix.Stat_t
	err := unix.Fstatat(d.dir, second, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err != nil && !errors.Is(err, unix.ENOENT):
		return err
	case err == nil && second != first && st.Ino == inode:
		if err := unix.Unlinkat(d.dir, second, 0); err != nil {
			return err
		}
	}
	return d.syncDir()
}

// takeOver marks and renames the file under the directory's lock. If it cannot be renamed, it loses its new mark again.
func (d *Driver) takeOver(ctx context.Context, name, existing string, mark dataplane.Mark) (object, error) {
	// Non-blocking: what has the name may be a pipe.
	fd, err := openat(d.dir, existing, unix.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return object{}, err
	}
	defer func() { _ = unix.Close(fd) }()
	o, err := d.markFound(ctx, fd, mark)
	if err != nil || name == existing {
		return o, err
	}
	d.step("adopted")
	if err := renameNew(d.dir, existing, name); err != nil {
		return o, errors.Join(err, d.marks.erase(d.dir, fd, o.inode))
	}
	d.step("renamed")
	return o, d.syncDir()
}

// markFound marks the open file, unless it has that very mark, if nobody else has it open. Then bytes and mark are durable.
func (d *Driver) markFound(ctx context.Context, fd int, mark dataplane.Mark) (object, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return object{}, err
	}
	o := object{inode: st.Ino, size: st.Size, mark: mark}
	r, err := d.marks.read(d.dir, fd)
	switch {
	case err == nil && r.Inode == st.Ino && r.Mark == mark:
		o.id = r.Object
		return o, nil
	case err == nil && r.Inode == st.Ino:
		return o, fmt.Errorf("it is the object of volume %s: %w", r.Mark.VolumeID, dataplane.ErrNotOurs)
	case err == nil, !errors.Is(err, errNoMark) && errors.Is(err, dataplane.ErrNotOurs):
		return o, fmt.Errorf("%s: %w", foreignMark, dataplane.ErrNotOurs)
	case !errors.Is(err, errNoMark):
		return o, err
	}
	if why := unfit(st); why != "" {
		return o, fmt.Errorf("%s: %w", why, dataplane.ErrNotSupported)
	}
	if err := d.onlyOurs(ctx, fd, st.Ino); err != nil {
		return o, err
	}
	o.id = newObjectID()
	if err := d.marks.write(d.dir, fd, record{Version: markVersion, Object: o.id, Inode: o.inode, Mark: mark}); err != nil {
		return o, fmt.Errorf("write mark: %w", err)
	}
	d.step("marked")
	return o, again(func() error { return unix.Fsync(fd) })
}

// onlyOurs is nil if nobody but fd has the file open, as far as locks and leases tell.
func (d *Driver) onlyOurs(ctx context.Context, fd int, inode uint64) error {
	if d.isOpen(inode) {
		return fmt.Errorf("it is open here: %w", dataplane.ErrBusy)
	}
	if err := alone(ctx, fd); err != nil {
		return err
	}
	var alone users
	alone.add(dataplane.Mode{Exclusive: true}, 1)
	l := locks{fd: fd, held: make(map[int64]bool)} // they go with fd
	return l.change(alone.bytes())
}

// Disown is dataplane.Driver.Disown.
func (d *Driver) Disown(ctx context.Context, v dataplane.Volume) error {
	leave, err := d.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if err := d.disown(ctx, v); err != nil {
		return d.failed("disown", v.Name, err)
	}
	return nil
}

func (d *Driver) disown(ctx context.Context, v dataplane.Volume) error {
	unlock, err := d.lock.take(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	fd, o, err := d.openObject(v, unix.O_RDWR)
	switch {
	case errors.Is(err, dataplane.ErrNotFound):
		return nil
	case errors.Is(err, errNoMark):
		return d.syncDir() // called before
	case err != nil:
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if d.isOpen(o.inode) {
		return fmt.Errorf("it is open here: %w", dataplane.ErrBusy)
	}
	err = d.marks.erase(d.dir, fd, o.inode)
	d.step("erased")
	return err
}
