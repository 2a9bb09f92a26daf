package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
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

func (b *bench) file(name string) string { return filepath.Join(b.dir, name) }

// makeFiles makes three files of the same incompressible bytes.
func (b *bench) makeFiles() error {
	random := make([]byte, 64<<20)
	rand.Read(random)
	for _, name := range []string{"disk", "copy", "source"} {
		f, err := os.Create(b.file(name))
		if err != nil {
			return err
		}
		for left := b.size; left > 0; left -= int64(len(random)) {
			if _, err := f.Write(random[:min(left, int64(len(random)))]); err != nil {
				return errors.Join(err, f.Close())
			}
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// server is a program that serves at SOCKET, one of its arguments.
type server struct {
	name string
	args []string
}

type running struct {
	name, uri string
	pid       int
}

// start starts servers; done ends them.
func (b *bench) start(ctx context.Context, servers []server) (all []running, done func(), err error) {
	var started []*exec.Cmd
	done = func() {
		for _, cmd := range started {
			cmd.Process.Signal(syscall.SIGTERM)
			cmd.Wait()
		}
	}
	for i, s := range servers {
		socket := b.file("socket" + strconv.Itoa(i))
		args := make([]string, len(s.args))
		for i, a := range s.args {
			args[i] = strings.ReplaceAll(a, "SOCKET", socket)
		}
		os.Remove(socket)
		cmd := b.command(ctx, args...)
		if err := cmd.Start(); err != nil {
			done()
			return nil, nil, err
		}
		started = append(started, cmd)
		if err := awaitSocket(socket); err != nil {
			done()
			return nil, nil, fmt.Errorf("%s: %w", s.name, err)
		}
		all = append(all, running{s.name, nbd.URI{Network: "unix", Address: socket}.String(), cmd.Process.Pid})
	}
	return all, done, nil
}

func awaitSocket(path string) error {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for began := time.Now(); time.Since(began) < startLimit; <-ticker.C {
		if conn, err := net.Dial("unix", path); err == nil {
			return conn.Close()
		}
	}
	return fmt.Errorf("does not listen on %s", path)
}

func (b *bench) command(ctx context.Context, args ...string) *exec.Cmd {
	if b.pin != "" {
		args = append([]string{"taskset", "-c", b.pin}, args...)
	}
	return exec.CommandContext(ctx, args[0], args[1:]...)
}

func (b *bench) output(ctx context.Context, args ...string) ([]byte, error) {
	cmd := b.command(ctx, args...)
	var words bytes.Buffer
	cmd.Stderr = &words
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, words.String())
	}
	return out, nil
}

// peakRSS is VmHWM of a process in MiB.
func peakRSS(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		var kib float64
		if _, err := fmt.Sscanf(line, "VmHWM: %f kB", &kib); err == nil {
			return kib / 1024, nil
		}
	}
	return 0, fmt.Errorf("no VmHWM of process %d", pid)
}

// cpuTimes are the machine's, from the first line of /proc/stat.
type cpuTimes struct{ stolen, all float64 }

func readSteal() (t cpuTimes) {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return t
	}
	defer f.Close()
	line, err := bufio.NewReader(f).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return t
	}
	for i, field := range strings.Fields(line) {
		value, err := strconv.ParseFloat(field, 64)
		if err != nil || i > 8 {
			continue
		}
		t.all += value
		if i == 8 {
			t.stolen = value
		}
	}
	return t
}

// share is what the host took away since before.
func (t cpuTimes) share(before cpuTimes) float64 {
	return (t.stolen - before.stolen) / max(t.all-before.all, 1)
}
