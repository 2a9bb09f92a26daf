// Package durable makes changes to files that survive a power cut: whole or not at all, and on the medium when the call
// returns.
//
// A file is durable only when its own data and the directory entry that names it are; so each function here ends with
// an fsync of the directory. An error means that the change may or may not be there after a crash; it is never half
// there.
package durable

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// tempSuffix ends the name under which a new file grows. The name is fixed, so that what a crash leaves behind is taken
// over by the next attempt and never piles up.
const tempSuffix = ".tmp"

// WriteFile replaces path with what write writes: afterwards the old or the new content is there, whole. If write or
// anything after it fails, the old file is as it was. The writer is buffered. Calls for one path must not overlap.
func WriteFile(path string, mode os.FileMode, write func(io.Writer) error) error {
	f, err := Replace(path, mode, buffered(write))
	if err != nil {
		return err
	}
	return f.Close()
}

// buffered fills a file through a buffer.
func buffered(write func(io.Writer) error) func(*os.File) error {
	return func(f *os.File) error {
		w := bufio.NewWriter(f)
		if err := write(w); err != nil {
			return err
		}
		return w.Flush()
	}
}

// Replace is WriteFile for a file that stays open: fill gets the new file, opened for reading and writing, before it
// has the name. The caller closes the file that is returned. Calls for one path must not overlap.
func Replace(path string, mode os.FileMode, fill func(*os.File) error) (*os.File, error) {
	temp := path + tempSuffix
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("replace %s: %w", path, err)
	}
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_CLOEXEC, mode)
	if err != nil {
		return nil, fmt.Errorf("replace %s: %w", path, err)
	}
	if err := install(f, temp, path, os.Rename, fill); err != nil {
		return nil, errors.Join(fmt.Errorf("replace %s: %w", path, err), f.Close(), removeTemp(temp))
	}
	return f, nil
}

// Create is WriteFile for a file that must not be there yet: fs.ErrExist, at the beginning or, if it came meanwhile, at
// the end, and then it is as it was. Calls for one path may overlap: one of them makes the file. What a crash leaves
// behind has a name of its own, which ends in .tmp.
func Create(path string, mode os.FileMode, write func(io.Writer) error) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("create %s: %w", path, fs.ErrExist)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*"+tempSuffix)
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	err = f.Chmod(mode)
	if err == nil {
		err = install(f, f.Name(), path, nameNew, buffered(write))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("create %s: %w", path, err), removeTemp(f.Name()))
	}
	return nil
}

// nameNew is a rename that replaces nothing: fs.ErrExist. File systems that cannot do it in one step have links.
func nameNew(temp, path string) error {
	err := unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	if err != unix.EINVAL && err != unix.ENOSYS && err != unix.EOPNOTSUPP {
		return os.NewSyscallError("renameat2", err)
	}
	return linkNew(temp, path)
}

// linkNew is nameNew in two steps; between them the file has both names.
func linkNew(temp, path string) error {
	if err := os.Link(temp, path); err != nil {
		return err
	}
	return os.Remove(temp)
}

// install fills the file, makes its content durable, then its name.
func install(f *os.File, temp, path string, rename func(temp, path string) error, fill func(*os.File) error) error {
	if err := fill(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := rename(temp, path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// removeTemp removes what a failed Replace left; after the rename there is nothing under that name.
func removeTemp(temp string) error {
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Remove removes the file, durably. No such file is success, and then the directory is synced all the same: an earlier
// Remove may have been cut off before it was durable.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the entries of a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	if err := d.Sync(); err != nil {
		return errors.Join(fmt.Errorf("sync directory %s: %w", dir, err), d.Close())
	}
	return d.Close()
}

// SyncData makes the file's bytes, and the size that is needed to read them, durable (fdatasync). A failure is final for
// what was written before: the kernel reports it once and may have dropped the pages.
func SyncData(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err != unix.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

// Preallocate reserves room so that the file's first n bytes can be written without running out of space; the file's
// size does not change. On a file system that cannot reserve it does nothing and returns nil. A full file system is
// unix.ENOSPC.
func Preallocate(f *os.File, n int64) error {
	if n <= 0 {
		return nil
	}
	for {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, n)
		switch {
		case err == nil, errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return nil
		case err != unix.EINTR:
			return fmt.Errorf("reserve %d bytes: %w", n, os.NewSyscallError("fallocate", err))
		}
	}
}
