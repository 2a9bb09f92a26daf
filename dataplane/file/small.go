package file

import (
	"golang.org/x/sys/unix"
)

// writeFile makes a small file and makes its bytes durable; its name is not durable yet.
func writeFile(dir int, name string, p []byte) error {
	fd, err := openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := writeFull(fd, p, 0); err != nil {
		return err
	}
	return again(func() error { return unix.Fsync(fd) })
}

// readFile reads a small file, at most limit bytes of it.
func readFile(dir int, name string, limit int) ([]byte, error) {
	fd, err := openat(dir, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	p := make([]byte, limit)
	n, err := readFull(fd, p, 0)
	return p[:n], err
}

// openat opens a name of the directory, never through a symbolic link.
func openat(dir int, name string, flags int, mode uint32) (fd int, err error) {
	err = again(func() error {
		fd, err = unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		return err
	})
	return fd, err
}

// readFull fills p, or as much of it as the file has.
func readFull(fd int, p []byte, off int64) (done int, err error) {
	for done < len(p) {
		var n int
		err := again(func() (err error) { n, err = unix.Pread(fd, p[done:], off+int64(done)); return err })
		if err != nil || n == 0 {
			return done, err
		}
		done += n
	}
	return done, nil
}

// writeFull writes all of p.
func writeFull(fd int, p []byte, off int64) error {
	_, err := writeSome(fd, p, off)
	return err
}

// writeSome writes all of p, or tells how much of it before the error.
func writeSome(fd int, p []byte, off int64) (done int, err error) {
	for done < len(p) {
		var n int
		err := again(func() (err error) { n, err = unix.Pwrite(fd, p[done:], off+int64(done)); return err })
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}
