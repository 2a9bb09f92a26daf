package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/agent/api"
	"github.com/cvold/cvold/agent/config"
	"github.com/cvold/cvold/internal/pki"
)

// Check says what of the configuration cannot be on this machine, each at its file and line, all joined. It changes
// nothing and opens no socket, and so may be called while an agent of this configuration runs. passed are the parts, as in
// Options.Listeners, whose sockets are opened for the agent: where they would be is not looked at.
func Check(c *config.Config, passed ...string) error {
	problems := []error{
		c.Wrong("", "state_path", usableOrNew(c.StatePath)),
		checkCredentials(c),
		checkGroup(c),
		c.Wrong("cvold", "nbd_socket", checkSocket(c.NBDSocket)),
	}
	if !slices.Contains(passed, "api") {
		problems = append(problems, c.Wrong("cvold", "socket", checkSocket(c.Socket)))
	}
	for _, b := range c.Backends {
		problems = append(problems, c.Wrong(b.Name, "file_directory", usable(b.Directory)))
	}
	if c.ViewPath != "" {
		problems = append(problems, c.Wrong("cvold", "view_path", checkView(c.ViewPath)))
	}
	return errors.Join(problems...)
}

func checkCredentials(c *config.Config) error {
	if c.CertFile == "" {
		return nil
	}
	_, err := loadCredentials(c)
	return c.Wrong("cvold", "cert_file", err)
}

// loadCredentials reads the node's certificate, which must be one of its name.
func loadCredentials(c *config.Config) (*pki.Credentials, error) {
	credentials, err := pki.LoadPeer(pki.Files{CA: c.CAFile, Cert: c.CertFile, Key: c.KeyFile})
	if err != nil {
		return nil, err
	}
	if name := credentials.Name(); name != c.Node {
		return nil, fmt.Errorf("cert_file %s is of node %s, and host says %s: issue one for this node, or set host", c.CertFile, name, c.Node)
	}
	return credentials, nil
}

func checkGroup(c *config.Config) error {
	if c.AdminGroup == "" {
		return nil
	}
	_, err := api.GroupID(c.AdminGroup)
	return c.Wrong("cvold", "admin_group", err)
}

// checkSocket wants a directory that a socket can be made in, and at path nothing but a socket.
func checkSocket(path string) error {
	if st, err := os.Lstat(path); err == nil && st.Mode().Type() != os.ModeSocket {
		return errors.New("the file there is no socket")
	}
	return usableOrNew(filepath.Dir(path))
}

// checkView wants a directory. A view that its agent left without unmounting it answers nothing else than that it is not
// connected, and is replaced by the next one.
func checkView(path string) error {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, unix.ENOTCONN):
		return nil
	case err != nil:
		return bare(err)
	case !st.IsDir():
		return unix.ENOTDIR
	}
	return nil
}

// usableOrNew wants a directory that this process may write in, or may make.
func usableOrNew(path string) error {
	err := usable(path)
	for errors.Is(err, os.ErrNotExist) && path != "/" {
		path = filepath.Dir(path)
		err = usable(path)
	}
	return err
}

// usable wants a directory that this process may write in.
func usable(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return bare(err)
	}
	if !st.IsDir() {
		return fmt.Errorf("%s: %w", path, unix.ENOTDIR)
	}
	if err := unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("%s is not writable: %w", path, err)
	}
	return nil
}

// bare is the error without the path, which the setting's value has.
func bare(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
