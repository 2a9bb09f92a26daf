package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/drivers"
	"github.com/cvold/cvold/nbd"
	"github.com/cvold/cvold/systemd"
)

const (
	// serveDrain bounds how long a stop waits for requests in flight.
	serveDrain = 30 * time.Second
	// onceCheck is how often --once looks whether the last client has left.
	onceCheck = 100 * time.Millisecond
	// serveReconnect outlasts a restart of the other server.
	serveReconnect = 30 * time.Second
	// serveConnections to an NBD server whose export is served on.
	serveConnections = 4
)

// serving is one run of cvol serve.
type serving struct {
	cli         *cli
	socket      string
	mode        string
	listen      string
	name        string
	description string
	readOnly    bool
	tls         string
	insecure    bool
	once        bool
	verbose     bool
	reconnect   time.Duration
	limits      nbd.Limits

	server    *nbd.Server
	device    dataplane.Device
	listeners []listening
}

// listening is one listener, with the URI of what is served there.
type listening struct {
	net.Listener
	options nbd.ListenOptions
	uri     nbd.URI
}

func (c *cli) serveCommand() *cobra.Command {
	s := &serving{cli: c}
	cmd := &cobra.Command{
		Use:   "serve DEVICE",
		Short: "Serve a file, a block device or an NBD export, without the agent",
		Long: `Serve DEVICE over NBD until a signal comes, as qemu-nbd does; no agent is asked. DEVICE is the path of a file
or of a block device, or the URI of an NBD export, which is then served on. Who may write to a file excludes
other writers, QEMU's too; a block device that is mounted is not opened for writing.

The NBD URI goes to standard output as soon as clients can connect. Sockets that systemd passes are used without
--socket and --listen. TCP is served with TLS only: --tls-certificates names a directory with ca-cert.pem,
server-cert.pem and server-key.pem, and clients must have a certificate of that authority. Without it only
addresses of this machine are let through, or any with --insecure.`,
		Example: `  cvol serve --socket /run/disk.sock --read-only disk.raw
  cvol serve --listen [::1]:10809 --name db /dev/vg/db
  cvol serve --listen 0.0.0.0:10809 --tls-certificates /etc/pki/nbd disk.raw
  cvol serve --socket near.sock nbd://far.example/db`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error { return s.run(cmd, args[0]) },
	}
	flags := cmd.Flags()
	flags.StringVar(&s.socket, "socket", "", "listen on a unix socket at `PATH`")
	flags.StringVar(&s.mode, "socket-mode", "0600", "who may connect to the unix socket, in octal")
	flags.StringVar(&s.listen, "listen", "", "listen on TCP at `HOST:PORT`")
	flags.StringVar(&s.name, "name", "", "the export's name; the empty one is the default export")
	flags.StringVar(&s.description, "description", "", "the export's description")
	flags.BoolVar(&s.readOnly, "read-only", false, "refuse writes, and open DEVICE for reading only")
	flags.StringVar(&s.tls, "tls-certificates", "", "`DIRECTORY` of certificates; TLS is then required")
	flags.BoolVar(&s.insecure, "insecure", false, "let anyone on the network read and write, without TLS")
	flags.BoolVar(&s.once, "once", false, "end when the last client has left")
	flags.IntVar(&s.limits.Connections, "max-connections", 0, "connections at the same time (default 512)")
	flags.DurationVar(&s.reconnect, "reconnect", serveReconnect, "how long the connection to an NBD export may be lost; 0 ends with the first break")
	flags.BoolVar(&s.verbose, "verbose", false, "tell of clients on standard error")
	return cmd
}

func (s *serving) run(cmd *cobra.Command, name string) (err error) {
	if err := s.check(cmd); err != nil {
		return err
	}
	o := nbd.ServerOptions{Limits: s.limits}
	if s.tls != "" {
		if o.TLS, err = nbd.ServerTLS(s.tls); err != nil {
			return fmt.Errorf("serve %s: %w", name, err)
		}
	}
	if s.verbose {
		o.Logger = slog.New(systemd.Logger(s.cli.stderr, slog.LevelInfo))
	}
	passed := systemd.PassedSockets()
	defer passed.Close()
	if err := s.openDevice(cmd.Context(), name); err != nil {
		return fmt.Errorf("serve %s: %w", name, err)
	}
	defer func() {
		if closed := s.device.Close(); !errors.Is(closed, dataplane.ErrClosed) { // flush may have closed it
			err = errors.Join(err, closed)
		}
	}()
	if err := s.open(cmd, passed, o.TLS); err != nil {
		return err
	}
	s.server = nbd.NewServer(o)
	e := nbd.NewExport(s.name, s.description, s.device)
	e.ReadOnly = s.readOnly
	if err := s.server.Add(e); err != nil {
		s.closeListeners()
		return fmt.Errorf("serve %s: %w", name, err)
	}
	if err := s.serve(cmd.Context()); err != nil {
		return fmt.Errorf("serve %s: %w", name, err)
	}
	return nil
}

// openDevice opens the device, or leaves it behind.
func (s *serving) openDevice(ctx context.Context, name string) error {
	var opened dataplane.Device
	err := bounded(ctx, nothingOpen, func() (err error) {
		opened, err = drivers.OpenURI(ctx, name, dataplane.Mode{ReadOnly: s.readOnly}, drivers.URIOptions{Connections: serveConnections, Reconnect: s.reconnect})
		return err
	})
	if err == nil {
		s.device = opened
	}
	return err
}

func (s *serving) check(cmd *cobra.Command) error {
	_, badMode := parseMode(s.mode)
	switch {
	case badMode != nil:
		return usage(cmd, "%v", badMode)
	case s.socket != "" && s.listen != "":
		return usage(cmd, "--socket and --listen exclude each other: run two servers of a read-only device, or one with the other's URI")
	case s.socket == "" && s.listen == "" && os.Getenv("LISTEN_FDS") == "":
		return usage(cmd, "nowhere to listen: give --socket PATH or --listen HOST:PORT")
	case s.reconnect < 0:
		return usage(cmd, "--reconnect %v is negative", s.reconnect)
	case s.limits.Connections < 0:
		return usage(cmd, "--max-connections %d is negative", s.limits.Connections)
	case s.tls == "" && s.listen != "" && !s.insecure && !isLoopback(s.listen):
		return usage(cmd, "--listen %s lets the network in: give --tls-certificates, or --insecure if everyone there may read and write", s.listen)
	}
	return nil
}

// isLoopback: only this machine reaches the address.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return true // net.Listen says what is wrong
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// open makes the listeners.
func (s *serving) open(cmd *cobra.Command, passed *systemd.Sockets, config *tls.Config) error {
	l, err := s.listener(cmd, passed)
	if err != nil {
		return err
	}
	for _, l := range l {
		u := nbd.URI{Network: l.Addr().Network(), Address: l.Addr().String(), Export: s.name, TLS: config != nil}
		s.listeners = append(s.listeners, listening{l, nbd.ListenOptions{RequireTLS: config != nil}, u})
	}
	return nil
}

func (s *serving) listener(cmd *cobra.Command, passed *systemd.Sockets) ([]net.Listener, error) {
	switch {
	case s.socket != "":
		path, err := filepath.Abs(s.socket) // the URI is for others, who may be elsewhere
		if err != nil {
			return nil, fmt.Errorf("serve: %w", err)
		}
		l, err := listenUnix(path, s.mode)
		return []net.Listener{l}, err
	case s.listen != "":
		l, err := net.Listen("tcp", s.listen)
		if err != nil {
			return nil, fmt.Errorf("serve: %w", err)
		}
		return []net.Listener{l}, nil
	}
	var all []net.Listener
	for _, name := range passed.Names() {
		l, err := passed.Listeners(name)
		if err != nil {
			return nil, fmt.Errorf("serve on a passed socket: %w", err)
		}
		all = append(all, l...)
	}
	if len(all) == 0 {
		return nil, usage(cmd, "nowhere to listen: give --socket PATH or --listen HOST:PORT")
	}
	return all, nil
}

// serve tells where clients can connect, and serves them until the context ends or, with --once, they have left.
func (s *serving) serve(ctx context.Context) error {
	var serving sync.WaitGroup
	ended := make(chan error, len(s.listeners))
	for _, l := range s.listeners {
		serving.Go(func() { ended <- s.server.Serve(l, l.options) })
	}
	err := s.announce()
	if err == nil {
		err = s.wait(ctx, ended)
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), serveDrain)
	defer cancel()
	err = errors.Join(err, s.server.Close(drain))
	serving.Wait()
	if written(s.server.Stats().Counts) {
		err = errors.Join(err, s.flush(drain))
	}
	return err
}

// written: something was asked of the device that a flush makes durable.
func written(c nbd.Counts) bool { return c.Writes+c.Zeroes+c.Trims > 0 }

// flush makes durable what clients did not flush, as long as a stop may take: a flush that hangs in the kernel is left behind.
func (s *serving) flush(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- s.device.Sync() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		err := errors.Join(fmt.Errorf("flush at the end: %w", context.Cause(ctx)), s.device.Close())
		if !errors.Is(err, dataplane.ErrAbandoned) {
			err = errors.Join(err, <-done)
		}
		return err
	}
}

// announce prints where the export is, one URI a line.
func (s *serving) announce() error {
	var uris []string
	for _, l := range s.listeners {
		uris = append(uris, l.uri.String())
	}
	if s.cli.json {
		if err := s.cli.printJSON(map[string][]string{"uris": uris}); err != nil {
			return err
		}
	} else {
		for _, uri := range uris {
			s.cli.printf("%s", uri)
		}
	}
	return errors.Join(s.cli.stdout.err, systemd.Notifier{}.Ready())
}

func (s *serving) wait(ctx context.Context, ended <-chan error) error {
	ticker := time.NewTicker(onceCheck)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return errors.Join(systemd.Notifier{}.Stopping())
		case err := <-ended:
			return err
		case <-ticker.C:
			if stats := s.server.Stats(); s.once && stats.Accepted > 0 && stats.Connections == 0 {
				return nil
			}
		}
	}
}

func (s *serving) closeListeners() {
	for _, l := range s.listeners {
		l.Close()
	}
}

// listenUnix makes a unix socket that only those reach whom mode, in octal, lets. A socket that is there is replaced if
// nobody answers at it; anything else is left alone.
func listenUnix(path, mode string) (net.Listener, error) {
	bits, err := parseMode(mode)
	if err != nil {
		return nil, err
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == os.ModeSocket {
		conn, err := net.Dial("unix", path)
		if err == nil {
			conn.Close()
			return nil, fmt.Errorf("serve: someone listens on %s already", path)
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("serve: %w", err)
			}
		}
	}
	old := syscall.Umask(0o777 &^ bits)
	defer syscall.Umask(old)
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("serve: %w", err)
	}
	return l, nil
}

// parseMode reads a file mode of octal digits alone.
func parseMode(text string) (int, error) {
	bits, err := strconv.ParseUint(text, 8, 16)
	if err != nil || bits > 0o777 {
		return 0, fmt.Errorf("--socket-mode %q is no mode like 0600", text)
	}
	return int(bits), nil
}
