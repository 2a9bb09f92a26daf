package main

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/drivertest"
	"github.com/cvold/cvold/dataplane/faulty"
	"github.com/cvold/cvold/internal/program"
)

func TestParseDDNumber(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "010": 10, "5c": 5, "5w": 10, "5b": 2560, "3B": 3, "1k": 1024, "1K": 1024, "1kB": 1000, "1KB": 1000, "1KiB": 1024, "1kiB": 1024,
		"1M": 1 << 20, "1MB": 1e6, "1MiB": 1 << 20, "2G": 2 << 30, "1TB": 1e12, "1P": 1 << 50, "1EB": 1e18, "7E": 7 << 60,
		"2x3": 6, "1Kx2": 2048, "2x3x4b": 24 * 512, "9223372036854775807": math.MaxInt64, "00x5": 0, "5x0": 0, "0K": 0,
	} {
		if got, err := parseDDNumber(text); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "x", "1x", "x1", "0x5", "-1", "+1", " 1", "1 ", "1m", "1g", "1Ki", "1KK", "1cB", "1.5K", "1e3", "8E", "9223372036854775808",
		"4Gx4G", "1Z", "0x", "1_0", "K", "0b1", "\x00",
	} {
		if got, err := parseDDNumber(text); err == nil {
			t.Errorf("%q was taken as %d", text, got)
		}
	}
}

// FuzzDDOperands: what is accepted can be computed with, and what is not is handed over.
func FuzzDDOperands(f *testing.F) {
	for _, line := range ddLines {
		f.Add(line.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, err := parseDD(strings.Fields(text))
		if err != nil {
			if _, ok := err.(*ddOther); !ok {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		switch {
		case o.sourceName == "" || o.targetName == "":
			t.Errorf("%q: no names", text)
		case o.ibs < 1 || o.ibs > ddMaxBlock || o.obs < 1 || o.obs > ddMaxBlock:
			t.Errorf("%q: blocks of %d and %d", text, o.ibs, o.obs)
		case o.skip < 0 || o.seek < 0 || o.count < ddUnbounded:
			t.Errorf("%q: %+v", text, o)
		case o.exclusive && o.noCreate:
			t.Errorf("%q: excl and nocreat", text)
		}
	})
}

// TestDDHuman: sizes are written as the system's dd writes them.
func TestDDHuman(t *testing.T) {
	sizes := []int64{
		0, 1, 999, 1000, 1023, 1024, 1049, 1050, 1051, 9949, 9950, 9951, 9999, 10000, 10239, 10240, 99999, 999_499, 999_500, 999_501, 999_999,
		1_000_000, 1<<20 - 1, 1 << 20, 10_485_759, 10_485_760, 104_857_600, 1023 << 10, 1<<20 - 512, 1<<20 - 513, 30_000_001,
	}
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, seed))
	for range 20 {
		sizes = append(sizes, rng.Int64N(1<<uint(10+rng.IntN(16))))
	}
	for _, n := range sizes {
		theirs := runTheirs(t, "", []string{"if=/dev/zero", "of=/dev/null", "bs=1M", "iflag=count_bytes", fmt.Sprintf("count=%d", n)})
		line, _, _ := strings.Cut(ddTransferred(n, 1, "1 s"), ", 1 s")
		if !strings.Contains(theirs.stderr, "\n"+line+"\n") {
			t.Errorf("seed %d: %d: ours %s, theirs %s", seed, n, line, theirs.stderr)
		}
	}
	for n, want := range map[int64]string{math.MaxInt64: "9.2 EB, 8.0 EiB", 999_999_999_999_999_999: "1.0 EB, 888 PiB"} {
		if got := ddTransferred(n, 1, "1 s"); !strings.Contains(got, "("+want+")") {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestDDRate(t *testing.T) {
	for want, rate := range map[string]float64{
		"0.0 kB/s": 0, "7.0 kB/s": 7000, "10.9 kB/s": 10890, "83.2 MB/s": 83.2e6, "607 MB/s": 607.1e6, "1.3 GB/s": 1.3e9, "100 kB/s": 99_960,
		"1.0 MB/s": 999_600,
	} {
		if got := ddRate(int64(rate), 1); got != want {
			t.Errorf("%f: got %s, want %s", rate, got, want)
		}
	}
	if got := ddRate(1, 0); got != "Infinity B/s" {
		t.Errorf("got %s", got)
	}
}

func TestDDQuote(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"plain", "a b", "it's", `it's $HOME`, `"`, "a\nb", `back\slash`, "tab\there", "''"} {
		args := []string{"if=" + dir + "/none" + name, "of=" + dir + "/t"}
		if ours, theirs := runOurs(t, dir, args), runTheirs(t, dir, args); ours != theirs {
			t.Errorf("ours %s, theirs %s", ours.stderr, theirs.stderr)
		}
	}
}

// notifying is a writer that says when it was written to.
type notifying struct {
	mu      sync.Mutex
	text    strings.Builder
	written chan struct{}
}

func (n *notifying) Write(p []byte) (int, error) {
	n.mu.Lock()
	n.text.Write(p)
	n.mu.Unlock()
	n.written <- struct{}{}
	return len(p), nil
}

// TestDDSignal: SIGUSR1 is answered with how far it is.
func TestDDSignal(t *testing.T) {
	w := &notifying{written: make(chan struct{}, 1)}
	r := ddReport{w: w, started: time.Now(), count: func() ddCount { return ddCount{1500, 1000, 1000, 1000, 1000} }}
	stop := r.watch()
	if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	<-w.written
	stop()
	if got := maskDD(w.text.String(), ""); got != "1+1 records in\n1+0 records out\n1000 bytes (1.0 kB) copied\n" {
		t.Errorf("got %q", got)
	}
}

// TestDDProgress: a line a second, over the last one, and then the end.
func TestDDProgress(t *testing.T) {
	// The runtime begins to take signals once; what it needs for that must not belong to the bubble.
	first := make(chan os.Signal, 1)
	signal.Notify(first, syscall.SIGUSR1)
	defer signal.Stop(first)
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		n := int64(0)
		r := ddReport{w: &text, status: ddStatusProgress, started: time.Now(), count: func() ddCount {
			n++
			return ddCount{n * 1000, n * 1000, n * 1000, 1000, 1000}
		}}
		stop := r.watch()
		time.Sleep(2500 * time.Millisecond)
		stop()
		r.tell()
		want := "\r1000 bytes (1.0 kB) copied, 1 s, 1.0 kB/s" +
			"\r2000 bytes (2.0 kB, 2.0 KiB) copied, 2 s, 1.0 kB/s" +
			"\n3+0 records in\n3+0 records out\n3000 bytes (3.0 kB, 2.9 KiB) copied, 2.5 s, 1.2 kB/s\n"
		if text.String() != want {
			t.Errorf("got %q, want %q", text.String(), want)
		}
	})
}

// TestDDWindow: a window keeps the contract of a device, and touches nothing outside.
func TestDDWindow(t *testing.T) {
	for name, zeroes := range map[string]ddZeroes{"allocate": ddAllocate, "unmap": ddUnmap, "overwrite": ddOverwrite} {
		for _, aligned := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/aligned=%v", name, aligned), func(t *testing.T) {
				drivertest.Device(t, func(t *testing.T, size int64) dataplane.Device {
					const before, after = 1024, 512
					memory := faulty.NewMemoryInfo(before+size+after, dataplane.Info{MinBlock: 512})
					fill := bytes.Repeat([]byte{7}, before)
					for _, off := range []int64{0, before + size} {
						if _, err := memory.WriteAt(fill[:min(before, before+size+after-off)], off); err != nil {
							t.Fatal(err)
						}
					}
					check := func() {
						for _, off := range []int64{0, before + size} {
							p := make([]byte, min(before, before+size+after-off))
							if _, err := memory.ReadAt(p, off); err == nil && !bytes.Equal(p, fill[:len(p)]) {
								t.Error("outside of the window something changed")
							}
						}
					}
					return checkedOnClose{ddTarget{ddWindow{memory, before, size}, zeroes, aligned}, check}
				})
			})
		}
	}
}

type checkedOnClose struct {
	dataplane.Device
	check func()
}

func (c checkedOnClose) Close() error {
	c.check()
	return c.Device.Close()
}

// ddLink makes a directory with a link named dd to this test's binary, which then is cvol.
func ddLink(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, "dd")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// called runs dir's dd as a process, with a PATH.
func called(t *testing.T, dir, path, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "dd"), args...)
	cmd.Env = append(os.Environ(), asProcess+"=1", "PATH="+path)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// TestDDHandOver: through a link it is a dd, and what it cannot do the system's does; it never finds itself, a copy of
// itself, or itself behind a script.
func TestDDHandOver(t *testing.T) {
	program.Need(t, "dd")
	link, second, copied, script, early := ddLink(t), ddLink(t), t.TempDir(), t.TempDir(), t.TempDir()
	binary, err := os.ReadFile(filepath.Join(link, "dd"))
	if err != nil {
		t.Fatal(err)
	}
	ours := filepath.Join(link, "dd")
	for path, text := range map[string]string{
		filepath.Join(copied, "dd"): string(binary),
		filepath.Join(script, "dd"): "#!/bin/sh\nexec " + ours + " \"$@\"\n",
		filepath.Join(early, "dd"):  "#!/bin/sh\necho another: \"$@\"\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range [][]string{
		{link, "/usr/bin", "/bin"},
		{link, second, copied, "/usr/bin", "/bin"},
		{link, script, copied},
		{"relative", link},
		{},
	} {
		out, stderr, code := called(t, link, strings.Join(path, ":"), "abc", "conv=ucase", "status=none")
		if out != "ABC" || stderr != "" || code != 0 {
			t.Errorf("PATH=%s: %q, %q, exit code %d", path, out, stderr, code)
		}
	}
	out, _, _ := called(t, link, link+":"+early+":/usr/bin", "", "conv=ucase", "a b")
	if out != "another: conv=ucase a b\n" {
		t.Errorf("the next dd in PATH got %q", out)
	}
	out, stderr, code := called(t, link, "/usr/bin", "abc", "bs=1", "count=2")
	if out != "ab" || code != 0 || !strings.HasPrefix(stderr, "2+0 records in\n2+0 records out\n2 bytes copied, ") {
		t.Errorf("%q, %q, exit code %d", out, stderr, code)
	}
}

// TestDDCalled: messages begin with the name it was called by, and what we do is done without any other dd.
func TestDDCalled(t *testing.T) {
	link, dir := ddLink(t), t.TempDir()
	ddWorld{source: noise(100_000)}.make(t, dir)
	_, stderr, code := called(t, link, "", "", ddLine("if=s of=t bs=64K", dir)...)
	if code != 0 || !strings.HasPrefix(stderr, "1+1 records in\n1+1 records out\n100000 bytes (100 kB, 98 KiB) copied, ") {
		t.Errorf("%q, exit code %d", stderr, code)
	}
	if err := sameFiles(filepath.Join(dir, "s"), filepath.Join(dir, "t")); err != nil && !strings.Contains(err.Error(), "mode") {
		t.Error(err)
	}
	_, stderr, code = called(t, link, "", "", "if="+dir+"/none", "of="+dir+"/t")
	if want := link + "/dd: failed to open '" + dir + "/none': No such file or directory\n"; code != 1 || stderr != want {
		t.Errorf("%q, exit code %d", stderr, code)
	}
	if _, err := findDD([]string{link, "relative", dir}); err == nil {
		t.Error("it found a dd where there is none")
	}
	var told bytes.Buffer
	d := ourDD([]string{"conv=ucase"}, &told)
	d.usual = nil
	t.Setenv("PATH", link)
	if code := d.run(t.Context()); code != exitOther || !strings.Contains(told.String(), "dd: conv=ucase: \"ucase\" is not known: only the system's own dd can do that, and there is none") {
		t.Errorf("exit code %d: %s", code, told.String())
	}
}

// TestDDHelp: cvol dd without operands teaches.
func TestDDHelp(t *testing.T) {
	for _, args := range [][]string{{"dd"}, {"dd", "--help"}, {"dd", "-h"}} {
		if r := cvol(t.Context(), args...); r.code != exitOK || !strings.Contains(r.stdout, "cvol dd OPERAND...") {
			t.Errorf("%q: %+v", args, r)
		}
	}
	dir := t.TempDir()
	r := cvol(t.Context(), "dd", "if="+dir+"/none", "of="+dir+"/t")
	if r.code != exitOther || r.stderr != "cvol dd: failed to open '"+dir+"/none': No such file or directory\n" {
		t.Errorf("got %+v", r)
	}
}
