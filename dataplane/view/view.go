// Package view shows volumes as files: one read-only directory, mounted by FUSE, with a regular file a volume.
//
// The process that serves a view must not use it: a call into the mount that needs an answer of its own process can wait
// forever. The package itself never touches the mount once it stands.
package view

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/cvold/cvold/dataplane"
)

const (
	// requestSize is the longest request in bytes: the kernel's own limit, and what a disk needs for its full speed.
	requestSize = 1 << 20
	// maxOpen bounds the opens at the same time, for each holds a device: more than any backup runs at once.
	maxOpen = 4096
	// sourceTimeout bounds what a program waits in open or stat for the Source.
	sourceTimeout = 30 * time.Second
	// closeTimeout bounds what Close waits for the kernel after the mount is gone.
	closeTimeout = 10 * time.Second
)

// Source is what a view shows. Its methods are called at the same time; List for every lookup and stat, so it should
// answer from memory.
type Source interface {
	// List is all entries, in any order. Those whose names cannot be file names are left out of the view.
	List(ctx context.Context) ([]Entry, error)
	// Open opens the volume of that name for reading; the view closes the device. dataplane.ErrNotFound if there is none.
	Open(ctx context.Context, name string) (dataplane.Device, error)
}

// Entry is a file of the view.
type Entry struct {
	// Name is the file's name.
	Name string
	// Size in bytes.
	Size int64
	// ModTime is the file's time of change.
	ModTime time.Time
}

// Options are the choices of a mount. The zero value: only the user of this process sees anything.
type Options struct {
	// Group may read, if not 0: the files have mode 0440 instead of 0400 and belong to it.
	Group uint32
	// Logger is told what goes wrong in the background; nil discards.
	Logger *slog.Logger
}

// View is a mounted view. Its methods may be called at the same time.
type View struct {
	mount  mount
	source Source
	group  uint32
	logger *slog.Logger

	ctx    context.Context // ends with Close: what the Source is asked with
	cancel context.CancelFunc
	served chan struct{} // closed when the kernel has let go

	mu     sync.Mutex
	closed bool
	inodes map[string]uint64 // by name, of the volumes listed last
	next   uint64            // the next inode number
	open   map[*handle]bool
}

// Stats are numbers of this instant.
type Stats struct {
	// Open is how many files are open.
	Open int
}

// Mount mounts a view of source on the directory mountpoint. A view that a killed process left there is detached first;
// anything else of FUSE mounted there is dataplane.ErrBusy. As root it mounts by itself, else through fusermount3.
func Mount(ctx context.Context, mountpoint string, source Source, options Options) (*View, error) {
	point, err := resolve(mountpoint)
	if err != nil {
		return nil, fmt.Errorf("mount view: %w", err)
	}
	v := newView(point, source, options)
	if err := v.mount.detachStale(ctx); err != nil {
		return nil, fmt.Errorf("mount view on %s: %w", point, err)
	}
	if err := v.serve(); err != nil {
		return nil, fmt.Errorf("mount view on %s: %w", point, err)
	}
	return v, nil
}

// resolve makes the path absolute without touching what is mounted there: only the directory above is looked at.
func resolve(mountpoint string) (string, error) {
	path, err := filepath.Abs(mountpoint)
	if err != nil {
		return "", err
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return "", err
	}
	return filepath.Join(parent, filepath.Base(path)), nil
}

func newView(point string, source Source, options Options) *View {
	logger := options.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &View{
		mount: mount{point: point, direct: os.Geteuid() == 0}, source: source, group: options.Group, logger: logger,
		ctx: ctx, cancel: cancel, served: make(chan struct{}),
		inodes: make(map[string]uint64), next: firstInode, open: make(map[*handle]bool),
	}
}

// serve mounts and starts answering. WaitMount of the library is left out, for it looks into the mount; the kernel's
// first request was answered when NewServer returns, so the mount stands.
func (v *View) serve() error {
	options := &fs.Options{MountOptions: fuse.MountOptions{
		FsName: sourceName, Name: typeName, MaxWrite: requestSize, Options: []string{"ro", "noexec"},
		DisableXAttrs: true, DisableReadDirPlus: true, AllowOther: v.group != 0,
		Logger: log.New(logWriter{v.logger}, "", 0),
	}}
	if v.group != 0 {
		options.Options = append(options.Options, "default_permissions")
	}
	point, err := v.mount.attach(v.group != 0)
	if err != nil {
		return err
	}
	server, err := fuse.NewServer(fs.NewNodeFS(&directory{view: v}, options), point, &options.MountOptions)
	if err != nil {
		return errors.Join(err, v.mount.abandon())
	}
	go func() {
		server.Serve()
		close(v.served)
	}()
	return nil
}

// logWriter brings the library's messages to the log.
type logWriter struct{ logger *slog.Logger }

func (w logWriter) Write(p []byte) (int, error) {
	w.logger.Warn("FUSE library", "message", string(p))
	return len(p), nil
}

// Mountpoint is the absolute path of the mount.
func (v *View) Mountpoint() string { return v.mount.point }

// Stats tells how many files are open.
func (v *View) Stats() Stats {
	v.mu.Lock()
	defer v.mu.Unlock()
	return Stats{Open: len(v.open)}
}

// Close unmounts. If files are open, or the mount is in use otherwise, it is detached all the same: who uses it gets
// errors, their devices are closed, and Close says so by dataplane.ErrBusy. It waits for the kernel to let go until ctx
// ends, at most ten seconds: dataplane.ErrAbandoned. The second Close is dataplane.ErrClosed.
func (v *View) Close(ctx context.Context) error {
	v.mu.Lock()
	if v.closed {
		v.mu.Unlock()
		return fmt.Errorf("view on %s: %w", v.mount.point, dataplane.ErrClosed)
	}
	v.closed = true
	v.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	detachErr := v.mount.detach(ctx)
	v.cancel()
	closeErr := v.closeHandles()
	if err := errors.Join(detachErr, closeErr, v.wait(ctx)); err != nil {
		return fmt.Errorf("close view on %s: %w", v.mount.point, err)
	}
	return nil
}

func (v *View) wait(ctx context.Context) error {
	select {
	case <-v.served:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the kernel does not let go (%w): %w", ctx.Err(), dataplane.ErrAbandoned)
	}
}

// closeHandles closes the devices that are still open.
func (v *View) closeHandles() error {
	v.mu.Lock()
	var handles []*handle
	for h := range v.open {
		handles = append(handles, h)
	}
	clear(v.open)
	v.mu.Unlock()
	var errs []error
	for _, h := range handles {
		errs = append(errs, h.device.Close())
	}
	return errors.Join(errs...)
}
