package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// ErrSocketInUse: another process answers at the path.
var ErrSocketInUse = errors.New("another process listens on the socket")

// dialTest is how long the process behind an existing socket has to accept; a connect to a unix socket is answered by the
// kernel, so only a full queue takes time, and that is a live socket too.
const dialTest = time.Second

// Listen makes the agent's unix socket at path, in a directory of mode 0755 that it makes if need be. A live socket is
// ErrSocketInUse, a stale one (nobody listens) is replaced, any other file is left alone and an error. The socket has mode
// 0666: everyone may connect, and the peer credentials decide what each may do. Closing the listener removes the socket.
func Listen(path string) (net.Listener, error) {
	return listen(path, func() error { return os.Chmod(path, 0o666) })
}

// ListenPrivate makes a unix socket as Listen does, on which whoever can connect may do everything: it has mode 0600, or
// 0660 and the group of that name or number if group is not empty. At no time can anyone else connect. A group that is not
// there is an error, as is one that this process may not give the socket to.
func ListenPrivate(path, group string) (net.Listener, error) {
	if group == "" {
		return listen(path, func() error { return os.Chmod(path, 0o600) })
	}
	gid, err := GroupID(group)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	return listen(path, func() error {
		if err := os.Chown(path, -1, int(gid)); err != nil {
			return err
		}
		return os.Chmod(path, 0o660)
	})
}

// listen makes the socket at path, closed to all but its owner, and then lets open say who else may connect.
func listen(path string, open func() error) (net.Listener, error) {
	if err := makeDirectory(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{Control: closeToOthers}).Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := open(); err != nil {
		l.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
}

// closeToOthers gives a socket that is not bound yet the mode 0600: bind makes the file with the mode of the socket less
// the umask (Linux, net/unix/af_unix.c: unix_bind_bsd), so that there is no moment in which the umask alone decides.
func closeToOthers(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) { failed = syscall.Fchmod(int(fd), 0o600) })
	return errors.Join(err, failed)
}

// makeDirectory makes dir with mode 0755 whatever the umask; one that is there stays as it is.
func makeDirectory(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("directory of the socket: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return fmt.Errorf("directory of the socket: %w", err)
	}
	return nil
}

// removeStale clears path of a socket that nobody listens on.
func removeStale(path string) error {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("socket %s: %w", path, err)
	case st.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("socket %s: the file there is no socket", path)
	}
	c, err := net.DialTimeout("unix", path, dialTest)
	switch {
	case err == nil:
		c.Close()
		return fmt.Errorf("socket %s: %w", path, ErrSocketInUse)
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("socket %s: %w: %w", path, ErrSocketInUse, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("stale socket: %w", err)
	}
	return nil
}
