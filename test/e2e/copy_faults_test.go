package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cvold/cvold/internal/program"
)

// nbdkit serves over a unix socket until the test ends, and gives the URI.
func (j *copyJob) nbdkit(args ...string) string {
	j.t.Helper()
	socket := filepath.Join(j.dir, "s")
	j.server = exec.Command(program.Need(j.t, "nbdkit"), append([]string{"--foreground", "--unix", socket}, j.expand(args)...)...)
	j.launch()
	j.t.Cleanup(j.endServer)
	return "nbd+unix:///?socket=" + socket
}

// expand puts the job's paths into arguments.
func (j *copyJob) expand(args []string) (expanded []string) {
	paths := strings.NewReplacer("SOURCE", j.source, "TARGET", j.target, "DIR", j.dir)
	for _, arg := range args {
		expanded = append(expanded, paths.Replace(arg))
	}
	return expanded
}

// makeTarget makes the file that the server serves, full of old bytes.
func (j *copyJob) makeTarget() {
	j.t.Helper()
	old := make([]byte, j.size)
	for i := range old {
		old[i] = byte(i) | 1
	}
	if err := os.WriteFile(j.target, old, 0o600); err != nil {
		j.t.Fatal(err)
	}
}

// copy runs cvol copy to its end.
func (j *copyJob) copy(args ...string) (answer, copied) {
	j.t.Helper()
	j.args = j.expand(args)
	p := j.start()
	if p.runs(patience) {
		j.t.Fatalf("cvol copy does not end: %s", p.errors.String())
	}
	var c copied
	if p.ProcessState.ExitCode() == 0 {
		if err := json.Unmarshal(p.out.Bytes(), &c); err != nil {
			j.t.Fatal(err)
		}
	}
	return answer{p.ProcessState.ExitCode(), p.out.String(), p.errors.String()}, c
}

// copied is what cvol copy --json says.
type copied struct {
	Mismatches, Retries int64
	Class               string
}

// eval is nbdkit's plugin of shell scripts over the target file, with one of them replaced.
func eval(replaced ...string) []string {
	scripts := map[string]string{
		"get_size": "stat -c %s TARGET", "can_write": "exit 0", "can_flush": "exit 0", "flush": "sync TARGET",
		"pread":  "dd if=TARGET iflag=skip_bytes,count_bytes skip=$4 count=$3 status=none",
		"pwrite": "dd of=TARGET oflag=seek_bytes conv=notrunc seek=$4 status=none",
	}
	for _, r := range replaced {
		name, script, _ := strings.Cut(r, "=")
		scripts[name] = script
	}
	args := []string{"eval"}
	for name, script := range scripts {
		args = append(args, name+"="+script)
	}
	return args
}

// first has a script run only if it is the first time, and for the chunk at 2 MiB; other says what is done else.
func first(script, other string) string {
	return "if [ $4 = 2097152 ] && mkdir DIR/struck 2>/dev/null; then " + script + "; else " + other + "; fi"
}

const (
	goodWrite = "dd of=TARGET oflag=seek_bytes conv=notrunc seek=$4 status=none"
	goodRead  = "dd if=TARGET iflag=skip_bytes,count_bytes skip=$4 count=$3 status=none"
	garbled   = "tr '\\000-\\377' '\\001-\\377\\000' | " + goodWrite
	lost      = "cat >/dev/null"
	astray    = "dd of=TARGET oflag=seek_bytes conv=notrunc seek=0 status=none"
)

// TestCopyToFaultyServers: what a real server does wrong is retried, repaired, or ends the copy with the right exit code. Then
// the same command goes on, once the file DIR/broken, which breaks the server, is gone.
func TestCopyToFaultyServers(t *testing.T) {
	broken := func(what string) []string {
		return []string{"--filter=error", "file", "TARGET", "error-" + what + "-rate=100%", "error-" + what + "-file=DIR/broken"}
	}
	with := func(args []string, more ...string) []string { return append(args, more...) }
	always := func(script string) string {
		return "if [ $4 = 2097152 ] && [ -e DIR/broken ]; then " + script + "; else " + goodWrite + "; fi"
	}
	for name, c := range map[string]struct {
		server, args []string
		code         int
		says         string
		repaired     bool
		retried      bool
	}{
		"some writes fail":          {server: []string{"--filter=error", "file", "TARGET", "error-pwrite-rate=30%"}, retried: true, args: []string{"--retries", "16"}},
		"writes fail":               {server: broken("pwrite"), code: 1, says: "write target", args: []string{"--retries", "1"}},
		"reads fail":                {server: broken("pread"), code: 1, says: "read target"},
		"zeroing fails":             {server: broken("zero"), code: 1, says: "zero target", args: []string{"--retries", "1"}},
		"no space":                  {server: with(broken("pwrite"), "error-pwrite=ENOSPC"), code: 1, says: "no space"},
		"extents fail":              {server: broken("extents"), code: 1, says: "extents target"},
		"slow":                      {server: []string{"--filter=delay", "file", "TARGET", "delay-write=20ms", "delay-read=5ms"}},
		"hangs":                     {server: eval("pwrite=[ ! -e DIR/broken ] || sleep 3; " + goodWrite), code: 8, says: "no reply within", args: []string{"--timeout", "1s", "--reconnect", "1s"}},
		"no zeroes":                 {server: []string{"--filter=nozero", "file", "TARGET"}},
		"no extents":                {server: []string{"--filter=noextents", "file", "TARGET"}},
		"one connection":            {server: []string{"--filter=multi-conn", "file", "TARGET", "multi-conn-mode=disable"}},
		"blocks":                    {server: []string{"--filter=blocksize-policy", "file", "TARGET", "blocksize-minimum=4096", "blocksize-maximum=64K", "blocksize-error-policy=error"}},
		"a chunk is garbled":        {server: eval("pwrite=" + first(garbled, goodWrite)), repaired: true},
		"a chunk is always garbled": {server: eval("pwrite=" + always(garbled)), code: 9, says: "chunk 2"},
		"a chunk is lost":           {server: eval("pwrite=" + first(lost, goodWrite)), repaired: true},
		"a chunk is always lost":    {server: eval("pwrite=" + always(lost)), code: 9, says: "chunk 2"},
		"a chunk lands elsewhere":   {server: eval("pwrite=" + first(astray, goodWrite)), repaired: true},
		"a read is garbled":         {server: eval("pread=" + first(goodRead+" | tr '\\000-\\377' '\\001-\\377\\000'", goodRead)), repaired: true},
		"a flush fails":             {server: eval("flush=if mkdir DIR/struck 2>/dev/null; then echo EIO no >&2; exit 1; fi; sync TARGET")},
		"no flush":                  {server: eval("can_flush=[ ! -e DIR/broken ] || exit 3; exit 0"), code: 5, says: "flush"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := newCopyJob(t, rand.New(rand.NewPCG(1, 2)), 24)
			j.makeTarget()
			if err := os.WriteFile(filepath.Join(j.dir, "broken"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			j.to = j.nbdkit(c.server...)
			a, result := j.copy(c.args...)
			if a.code != c.code || !strings.Contains(a.errors, c.says) {
				t.Fatalf("exit code %d, want %d: %s", a.code, c.code, a.errors)
			}
			if result.Mismatches > 0 != c.repaired || c.retried && result.Retries == 0 {
				t.Errorf("%+v", result)
			}
			if a.code != 0 {
				if err := os.Remove(filepath.Join(j.dir, "broken")); err != nil {
					t.Fatal(err)
				}
				j.args = nil
				j.finish(j.start())
			}
			j.mustBeEqual()
		})
	}
}

// TestCopyFromFaultyServers: what cannot be read ends the copy, or is left out and told of.
func TestCopyFromFaultyServers(t *testing.T) {
	for name, c := range map[string]struct {
		server, args []string
		code         int
		says         string
	}{
		"some reads fail":    {server: []string{"--filter=error", "file", "SOURCE", "error-pread-rate=5%"}, args: []string{"--retries", "16"}},
		"reads fail":         {server: []string{"--filter=error", "file", "SOURCE", "error-pread-rate=100%"}, args: []string{"--retries", "1"}, code: 1, says: "read source"},
		"extents fail":       {server: []string{"--filter=error", "file", "SOURCE", "error-extents-rate=100%"}, code: 1, says: "extents source"},
		"no extents":         {server: []string{"--filter=noextents", "file", "SOURCE"}},
		"ends with the last": {server: []string{"--filter=exitlast", "file", "SOURCE"}},
		"one client":         {server: []string{"--filter=limit", "file", "SOURCE", "limit=1"}, args: []string{"--connections", "1"}},
		"retries itself":     {server: []string{"--filter=retry", "--filter=error", "file", "SOURCE", "retry-delay=1", "retry-exponential=no", "error-pread-rate=5%"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := newCopyJob(t, rand.New(rand.NewPCG(1, 3)), 24)
			file := j.source
			j.source = j.nbdkitSource(c.server)
			a, _ := j.copy(c.args...)
			if a.code != c.code || !strings.Contains(a.errors, c.says) {
				t.Fatalf("exit code %d, want %d: %s", a.code, c.code, a.errors)
			}
			if j.source = file; a.code == 0 {
				j.mustBeEqual()
			}
		})
	}
}

func (j *copyJob) nbdkitSource(args []string) string {
	return j.nbdkit(append([]string{"--readonly"}, args...)...)
}

// TestCopyWaitsForServer: a server that pauses is waited for, and the copy goes on.
func TestCopyWaitsForServer(t *testing.T) {
	t.Parallel()
	j := newCopyJob(t, rand.New(rand.NewPCG(1, 4)), 24)
	j.makeTarget()
	j.to = j.nbdkit("--filter=pause", "file", "TARGET", "pause-control=DIR/pause")
	j.args = []string{"--rate", "8M"}
	control := func(command string) {
		t.Helper()
		if err := tell(t.Context(), filepath.Join(j.dir, "pause"), command); err != nil {
			t.Fatal(err)
		}
	}
	p := j.start()
	p.runs(300 * time.Millisecond)
	control("p")
	if !p.runs(2 * time.Second) {
		t.Fatalf("it ended: %s", p.errors.String())
	}
	control("r")
	j.finish(p)
	j.mustBeEqual()
}

// tell sends a command to the pause filter, and waits for its answer.
func tell(ctx context.Context, socket, command string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte(command)); err != nil {
		return err
	}
	answer := make([]byte, 1)
	if _, err := conn.Read(answer); err != nil {
		return err
	}
	if !strings.EqualFold(string(answer), command) {
		return fmt.Errorf("the filter answers %q", answer)
	}
	return nil
}
