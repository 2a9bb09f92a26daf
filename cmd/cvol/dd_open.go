package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/drivers"
	"github.com/cvold/cvold/dataplane/file"
	"github.com/cvold/cvold/transfer"
)

// ddDirectBlock in bytes: the largest alignment that direct I/O asks for. What is not aligned to it is left to dd, which
// succeeds or fails as the device has it.
const ddDirectBlock = 4096

// ddKind is what a name names.
type ddKind int

const (
	ddFile ddKind = iota
	ddBlockDevice
	ddZero
	ddExport
)

// ddEnd is the source or the target.
type ddEnd struct {
	name string
	kind ddKind
	file *os.File // nil of an export
	// device is nil of a target that is a file, until the file has its size.
	device dataplane.Device
	// closing is held by who opens such a target, or closes the device: a signal may come in between.
	closing sync.Mutex
	closed  bool
	// size in bytes; math.MaxInt64 of what has no end.
	size int64
}

// block is the alignment of offsets.
func (e *ddEnd) block() int64 {
	if e.device == nil {
		return 1
	}
	return max(e.device.Info().MinBlock, 1)
}

// open is for the device of a target that is a file.
func (e *ddEnd) open(device dataplane.Device) {
	e.closing.Lock()
	defer e.closing.Unlock()
	e.device = device
}

// closeDevice closes the device, if it is open.
func (e *ddEnd) closeDevice() error {
	e.closing.Lock()
	defer e.closing.Unlock()
	if e.device == nil || e.closed {
		return nil
	}
	e.closed = true
	return e.device.Close()
}

// close closes what is open yet.
func (e *ddEnd) close() error {
	err := e.closeDevice()
	if e.file != nil {
		err = errors.Join(err, e.file.Close())
	}
	return err
}

// open opens source and target as dd does, in its order and with its flags, once it is sure that all can be done here.
// Its errors are a *ddOther, with which nothing was touched, or a *ddError.
func (j *ddJob) open(ctx context.Context) error {
	if err := j.openSource(ctx); err != nil {
		return err
	}
	return j.openTarget(ctx)
}

func (j *ddJob) openSource(ctx context.Context) error {
	s := &j.source
	s.name = j.sourceName
	if j.isExport(s.name) {
		return j.openExport(ctx, s, dataplane.Mode{ReadOnly: true})
	}
	info, err := os.Stat(s.name)
	if err != nil {
		return &ddError{"failed to open", s.name, err}
	}
	if s.kind, err = ddKindOf(info); err != nil {
		return otherDD("if=%s: %v", s.name, err)
	}
	if s.file, err = os.OpenFile(s.name, os.O_RDONLY|j.inputFlags, 0); err != nil {
		return &ddError{"failed to open", s.name, err}
	}
	if s.kind == ddZero {
		s.size, s.device = math.MaxInt64, ddZeroSource{math.MaxInt64}
		return nil
	}
	mode := dataplane.Mode{ReadOnly: true, Medium: j.inputFlags&unix.O_DIRECT != 0}
	if s.device, err = file.FromFile(s.file, mode); err != nil {
		return &ddError{"failed to open", s.name, err}
	}
	s.size, err = s.device.Size()
	if err != nil {
		return &ddError{"failed to open", s.name, err}
	}
	if s.kind == ddFile && (s.size == 0 && j.count != 0 || isKernels(s.name)) {
		return otherDD("if=%s: its size does not say how much can be read", s.name)
	}
	return nil
}

func (j *ddJob) openExport(ctx context.Context, e *ddEnd, mode dataplane.Mode) (err error) {
	e.kind = ddExport
	e.device, err = drivers.OpenURI(ctx, e.name, mode, drivers.URIOptions{Connections: serveConnections, Reconnect: serveReconnect})
	if err == nil {
		e.size, err = e.device.Size()
	}
	if err != nil {
		return &ddError{"failed to open", e.name, err}
	}
	return nil
}

func (j *ddJob) openTarget(ctx context.Context) error {
	t := &j.target
	t.name, t.size = j.targetName, math.MaxInt64
	if j.isExport(t.name) {
		if err := j.openExport(ctx, t, dataplane.Mode{}); err != nil {
			return err
		}
		return j.plan()
	}
	if err := j.inspectTarget(); err != nil {
		return err
	}
	if t.kind == ddFile {
		if j.seek > 0 && j.seek < j.obs && !j.noTruncate {
			return otherDD("seek= is within the first block") // versions of dd differ in where the file ends then
		}
		if err := j.plan(); err != nil {
			return err
		}
	}
	if err := j.openTargetFile(); err != nil || t.kind == ddFile {
		return err
	}
	var err error
	if t.device, err = file.FromFile(t.file, dataplane.Mode{}); err == nil {
		t.size, err = t.device.Size()
	}
	if err != nil {
		return &ddError{"failed to open", t.name, err}
	}
	return j.plan()
}

// inspectTarget looks what the target is, before anything is done to it. What is not there is going to be a file, or to
// open says why not.
func (j *ddJob) inspectTarget() error {
	t := &j.target
	info, err := os.Stat(t.name)
	if err != nil {
		return nil
	}
	if t.kind, err = ddKindOf(info); err != nil || t.kind == ddZero {
		return otherDD("of=%s: neither a file nor a block device", t.name)
	}
	switch {
	case j.isSource(info):
		return otherDD("of=%s: is the source", t.name)
	case isKernels(t.name):
		return otherDD("of=%s: is the kernel's own", t.name)
	case unix.Faccessat(unix.AT_FDCWD, t.name, unix.R_OK, unix.AT_EACCESS) != nil:
		return otherDD("of=%s: what is written cannot be read back", t.name)
	}
	return nil
}

// isSource says whether source and target are one file, or names of one device.
func (j *ddJob) isSource(target os.FileInfo) bool {
	if j.source.file == nil {
		return false
	}
	source, err := j.source.file.Stat()
	if err != nil {
		return false
	}
	if j.target.kind == ddBlockDevice && j.source.kind == ddBlockDevice {
		return deviceNumber(source) == deviceNumber(target)
	}
	return os.SameFile(source, target)
}

func (j *ddJob) openTargetFile() (err error) {
	t := &j.target
	flags := os.O_WRONLY | j.outputFlags
	if !j.noCreate {
		flags |= os.O_CREATE
	}
	if j.exclusive {
		flags |= os.O_EXCL
	}
	if !j.noTruncate && j.seek == 0 {
		flags |= os.O_TRUNC
	}
	if t.file, err = os.OpenFile(t.name, flags, 0o666); err != nil {
		return &ddError{"failed to open", t.name, err}
	}
	info, err := t.file.Stat()
	if err != nil {
		return &ddError{"failed to open", t.name, err}
	}
	if kind, err := ddKindOf(info); err != nil || kind != t.kind {
		return &ddError{"failed to open", t.name, fmt.Errorf("it has become something else meanwhile")}
	}
	return nil
}

// plan computes how much is to be copied, and leaves to dd what is not certain to end the same way here.
func (j *ddJob) plan() error {
	s, t := &j.source, &j.target
	endless := s.kind == ddZero
	if !endless && j.skip > s.size {
		return otherDD("skip= is behind the end of the source")
	}
	j.wanted = s.size
	if !endless {
		j.wanted -= j.skip
	}
	if j.count != ddUnbounded {
		j.wanted = min(j.wanted, j.count)
	} else if endless && t.kind == ddFile {
		return otherDD("there is no end")
	}
	if j.seek > t.size || t.kind == ddFile && j.wanted > t.size-j.seek {
		return otherDD("seek= is behind the end of the target")
	}
	j.length = min(j.wanted, t.size-j.seek)
	switch {
	case j.length == 0:
	case j.length > transfer.MaxChunks*transfer.DefaultChunkSize:
		return otherDD("%d bytes are too many", j.length)
	case !endless && j.skip%s.block() != 0 || j.seek%t.block() != 0:
		return otherDD("offsets are not those of blocks")
	case j.inputFlags&unix.O_DIRECT != 0 && (j.ibs%ddDirectBlock != 0 || j.skip%ddDirectBlock != 0 || max(j.count, 0)%ddDirectBlock != 0):
		return otherDD("iflag=direct with blocks that are not aligned")
	case j.outputFlags&unix.O_DIRECT != 0 && (j.obs%ddDirectBlock != 0 || j.seek%ddDirectBlock != 0):
		return otherDD("oflag=direct with blocks that are not aligned")
	}
	return nil
}

// isExport says whether a name is the URI of an NBD export; never when called as dd, which knows none.
func (d *dd) isExport(name string) bool {
	scheme, _, found := strings.Cut(name, "://")
	return d.exports && found && strings.HasPrefix(scheme, "nbd") && !strings.Contains(scheme, "/")
}

// namesExport says whether an argument names an export: then no other dd can help.
func (d *dd) namesExport() bool {
	return slices.ContainsFunc(d.args, func(arg string) bool {
		name, value, _ := strings.Cut(arg, "=")
		return (name == "if" || name == "of") && d.isExport(value)
	})
}

// zeroDevice is the number of /dev/zero (the kernel's admin-guide/devices).
var zeroDevice = unix.Mkdev(1, 5)

func ddKindOf(info os.FileInfo) (ddKind, error) {
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return ddFile, nil
	case mode.Type() == os.ModeDevice:
		return ddBlockDevice, nil
	case mode.Type() == os.ModeDevice|os.ModeCharDevice && deviceNumber(info) == zeroDevice:
		return ddZero, nil
	}
	return 0, errors.New("neither a file nor a block device")
}

func deviceNumber(info os.FileInfo) uint64 { return info.Sys().(*syscall.Stat_t).Rdev }

// kernels are the kernel's own file systems, by the magic of statfs(2): their files have no true size, and writes to them
// are commands.
var kernels = []int64{
	unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.CGROUP_SUPER_MAGIC,
	unix.CGROUP2_SUPER_MAGIC, unix.EFIVARFS_MAGIC, unix.PSTOREFS_MAGIC, unix.BPF_FS_MAGIC, unix.SELINUX_MAGIC, unix.SMACK_MAGIC,
}

func isKernels(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && slices.Contains(kernels, fs.Type)
}
