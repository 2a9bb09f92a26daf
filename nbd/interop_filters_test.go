package nbd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/internal/program"
)

// TestOurClientUsesNBDKitsFilters: what each filter does to a server, ours copes with or tells of.
func TestOurClientUsesNBDKitsFilters(t *testing.T) {
	for name, args := range map[string][]string{
		"no extents":     {"--filter=noextents", "memory", "8M"},
		"copy on write":  {"--filter=cow", "file", emptyFile(t, 8<<20)},
		"emulated FUA":   {"--filter=fua", "memory", "8M", "fuamode=emulate"},
		"emulated cache": {"--filter=cache", "memory", "8M"},
		"slow extents":   {"--filter=delay", "memory", "8M", "delay-extents=5ms", "delay-zero=5ms"},
		"readahead":      {"--filter=readahead", "memory", "8M"},
		"no simple":      {"--no-sr", "memory", "8M"},
		"retried errors": {"--filter=retry", "--filter=error", "memory", "8M", "retry-delay=1", "retry-exponential=no", "error-pread=EIO", "error-pread-rate=5%"},
		"fast zeroes":    {"--filter=nozero", "memory", "8M", "fastzeromode=slow"},
		"data":           {"data", "", "size=8M"},
		"part of a disk": {"--filter=offset", "memory", "16M", "offset=4M", "range=8M"},
		"cut size":       {"--filter=truncate", "memory", "9M", "truncate=8M"},
		"log":            {"--filter=log", "memory", "8M", "logfile=/dev/null"},
		"statistics":     {"--filter=stats", "memory", "8M", "statsfile=/dev/null"},
		"rate":           {"--filter=rate", "memory", "8M", "rate=4G"},
		"swapped bytes":  {"--filter=swab", "memory", "8M", "swab-bits=64"},
		"emulated multi": {"--filter=multi-conn", "memory", "8M", "multi-conn-mode=emulate"},
		"no multi":       {"--filter=multi-conn", "memory", "8M", "multi-conn-mode=disable"},
		"kept extents":   {"--filter=cacheextents", "memory", "8M"},
		"no cache":       {"--filter=nocache", "memory", "8M", "cachemode=none"},
		"blocks of 4096": {"--filter=blocksize", "memory", "8M", "minblock=4096", "maxdata=64k", "maxlen=1M"},
		"retried one":    {"--filter=retry-request", "--filter=error", "memory", "8M", "retry-request-delay=1", "error-pwrite=EIO", "error-pwrite-rate=5%"},
		"by process":     {"--filter=ip", "memory", "8M", fmt.Sprintf("allow=pid:%d", os.Getpid()), "deny=all"},
	} {
		t.Run(name, func(t *testing.T) {
			o := startNBDKit(t, args...)
			o.Connections = 2
			d := dial(t, o)
			exercise(t, d)
			extents(t, d)
		})
	}
	for name, c := range map[string]struct {
		args []string
		want error
	}{
		"full":      {[]string{"full", "8M"}, dataplane.ErrNoSpace},
		"ro":        {[]string{"--readonly", "memory", "8M"}, dataplane.ErrReadOnly},
		"protected": {[]string{"--filter=protect", "memory", "8M", "protect=0-8191"}, dataplane.ErrReadOnly},
		"checked":   {[]string{"--filter=checkwrite", "memory", "8M"}, dataplane.ErrIO},
		"no TLS":    {[]string{"--filter=tls-fallback", "memory", "8M", "--tls=off"}, dataplane.ErrReadOnly},
		"error":     {[]string{"--filter=error", "memory", "8M", "error=EIO", "error-rate=100%"}, dataplane.ErrIO},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := dial(t, startNBDKit(t, c.args...)).WriteAt(pattern(4096), 0)
			wantError(t, err, c.want)
		})
	}
}

// unprobed starts nbdkit without a probe, which would be a client of its own.
func unprobed(t *testing.T, args ...string) DialOptions {
	t.Helper()
	socket, ready := filepath.Join(t.TempDir(), "kit.sock"), filepath.Join(t.TempDir(), "ready")
	cmd := exec.CommandContext(timeLimit(t), program.Need(t, "nbdkit"),
		append([]string{"--foreground", "--unix", socket, "--pidfile", ready}, args...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	await(t, "nbdkit listens", func() bool { _, err := os.Stat(ready); return err == nil })
	return DialOptions{Network: "unix", Address: socket, Timeout: patience}
}

// TestOurClientLeavesTheLastOne: nbdkit exits when its last client has closed, so ours closes all its connections.
func TestOurClientLeavesTheLastOne(t *testing.T) {
	o := unprobed(t, "--filter=exitlast", "memory", "8M")
	o.Connections = 4
	d := dial(t, o)
	exercise(t, d)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	await(t, "nbdkit has exited", func() bool {
		d, err := Dial(timeLimit(t), o)
		if err == nil {
			d.Close()
		}
		return err != nil
	})
}

// TestOurClientIsOneOfFew: a server that lets in one connection only refuses the second one, and the first one works.
func TestOurClientIsOneOfFew(t *testing.T) {
	o := unprobed(t, "--filter=limit", "memory", "8M", "limit=1")
	d := dial(t, o)
	if second, err := Dial(timeLimit(t), o); err == nil {
		second.Close()
		t.Error("a second client was let in")
	}
	exercise(t, d)
}

// TestOurClientSeesListedExtents: holes that nbdkit was told of.
func TestOurClientSeesListedExtents(t *testing.T) {
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, []byte("0 1M\n1M 1M hole,zero\n2M 6M\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := dial(t, startNBDKit(t, "--readonly", "--filter=extentlist", "memory", "8M", "extentlist="+list))
	want := fmt.Sprint([]dataplane.Extent{{Offset: 0, Length: 1 << 20}, {Offset: 1 << 20, Length: 1 << 20, Zero: true}, {Offset: 2 << 20, Length: 6 << 20}})
	if got := extents(t, d); got != want {
		t.Errorf("told %s, want %s", got, want)
	}
}
