package systemd

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"sync"

	"github.com/coreos/go-systemd/v22/activation"
)

// ErrNotPassed: the service manager passed no descriptor of that name.
var ErrNotPassed = errors.New("no such socket was passed")

// Sockets are the descriptors that the service manager opened for the daemon, by the names of FileDescriptorName= in the
// socket units. Safe for concurrent use.
type Sockets struct {
	mu    sync.Mutex
	files map[string][]*os.File
}

// PassedSockets takes over what was passed. The first call takes all of it, and clears the environment, so that programs
// which the daemon runs don't believe it is for them; every later call finds nothing. Without a service manager it is
// empty. The caller closes it.
func PassedSockets() *Sockets {
	// Not activation.Listeners: it drops what is no listener, and the garbage collector closes that.
	s := &Sockets{files: map[string][]*os.File{}}
	for _, file := range activation.Files(true) {
		s.files[file.Name()] = append(s.files[file.Name()], file)
	}
	return s
}

// Names are the names of the descriptors nobody took yet, sorted.
func (s *Sockets) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.files))
}

// Take hands out the descriptors of one name, in the order of the unit; none is ErrNotPassed. The caller closes them.
func (s *Sockets) Take(name string) ([]*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	files := s.files[name]
	if len(files) == 0 {
		return nil, fmt.Errorf("socket %q: %w", name, ErrNotPassed)
	}
	delete(s.files, name)
	return files, nil
}

// Listeners hands out the listening sockets of one name: ErrNotPassed if there is none. If one of them does not listen, all
// of that name are closed. The caller closes the listeners; the files of unix sockets stay where they are, they belong to
// the service manager.
func (s *Sockets) Listeners(name string) ([]net.Listener, error) {
	files, err := s.Take(name)
	if err != nil {
		return nil, err
	}
	defer closeAll(files)
	listeners := make([]net.Listener, 0, len(files))
	for _, file := range files {
		listener, err := net.FileListener(file)
		if err != nil {
			closeAll(listeners)
			return nil, fmt.Errorf("socket %q: %w", name, err)
		}
		if unix, ok := listener.(*net.UnixListener); ok {
			unix.SetUnlinkOnClose(false)
		}
		listeners = append(listeners, listener)
	}
	return listeners, nil
}

// Close closes what nobody took. It may be called twice.
func (s *Sockets) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, files := range s.files {
		errs = append(errs, closeAll(files))
	}
	clear(s.files)
	return errors.Join(errs...)
}

func closeAll[T interface{ Close() error }](all []T) error {
	var errs []error
	for _, one := range all {
		errs = append(errs, one.Close())
	}
	return errors.Join(errs...)
}
