package view

import (
	"context"
	"errors"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
)

// handle is an open file: a device.
type handle struct {
	view   *View
	name   string
	device dataplane.Device
	info   dataplane.Info
}

var (
	_ fs.FileReader   = (*handle)(nil)
	_ fs.FileLseeker  = (*handle)(nil)
	_ fs.FileReleaser = (*handle)(nil)
)

// Read reads what there is from off, at most as much as fits: nothing at the end.
func (h *handle) Read(_ context.Context, p []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	size, err := h.device.Size()
	if err != nil {
		return nil, h.view.errno("read", h.name, err)
	}
	if off < 0 || off >= size {
		return fuse.ReadResultData(nil), 0
	}
	p = p[:min(int64(len(p)), size-off)]
	if err := h.read(p, off); err != nil {
		return nil, h.view.errno("read", h.name, err)
	}
	return fuse.ReadResultData(p), 0
}

// read reads a range inside of the device. The device may want whole blocks; programs read what they like.
func (h *handle) read(p []byte, off int64) error {
	block := max(h.info.MinBlock, 1)
	start, end := off/block*block, (off+int64(len(p))+block-1)/block*block
	buffer := p
	if end-start != int64(len(p)) {
		buffer = make([]byte, end-start)
	}
	most := int64(len(buffer))
	if h.info.MaxBlock > 0 {
		most = min(most, h.info.MaxBlock)
	}
	for at := int64(0); at < int64(len(buffer)); at += most {
		if _, err := h.device.ReadAt(buffer[at:min(at+most, int64(len(buffer)))], start+at); err != nil {
			return err
		}
	}
	if end-start != int64(len(p)) {
		copy(p, buffer[off-start:])
	}
	return nil
}

// Lseek answers SEEK_DATA and SEEK_HOLE from the device's extents; the kernel does the other kinds.
func (h *handle) Lseek(_ context.Context, off uint64, whence uint32) (uint64, syscall.Errno) {
	if whence != unix.SEEK_DATA && whence != unix.SEEK_HOLE {
		return 0, syscall.EINVAL
	}
	size, err := h.device.Size()
	if err != nil {
		return 0, h.view.errno("seek", h.name, err)
	}
	if off >= uint64(size) {
		return 0, syscall.ENXIO
	}
	at, err := h.seek(int64(off), size, whence == unix.SEEK_HOLE)
	switch {
	case err != nil:
		return 0, h.view.errno("seek", h.name, err)
	case at == size && whence == unix.SEEK_DATA:
		return 0, syscall.ENXIO
	}
	return uint64(at), 0
}

// errFound stops the extents at the one that was sought.
var errFound = errors.New("found")

// seek is the first offset from off on that lies in a hole, or in data; size if there is none.
func (h *handle) seek(off, size int64, hole bool) (int64, error) {
	block := max(h.info.MinBlock, 1)
	start, found := off/block*block, size
	err := h.device.Extents(h.view.ctx, start, size-start, func(e dataplane.Extent) error {
		if e.Zero == hole && e.End() > off {
			found = max(e.Offset, off)
			return errFound
		}
		return nil
	})
	if err == errFound { // the device returns errors of fn as they are
		err = nil
	}
	return found, err
}

// Release closes the device, unless Close did.
func (h *handle) Release(context.Context) syscall.Errno {
	h.view.mu.Lock()
	mine := h.view.open[h]
	delete(h.view.open, h)
	h.view.mu.Unlock()
	if !mine {
		return 0
	}
	if err := h.device.Close(); err != nil {
		return h.view.errno("close", h.name, err)
	}
	return 0
}
