package file

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
)

// Extend is dataplane.Driver.Extend. The size is a multiple of 512 bytes.
func (d *Driver) Extend(ctx context.Context, v dataplane.Volume, size int64) error {
	leave, err := d.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if err := d.extend(v, size); err != nil {
		return d.failed("extend", v.Name, err)
	}
	return nil
}

func (d *Driver) extend(v dataplane.Volume, size int64) error {
	if err := checkSize(size); err != nil {
		return err
	}
	fd, o, err := d.openObject(v, unix.O_RDWR)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if size < o.size {
		return fmt.Errorf("from %d to %d bytes: %w", o.size, size, dataplane.ErrOutOfRange)
	}
	if size > o.size {
		if err := again(func() error { return unix.Ftruncate(fd, size) }); err != nil {
			return err
		}
	}
	d.step("extended")
	if err := again(func() error { return unix.Fsync(fd) }); err != nil {
		return err
	}
	d.resized(o.inode, size)
	return nil
}

// Delete is dataplane.Driver.Delete. Devices of this driver on the volume make it ErrBusy as well.
func (d *Driver) Delete(ctx context.Context, v dataplane.Volume) error {
	leave, err := d.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if err := d.delete(ctx, v); err != nil {
		return d.failed("delete", v.Name, err)
	}
	return nil
}

func (d *Driver) delete(ctx context.Context, v dataplane.Volume) error {
	unlock, err := d.lock.take(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	o, err := d.require(v)
	if errors.Is(err, dataplane.ErrNotFound) {
		// Perhaps the second call, after the first was killed: its rest is the name's durability, and the mark.
		return errors.Join(d.syncDir(), d.sweep())
	}
	if err != nil {
		return err
	}
	if d.isOpen(o.inode) {
		return fmt.Errorf("it is open here: %w", dataplane.ErrBusy)
	}
	vol, err := d.acquire(ctx, v, dataplane.Mode{Exclusive: true, ReadOnly: true})
	if err != nil {
		return err
	}
	defer d.release(vol, dataplane.Mode{Exclusive: true, ReadOnly: true})
	return d.unlink(v, o)
}

func (d *Driver) unlink(v dataplane.Volume, o object) error {
	if _, err := d.require(v); err != nil { // once more: waiting for the lock took its time
		return err
	}
	if err := unix.Unlinkat(d.dir, v.Name, 0); err != nil {
		return err
	}
	d.step("unlinked")
	if err := d.syncDir(); err != nil {
		return err
	}
	d.step("unlink synced")
	return d.marks.remove(d.dir, o.inode)
}

// UpdateMigratedVolume is dataplane.MigrationUpdater: newVolume's file gets volume's name, and the record no name id. A
// volume that is open here keeps its file's name, as Cinder's LVM driver does for volumes in use: its devices say their
// path; the update is nil then. An object of another identity under the name is ErrExists, and both stay as they are.
func (d *Driver) UpdateMigratedVolume(ctx context.Context, volume, newVolume dataplane.Volume, _ string,
) (*dataplane.VolumeUpdate, error) {
	leave, err := d.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	unlock, err := d.lock.take(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	update, err := d.rename(volume, newVolume)
	if err != nil {
		return nil, d.failed("rename "+newVolume.Name+" to", volume.Name, err)
	}
	return update, nil
}

func (d *Driver) rename(volume, newVolume dataplane.Volume) (*dataplane.VolumeUpdate, error) {
	there, err := d.find(volume.Name)
	switch {
	case err == nil && there.mustBe(newVolume) == nil:
		// Called before. Where renaming is linking and unlinking, the old name may still be there.
		return d.renamed(volume, newVolume, there)
	case err == nil:
		return nil, fmt.Errorf("identity %s: %w", there.identity(), dataplane.ErrExists)
	case errors.Is(err, dataplane.ErrNotOurs):
		return nil, fmt.Errorf("not ours: %w", dataplane.ErrExists)
	case !errors.Is(err, dataplane.ErrNotFound):
		return nil, err
	}
	o, err := d.require(newVolume)
	if err != nil {
		return nil, err
	}
	if d.isOpen(o.inode) {
		return nil, nil
	}
	if err := renameNew(d.dir, newVolume.Name, volume.Name); err != nil {
		return nil, err
	}
	d.step("renamed")
	return d.renamed(volume, newVolume, o)
}

// renamed finishes the rename, makes it durable and tells what it changes in the record.
func (d *Driver) renamed(volume, newVolume dataplane.Volume, o object) (*dataplane.VolumeUpdate, error) {
	if _, err := d.require(newVolume); err == nil && newVolume.Name != volume.Name {
		if err := unix.Unlinkat(d.dir, newVolume.Name, 0); err != nil {
			return nil, err
		}
	}
	if err := d.syncDir(); err != nil {
		return nil, err
	}
	none, path, identity := "", d.path(volume.Name), o.identity()
	return &dataplane.VolumeUpdate{NameID: &none, Name: &volume.Name, ProviderLocation: &path, Identity: &identity}, nil
}
