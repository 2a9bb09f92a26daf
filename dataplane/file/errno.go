package file

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
)

// ErrName: the volume's name cannot be the name of a file here: it is empty, too long, hidden, or has a slash or a NUL.
var ErrName = errors.New("volume name cannot be a file name")

// maxName is the longest file name, in bytes, of all file systems that matter (NAME_MAX).
const maxName = 255

// checkName lets through names that stay in the directory and out of the driver's own names, which are hidden.
func checkName(name string) error {
	bad := name == "" || len(name) > maxName || name[0] == '.'
	for i := range len(name) {
		bad = bad || name[i] == '/' || name[i] == 0
	}
	if bad {
		return fmt.Errorf("%q: %w", name, ErrName)
	}
	return nil
}

// border makes the errors of system calls errors of dataplane. The errno stays underneath.
func border(err error) error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return err
	}
	if ours := sentinel(errno); ours != nil && !errors.Is(err, ours) {
		return fmt.Errorf("%w: %w", ours, err)
	}
	return err
}

func sentinel(errno unix.Errno) error {
	switch errno {
	case unix.ENOSPC, unix.EDQUOT, unix.EFBIG: // EFBIG: larger than the file system's files can be
		return dataplane.ErrNoSpace
	case unix.EIO, unix.EUCLEAN, unix.EBADMSG, unix.ENXIO, unix.ENODATA, unix.EREMOTEIO, unix.ESTALE:
		return dataplane.ErrIO
	case unix.ENOENT:
		return dataplane.ErrNotFound
	case unix.EEXIST:
		return dataplane.ErrExists
	case unix.EBUSY, unix.ETXTBSY, unix.EAGAIN:
		return dataplane.ErrBusy
	case unix.EROFS:
		return dataplane.ErrReadOnly
	case unix.EOPNOTSUPP, unix.ENOSYS:
		return dataplane.ErrNotSupported
	}
	return nil
}

// again calls a system call until no signal interrupts it.
func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
