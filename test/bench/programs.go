package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cvold/cvold/nbd"
)

// startLimit is how long a server may take to listen.
const startLimit = 10 * time.Second

// Programs runs programs.
type Programs struct {
	// Dir is where sockets are made.
	Dir string
	// Pin is the CPUs of all programs, as taskset has them; empty for all there are.
	Pin string
}

// Usage is what a program took. RSS is that of wait4(2): what the kernel counts for a program begins with the size of the one
// that started it, so that nothing is ever smaller than the benchmark itself.
type Usage struct {
	Time, CPU time.Duration
	RSS       int64
}

// Command is a program with its arguments.
func (p Programs) Command(ctx context.Context, args ...string) *exec.Cmd {
	if p.Pin != "" {
		args = append([]string{"taskset", "-c", p.Pin}, args...)
	}
	return exec.CommandContext(ctx, args[0], args[1:]...)
}

// Output runs a program and returns what it prints. An error has what it complained of.
func (p Programs) Output(ctx context.Context, args ...string) ([]byte, error) {
	out, _, err := p.run(ctx, args)
	return out, err
}

// Run runs a program and measures it.
func (p Programs) Run(ctx context.Context, args ...string) (Usage, error) {
	_, used, err := p.run(ctx, args)
	return used, err
}

func (p Programs) run(ctx context.Context, args []string) ([]byte, Usage, error) {
	cmd := p.Command(ctx, args...)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	began := time.Now()
	err := cmd.Run()
	used := Usage{Time: time.Since(began)}
	if err != nil {
		return nil, used, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, complaints.String())
	}
	used.CPU, used.RSS = usageOf(cmd)
	return out.Bytes(), used, nil
}

// usageOf a program that was waited for.
func usageOf(cmd *exec.Cmd) (cpu time.Duration, rss int64) {
	if r, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		rss = r.Maxrss << 10
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), rss
}

// Server is a program that serves at SOCKET, a unix socket, or at PORT of 127.0.0.1; one of the two stands in its arguments.
type Server struct {
	Name string
	Args []string
}

// NewServer is a server with its arguments.
func NewServer(name string, args ...string) Server { return Server{Name: name, Args: args} }

// Running is a server that listens.
type Running struct {
	Name string
	// URI of its default export, without TLS.
	URI string
	// Port is that of TCP, or empty.
	Port string
	PID  int
	cmd  *exec.Cmd
}

// Start starts servers, one after the other, and returns when all of them listen. Stop must follow.
func (p Programs) Start(ctx context.Context, servers []Server) ([]Running, error) {
	var all []Running
	for i, s := range servers {
		r, err := p.start(ctx, s, p.Socket(i))
		if err != nil {
			Stop(all)
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
		all = append(all, r)
	}
	return all, nil
}

// Socket is the unix socket of the n-th server that Start starts.
func (p Programs) Socket(n int) string { return filepath.Join(p.Dir, "socket"+strconv.Itoa(n)) }

func (p Programs) start(ctx context.Context, s Server, socket string) (r Running, err error) {
	u := nbd.URI{Network: "unix", Address: socket}
	if strings.Contains(strings.Join(s.Args, " "), "PORT") {
		if r.Port, err = FreePort(); err != nil {
			return r, err
		}
		u = nbd.URI{Network: "tcp", Address: net.JoinHostPort("127.0.0.1", r.Port)}
	}
	args := make([]string, len(s.Args))
	for i, a := range s.Args {
		args[i] = strings.NewReplacer("SOCKET", socket, "PORT", r.Port).Replace(a)
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return r, err
	}
	cmd := p.Command(ctx, args...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	if err := cmd.Start(); err != nil {
		return r, err
	}
	r.Name, r.URI, r.PID, r.cmd = s.Name, u.String(), cmd.Process.Pid, cmd
	if err := await(u); err != nil {
		Stop([]Running{r})
		return r, fmt.Errorf("%w: %s", err, complaints.String())
	}
	return r, nil
}

// FreePort is a port of 127.0.0.1 that nobody listened on just now.
func FreePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, errors.Join(err, l.Close())
}

func await(u nbd.URI) error {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for began := time.Now(); time.Since(began) < startLimit; <-ticker.C {
		if conn, err := net.Dial(u.Network, u.Address); err == nil {
			return conn.Close()
		}
	}
	return fmt.Errorf("does not listen on %s", u.Address)
}

// Stop ends servers and returns the processor time that they took, from their start on.
func Stop(servers []Running) (cpu time.Duration) {
	for _, r := range servers {
		_ = r.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = r.cmd.Wait()                          // by the signal, which is an error
		took, _ := usageOf(r.cmd)
		cpu += took
	}
	return cpu
}
