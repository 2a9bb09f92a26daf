package nbd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// steadyAfter is how long a connection has to last for its loss to be no part of a row of them.
const steadyAfter = time.Minute

// open makes connections whose one end is served from now on. The other ends are the caller's, for the kernel.
func (d *KernelDevice) open(connections int) (theirs []*os.File, err error) {
	for range connections {
		ours, their, err := socketPair()
		if err != nil {
			closeFiles(theirs)
			return nil, err
		}
		theirs = append(theirs, their)
		d.running.Go(func() { d.keep(ours) })
	}
	return theirs, nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// socketPair is a connection to the kernel: our end, and its.
func socketPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket for the kernel: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "NBD socket of the kernel")
	end := os.NewFile(uintptr(fds[0]), "NBD socket")
	defer end.Close()
	ours, err := net.FileConn(end)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make a socket for the kernel: %w", err), theirs.Close())
	}
	tuneSocket(ours)
	enlarge(fds[1])
	return ours, theirs, nil
}

// keep serves one connection after the other. The next one is made only when nothing of the last is under way any more, so a
// back end that hangs does not hold more and more requests.
func (d *KernelDevice) keep(conn net.Conn) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		began := time.Now()
		err := guard("connection", func() error { return d.serve(conn) })
		if time.Since(began) > steadyAfter {
			pause = firstPause
		}
		if !d.kernel.keeps() {
			d.lose(err)
			return
		}
		if !d.rest(pause) {
			return
		}
		d.log.Warn("a connection of the kernel was lost", "device", d.Path(), "error", err)
		if conn = d.persist(); conn == nil {
			return
		}
	}
}

// persist makes a connection again, however often it takes: descriptors and memory can be short for a while. Nil: the device is
// being left, or was taken away.
func (d *KernelDevice) persist() net.Conn {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		conn, err := d.again()
		switch {
		case err == nil:
			return conn
		case errors.Is(err, ErrKernelDevice):
			d.lose(err)
			return nil
		}
		d.log.Warn("a connection of the kernel cannot be made again yet", "device", d.Path(), "error", err)
		if !d.rest(pause) {
			return nil
		}
	}
}

// rest reports false when the device is being left.
func (d *KernelDevice) rest(pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-d.leaving.Done():
		return false
	}
}

// again gives the kernel a connection in the place of one that it lost. The identifier sees to it that the device is ours.
func (d *KernelDevice) again() (net.Conn, error) {
	ours, their, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer their.Close()
	if err := d.kernel.reconnect(d.Index(), []*os.File{their}, d.present()); err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	return ours, nil
}

// lose takes down why the device is not served any more.
func (d *KernelDevice) lose(err error) {
	if d.leaving.Err() != nil {
		return
	}
	if err == nil {
		err = ErrKernelDevice
	}
	d.mu.Lock()
	first := d.lost == nil
	if first {
		d.lost = err
	}
	d.mu.Unlock()
	if first {
		d.log.Error("the kernel's device was lost", "device", d.Path(), "error", err)
	}
}

// serve is the life of one connection.
func (d *KernelDevice) serve(conn net.Conn) error {
	defer conn.Close()
	t, err := newTransmission(conn, conn, d.export, d.session, &d.server.shared, d.log)
	if err != nil {
		return err
	}
	if !d.server.enrol(conn) {
		return fmt.Errorf("a connection for the kernel: %w", ErrServerClosed)
	}
	defer d.server.forget(conn)
	d.link(t)
	defer d.unlink(t)
	return t.run()
}

// link lets Leave know of a connection; one that comes after it ends at once.
func (d *KernelDevice) link(t *transmission) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.links[t] = struct{}{}
	if d.left {
		t.end()
	}
}

func (d *KernelDevice) unlink(t *transmission) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.links, t)
}
