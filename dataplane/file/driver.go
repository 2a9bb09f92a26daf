package file

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
)

// sector is the unit of sizes, offsets and lengths in bytes: the smallest block of any back end, so that a volume may
// move from a file to any of them, and a volume of any of them to a file.
const sector = 512

// Config is what New needs.
type Config struct {
	// Name is the backend's name, for messages.
	Name string
	// Directory holds the files. It must exist.
	Directory string
}

// Driver keeps volumes as files in one directory. It is a dataplane.Driver and a dataplane.MigrationUpdater, safe for
// concurrent use. Other processes may have a Driver on the same directory.
type Driver struct {
	config Config
	dir    int // the directory, open: a file system mounted over it later is not mistaken for it
	can    abilities
	marks  marks
	lock   dirLock
	step   func(string) // a test's way to die between two steps

	life   sync.RWMutex // held for reading by calls, for writing by Close
	closed bool

	mu      sync.Mutex
	volumes map[uint64]*volume // open ones, by inode
}

var (
	_ dataplane.Driver           = (*Driver)(nil)
	_ dataplane.MigrationUpdater = (*Driver)(nil)
)

// New opens the directory, removes what a killed process left there, and finds out what its file system can do, with a
// file that it makes and removes. ErrNotSupported if objects cannot be marked there.
func New(config Config) (*Driver, error) {
	return newDriver(config, nil, func(string) {})
}

// newDriver is New with seams for tests: the marks to use (nil: the best that work) and what to do after each step.
func newDriver(config Config, m marks, step func(string)) (*Driver, error) {
	directory, err := filepath.Abs(config.Directory)
	if err != nil {
		return nil, fmt.Errorf("backend %s: %w", config.Name, err)
	}
	config.Directory = directory
	d := &Driver{config: config, dir: -1, lock: dirLock{fd: -1}, step: step, volumes: make(map[uint64]*volume)}
	if err := d.start(m); err != nil {
		_ = d.Close()
		return nil, fmt.Errorf("backend %s in %s: %w", config.Name, directory, border(err))
	}
	return d, nil
}

func (d *Driver) start(m marks) (err error) {
	if d.dir, err = unix.Open(d.config.Directory, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	if d.lock, err = openDirLock(d.dir); err != nil {
		return err
	}
	unlock, err := d.lock.take(context.Background())
	if err != nil {
		return err
	}
	defer unlock()
	if d.can, err = d.probe(); err != nil {
		return fmt.Errorf("probe the file system: %w", err)
	}
	switch {
	case m != nil:
		d.marks = m
	case d.can.xattr:
		d.marks = xattrMarks{}
	case d.can.birth:
		d.marks = sidecarMarks{}
	default:
		return fmt.Errorf("neither extended attributes nor birth times: %w", dataplane.ErrNotSupported)
	}
	return d.sweep()
}

// Kind is "file".
func (d *Driver) Kind() string { return "file" }

// Features is dataplane.Driver.Features.
func (d *Driver) Features() dataplane.Features {
	return dataplane.Features{ThinProvisioning: true, Holes: d.can.holes, DirectRead: d.can.direct, OnlineExtend: true, Adopt: true}
}

// Stats is dataplane.Driver.Stats: the file system's size, and what is free for users other than root.
func (d *Driver) Stats(ctx context.Context) (dataplane.Stats, error) {
	leave, err := d.enter(ctx)
	if err != nil {
		return dataplane.Stats{}, err
	}
	defer leave()
	var st unix.Statfs_t
	if err := again(func() error { return unix.Fstatfs(d.dir, &st) }); err != nil {
		return dataplane.Stats{}, d.failed("ask for the capacity of", d.config.Directory, err)
	}
	unit := int64(st.Frsize)
	return dataplane.Stats{Total: int64(st.Blocks) * unit, Free: int64(st.Bavail) * unit}, nil
}

// Lookup is dataplane.Driver.Lookup.
func (d *Driver) Lookup(ctx context.Context, v dataplane.Volume) (dataplane.Volume, error) {
	leave, err := d.enter(ctx)
	if err != nil {
		return dataplane.Volume{}, err
	}
	defer leave()
	o, err := d.find(v.Name)
	if err != nil {
		return dataplane.Volume{}, d.failed("look up", v.Name, err)
	}
	return d.complete(v, o), nil
}

// List is dataplane.Driver.List. It first removes what a killed process left in the directory.
func (d *Driver) List(ctx context.Context, fn func(dataplane.Object) error) error {
	leave, err := d.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	names, err := d.sweptNames(ctx)
	if err != nil {
		return d.failed("list", d.config.Directory, err)
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		o, err := d.find(name)
		if errors.Is(err, dataplane.ErrNotOurs) || errors.Is(err, dataplane.ErrNotFound) || errors.Is(err, ErrName) {
			continue
		}
		if err != nil {
			return d.failed("list", name, err)
		}
		v := d.complete(dataplane.Volume{ID: o.mark.VolumeID, Name: name}, o)
		if err := fn(dataplane.Object{Volume: v, Mark: o.mark}); err != nil {
			return err
		}
	}
	return nil
}

func (d *Driver) sweptNames(ctx context.Context) ([]string, error) {
	unlock, err := d.lock.take(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := d.sweep(); err != nil {
		return nil, err
	}
	return d.names()
}

// Close is dataplane.Driver.Close. It waits for calls, and may be called again.
func (d *Driver) Close() error {
	d.life.Lock()
	defer d.life.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	if d.lock.fd >= 0 {
		_ = unix.Close(d.lock.fd)
	}
	if d.dir >= 0 {
		_ = unix.Close(d.dir)
	}
	return nil
}

// enter begins a call: the driver cannot be closed before leave.
func (d *Driver) enter(ctx context.Context) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.life.RLock()
	if d.closed {
		d.life.RUnlock()
		return nil, fmt.Errorf("backend %s: %w", d.config.Name, dataplane.ErrClosed)
	}
	return d.life.RUnlock, nil
}

// complete returns v with what its object says.
func (d *Driver) complete(v dataplane.Volume, o object) dataplane.Volume {
	v.Size, v.Identity, v.ProviderLocation = o.size, o.identity(), d.path(v.Name)
	return v
}

func (d *Driver) path(name string) string { return filepath.Join(d.config.Directory, name) }

func (d *Driver) failed(what, name string, err error) error {
	return fmt.Errorf("backend %s: %s %s: %w", d.config.Name, what, name, border(err))
}

// syncDir makes names durable.
func (d *Driver) syncDir() error {
	return again(func() error { return unix.Fsync(d.dir) })
}

// procPath names an open file, also one opened with O_PATH, for calls that take no descriptor.
func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
