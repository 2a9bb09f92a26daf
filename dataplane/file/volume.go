package file

import (
	"context"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
)

// volume is what the open devices of one file share: its size and the description that holds the locks. It lives as
// long as any of them. Driver.mu guards all but size.
type volume struct {
	inode uint64
	refs  int
	users users
	locks locks
	size  atomic.Int64
}

// acquire counts one more device of that mode and takes the locks it needs.
func (d *Driver) acquire(ctx context.Context, v dataplane.Volume, mode dataplane.Mode) (*volume, error) {
	fd, o, err := d.openObject(v, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	vol := d.volumes[o.inode]
	if vol != nil {
		_ = unix.Close(fd) // an open file description lock goes with its own description only
	} else {
		if mode.Exclusive {
			if err := alone(ctx, fd); err != nil {
				_ = unix.Close(fd)
				return nil, err
			}
		}
		vol = &volume{inode: o.inode, locks: locks{fd: fd, held: make(map[int64]bool)}}
		vol.size.Store(o.size)
		d.volumes[o.inode] = vol
	}
	vol.refs++
	vol.users.add(mode, 1)
	if err := vol.locks.change(vol.users.bytes()); err != nil {
		d.releaseLocked(vol, mode)
		return nil, err
	}
	return vol, nil
}

// release takes a device back from acquire.
func (d *Driver) release(vol *volume, mode dataplane.Mode) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.releaseLocked(vol, mode)
}

func (d *Driver) releaseLocked(vol *volume, mode dataplane.Mode) {
	vol.refs--
	vol.users.add(mode, -1)
	_ = vol.locks.change(vol.users.bytes()) // fewer bytes: nothing to be refused
	if vol.refs == 0 {
		delete(d.volumes, vol.inode)
		_ = unix.Close(vol.locks.fd)
	}
}

// isOpen says whether this driver has devices on the file.
func (d *Driver) isOpen(inode uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.volumes[inode] != nil
}

// resized tells the open devices that the file has grown.
func (d *Driver) resized(inode uint64, size int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if vol := d.volumes[inode]; vol != nil {
		vol.size.Store(max(size, vol.size.Load()))
	}
}
