package view

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/cvold/cvold/dataplane"
)

const (
	// firstInode is the number of the first file; 1 is the directory's.
	firstInode = 2
	// maxName is the longest file name that the kernel takes, in bytes.
	maxName = 255
	// blockSize is what stat(2) calls the best size of reads.
	blockSize = requestSize
)

// directory is the view's only directory. Nothing of it is cached: each question is a List of the source.
type directory struct {
	fs.Inode
	view *View
}

// volume is a file of the view.
type volume struct {
	fs.Inode
	view *View
	name string
}

var (
	_ fs.NodeReaddirer = (*directory)(nil)
	_ fs.NodeLookuper  = (*directory)(nil)
	_ fs.NodeGetattrer = (*directory)(nil)
	_ fs.NodeGetattrer = (*volume)(nil)
	_ fs.NodeOpener    = (*volume)(nil)
)

// entry is an Entry with its inode number.
type entry struct {
	Entry
	inode uint64
}

// list asks the source. A name keeps its inode number as long as it is listed: cp(1) takes a file whose number changes
// for another one.
func (v *View) list() ([]entry, error) {
	ctx, cancel := context.WithTimeout(v.ctx, sourceTimeout)
	defer cancel()
	listed, err := v.source.List(ctx)
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	inodes := make(map[string]uint64, len(listed))
	entries := make([]entry, 0, len(listed))
	for _, e := range listed {
		if _, twice := inodes[e.Name]; twice || !goodName(e.Name) {
			continue
		}
		number, known := v.inodes[e.Name]
		if !known {
			number = v.next
			v.next++
		}
		inodes[e.Name] = number
		entries = append(entries, entry{e, number})
	}
	v.inodes = inodes
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.Name, b.Name) })
	return entries, nil
}

func goodName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= maxName && !strings.ContainsAny(name, "/\x00")
}

// find is the entry of that name.
func (v *View) find(name string) (entry, syscall.Errno) {
	entries, err := v.list()
	if err != nil {
		return entry{}, v.errno("list", "", err)
	}
	at, found := slices.BinarySearchFunc(entries, name, func(e entry, name string) int { return strings.Compare(e.Name, name) })
	if !found {
		return entry{}, syscall.ENOENT
	}
	return entries[at], 0
}

// Readdir lists the directory.
func (d *directory) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	entries, err := d.view.list()
	if err != nil {
		return nil, d.view.errno("list", "", err)
	}
	names := make([]fuse.DirEntry, 0, len(entries))
	for _, e := range entries {
		names = append(names, fuse.DirEntry{Name: e.Name, Ino: e.inode, Mode: syscall.S_IFREG})
	}
	return fs.NewListDirStream(names), 0
}

// Lookup finds a file.
func (d *directory) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	e, errno := d.view.find(name)
	if errno != 0 {
		return nil, errno
	}
	d.view.attributes(e, &out.Attr)
	child := &volume{view: d.view, name: name}
	return d.NewInode(ctx, child, fs.StableAttr{Mode: syscall.S_IFREG, Ino: e.inode}), 0
}

// Getattr is stat of the directory.
func (d *directory) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode = d.view.mode(0o100) | d.view.mode(0o400)
	out.Gid = d.view.group
	out.Nlink = 2
	return 0
}

// mode is a permission of the owner, and of the group if there is one.
func (v *View) mode(owner uint32) uint32 {
	if v.group == 0 {
		return owner
	}
	return owner | owner>>3
}

func (v *View) attributes(e entry, out *fuse.Attr) {
	out.Mode = syscall.S_IFREG | v.mode(0o400)
	out.Gid = v.group
	out.Nlink = 1
	out.Size = uint64(max(e.Size, 0))
	// How much space the volume takes is not known. A little less than its size makes cp(1) and tar(1) look for holes;
	// none at all would make tar believe that there is no data.
	out.Blocks = max(out.Size/512, 2) - 1
	out.Blksize = blockSize
	out.SetTimes(&e.ModTime, &e.ModTime, &e.ModTime)
}

// Getattr is stat of a file. An open one has the size of its device.
func (f *volume) Getattr(_ context.Context, opened fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	e, errno := f.view.find(f.name)
	h, isOpen := opened.(*handle)
	if errno != 0 && !isOpen {
		return errno
	}
	if isOpen { // also when the volume is gone from the list
		size, err := h.device.Size()
		if err != nil {
			return f.view.errno("stat", f.name, err)
		}
		e.Size = size
	}
	f.view.attributes(e, &out.Attr)
	return 0
}

// Open opens the volume's device, which the file's release closes. Nothing is cached by the kernel: what a device
// answers now is what a reader gets.
func (f *volume) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		return nil, 0, syscall.EROFS
	}
	if errno := f.view.mayOpen(); errno != 0 {
		return nil, 0, errno
	}
	ctx, cancel := context.WithTimeout(f.view.ctx, sourceTimeout)
	defer cancel()
	device, err := f.view.source.Open(ctx, f.name)
	if err != nil {
		return nil, 0, f.view.errno("open", f.name, err)
	}
	h := &handle{view: f.view, name: f.name, device: device, info: device.Info()}
	if errno := f.view.hold(h); errno != 0 {
		return nil, 0, errno
	}
	return h, fuse.FOPEN_DIRECT_IO, 0
}

func (v *View) mayOpen() syscall.Errno {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.closed:
		return syscall.ESHUTDOWN
	case len(v.open) >= maxOpen:
		return syscall.ENFILE
	}
	return 0
}

// hold keeps a handle for Close, unless that has come meanwhile.
func (v *View) hold(h *handle) syscall.Errno {
	v.mu.Lock()
	closed := v.closed
	if !closed {
		v.open[h] = true
	}
	v.mu.Unlock()
	if closed {
		_ = h.device.Close()
		return syscall.ESHUTDOWN
	}
	return 0
}

// errno is what the program gets, and a line in the log for what it cannot see by itself.
func (v *View) errno(what, name string, err error) syscall.Errno {
	errno := errnoOf(err)
	if errno != syscall.ENOENT {
		v.logger.Warn("view cannot "+what, "volume", name, "error", err)
	}
	return errno
}

// errnos are the errors of the data path as programs know them.
var errnos = []struct {
	err   error
	errno syscall.Errno
}{
	{dataplane.ErrNotFound, syscall.ENOENT},
	{dataplane.ErrBusy, syscall.EBUSY},
	{dataplane.ErrReadOnly, syscall.EROFS},
	{dataplane.ErrNoSpace, syscall.ENOSPC},
	{dataplane.ErrNotOurs, syscall.ESTALE},
	{dataplane.ErrNotSupported, syscall.EOPNOTSUPP},
	{dataplane.ErrClosed, syscall.ESHUTDOWN},
	{dataplane.ErrOutOfRange, syscall.EINVAL},
	{context.DeadlineExceeded, syscall.ETIMEDOUT},
	{context.Canceled, syscall.ESHUTDOWN}, // only Close cancels
}

// errnoOf maps an error; what it doesn't know is EIO. ENOTCONN is never the answer: it means a dead view.
func errnoOf(err error) syscall.Errno {
	for _, e := range errnos {
		if errors.Is(err, e.err) {
			return e.errno
		}
	}
	return syscall.EIO
}
