package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cvold/cvold/client"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/internal/program"
	"github.com/cvold/cvold/transfer"
)

// devices is a directory of files that commands without an agent read.
//
//	disk.raw      3 MiB and a sector of 0x5a, but for a hole of 1 MiB
//	written.raw   the same bytes, without a hole
//	odd.raw       1000 bytes
func devices(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	text := []byte(strings.Repeat("Z", 3<<20+512))
	clear(text[1<<20 : 2<<20])
	if err := os.WriteFile(at("written.raw"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(at("disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []int{0, 2 << 20} {
		if _, err := f.WriteAt(text[off:min(off+1<<20+off/4096, len(text))], int64(off)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Close(), os.WriteFile(at("odd.raw"), text[:1000], 0o600)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// class is how a file's bytes are read, which depends on the file system that tests run on.
var class = regexp.MustCompile(`device-direct|cached`)

// temporary is the end of the name of a file that grows.
var temporary = regexp.MustCompile(`[0-9]+\.tmp`)

// created is the time in a manifest.
var created = regexp.MustCompile(`20[0-9][0-9]-[0-9T:-]+Z`)

// inDir runs a command whose DIR is the directory, and gives its transcript.
func inDir(t *testing.T, dir, args string) (result, string) {
	t.Helper()
	got := cvol(t.Context(), strings.Fields(strings.ReplaceAll(args, "DIR", dir))...)
	text := fmt.Sprintf("$ cvol %s\n%s--- stderr, exit code %d\n%s", args, got.stdout, got.code, got.stderr)
	text = temporary.ReplaceAllString(strings.ReplaceAll(text, dir, "DIR"), "RANDOM.tmp")
	return got, class.ReplaceAllString(text, "CLASS")
}

func TestChecksum(t *testing.T) {
	tests := []struct {
		name, args string
		code       int
	}{
		{"hole", "checksum DIR/disk.raw", exitOK},
		{"no-hole", "checksum DIR/written.raw", exitOK},
		{"read-holes", "checksum --read-holes --no-progress DIR/disk.raw", exitOK},
		{"blake3", "checksum --digest blake3 --chunk-size 64K DIR/disk.raw", exitOK},
		{"json", "checksum --json DIR/disk.raw", exitOK},
		{"manifest", "checksum --manifest DIR/new.manifest DIR/disk.raw", exitOK},
		{"manifest-json", "checksum --json --manifest DIR/new.manifest DIR/disk.raw", exitOK},
		{"manifest-exists", "checksum --manifest DIR/written.raw DIR/disk.raw", exitOther},
		{"manifest-nowhere", "checksum --manifest DIR/none/new.manifest DIR/disk.raw", exitOther},
		{"odd-size", "checksum DIR/odd.raw", exitRefused},
		{"missing", "checksum DIR/none", exitNotFound},
		{"directory", "checksum DIR", exitRefused},
		{"bad-uri", "checksum http://example.org/", exitRefused},
		{"bad-digest", "checksum --digest md5 DIR/disk.raw", exitUsage},
		{"bad-chunk-size", "checksum --chunk-size 3M DIR/disk.raw", exitUsage},
		{"no-chunk-size", "checksum --chunk-size x DIR/disk.raw", exitUsage},
		{"bad-connections", "checksum --connections 0 DIR/disk.raw", exitUsage},
		{"many-connections", "checksum --connections 65 DIR/disk.raw", exitUsage},
		{"too-few", "checksum", exitUsage},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := devices(t)
			got, text := inDir(t, dir, test.args)
			if got.code != test.code {
				t.Errorf("exit code %d, want %d", got.code, test.code)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "*.tmp")); left != nil {
				t.Errorf("%q is left over", left)
			}
			golden(t, filepath.Join("checksum", test.name), text)
		})
	}
}

func TestChecksumOfTooManyChunks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "huge")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 2<<40); err != nil {
		t.Skip("no files of 2 TiB here: ", err)
	}
	got := cvol(t.Context(), "checksum", "--chunk-size", "4K", path)
	if got.code != exitRefused || !strings.Contains(got.stderr, "larger --chunk-size") {
		t.Errorf("got %+v", got)
	}
}

// A file, the same bytes written and without holes, and both over NBD, from our server and another one: one root, and a class
// that says who answered.
func TestChecksumIsOfTheBytes(t *testing.T) {
	dir := devices(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	roots := map[string]bool{}
	sum := func(want string, args ...string) {
		t.Helper()
		got := cvol(t.Context(), append([]string{"checksum", "--json"}, args...)...)
		var answer checksumAnswer
		if err := json.Unmarshal([]byte(got.stdout), &answer); err != nil || got.code != exitOK {
			t.Fatalf("%v: %+v", err, got)
		}
		if answer.Class.String() != want && want != "" {
			t.Errorf("%q: class %v, want %s", args, answer.Class, want)
		}
		if answer.ZeroBytes != 1<<20 {
			t.Errorf("%q: %d bytes of zeroes", args, answer.ZeroBytes)
		}
		roots[answer.Root.String()] = true
	}
	sum("", at("disk.raw"))
	sum("", at("written.raw"))
	ours := serve(t, "--socket", at("ours"), "--read-only", at("disk.raw"))
	sum("server-readback", ours.uri)
	sum("server-readback", ours.uri, "--connections", "2", "--read-holes")
	theirs := nbdkit(t, dir, "file", at("written.raw"))
	sum("server-readback", theirs)
	sum("cached", nbdkit(t, dir, "eval", "get_size=echo 3146240", "can_flush=exit 3", "pread=dd if="+at("disk.raw")+" iflag=skip_bytes,count_bytes skip=$4 count=$3 status=none"))
	if len(roots) != 1 {
		t.Errorf("%d roots", len(roots))
	}
}

// nbdkit serves over a unix socket below dir until the test ends, and gives the URI.
func nbdkit(t *testing.T, dir string, args ...string) string {
	t.Helper()
	program.Need(t, "nbdkit")
	socket := filepath.Join(dir, args[0]+".sock")
	pid := socket + ".pid"
	tool(t, "nbdkit", append([]string{"--unix", socket, "--pidfile", pid}, args...)...) // returns when it listens
	t.Cleanup(func() {
		if err := exec.Command("sh", "-c", "kill $(cat "+pid+")").Run(); err != nil {
			t.Error(err)
		}
	})
	return "nbd+unix:///?socket=" + socket
}

// told is a device that says of itself what a test wants.
type told struct {
	dataplane.Device
	info dataplane.Info
	sync error
}

func (d told) Info() dataplane.Info { return d.info }
func (d told) Sync() error          { return d.sync }

func TestClassOf(t *testing.T) {
	tests := []struct {
		device told
		want   transfer.Class
		err    error
	}{
		{told{info: dataplane.Info{Medium: true, Path: "/dev/x"}}, transfer.DeviceDirect, nil},
		{told{info: dataplane.Info{Path: "/x"}}, transfer.Cached, nil},
		{told{}, transfer.ServerReadback, nil},
		{told{sync: dataplane.ErrNotSupported}, transfer.Cached, nil},
		{told{sync: dataplane.ErrIO}, 0, dataplane.ErrIO},
	}
	for _, test := range tests {
		if got, err := classOf(test.device); got != test.want || !errors.Is(err, test.err) {
			t.Errorf("%+v: %v, %v", test.device, got, err)
		}
	}
}

// Interrupted, it says so, and no part of a manifest is left.
func TestChecksumInterrupted(t *testing.T) {
	dir := devices(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	got := cvol(ctx, "checksum", "--manifest", filepath.Join(dir, "m"), filepath.Join(dir, "disk.raw"))
	if got.code != exitInterrupted || got.stderr != "cvol: interrupted\n" || got.stdout != "" {
		t.Errorf("got %+v", got)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "m*")); left != nil {
		t.Errorf("%q is left over", left)
	}
}

// On a terminal there is a bar, without --no-progress.
func TestGaugeOnATerminal(t *testing.T) {
	dir := devices(t)
	for _, args := range []string{"checksum DIR/disk.raw", "checksum --no-progress DIR/disk.raw"} {
		tty, screen := pty(t)
		var stdout strings.Builder
		code := run(t.Context(), strings.Fields(strings.ReplaceAll(args, "DIR", dir)), nil, &stdout, tty)
		got, quiet := screen(), strings.Contains(args, "--no-progress")
		if drawn := strings.Contains(got, "reading") && strings.Contains(got, "100% 3 MiB/3 MiB"); code != exitOK || drawn == quiet {
			t.Errorf("%s: exit code %d, on the terminal: %q", args, code, got)
		}
		if quiet && got != "" || !strings.Contains(stdout.String(), "root") {
			t.Errorf("%s: on the terminal: %q", args, got)
		}
	}
}

func TestGaugeProgress(t *testing.T) {
	now := time.Date(2026, 11, 30, 18, 0, 0, 0, time.UTC)
	g := &gauge{total: 1000 << 20}
	if p := g.progress(now); p != (client.Progress{TotalBytes: 1000 << 20}) {
		t.Errorf("at the beginning: %+v", p)
	}
	for range 50 {
		now = now.Add(time.Second)
		g.add(10 << 20)
		if p := g.progress(now); far(p)+pace(p) == "" || p.BytesPerSecond != 10<<20 {
			t.Fatalf("%+v", p)
		}
	}
	if p := g.progress(now); far(p)+pace(p) != "50% 500 MiB/1000 MiB 10 MiB/s ETA 50s" || len(g.samples) != gaugeSamples {
		t.Errorf("%s%s, %d samples", far(p), pace(p), len(g.samples))
	}
}
