package main

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/transfer"
)

// On a terminal there is a bar, and nowhere else; --progress has lines there, and numbers in another file.
func TestCopyProgress(t *testing.T) {
	dir := devices(t)
	source, target := filepath.Join(dir, "disk.raw"), filepath.Join(dir, "t")
	for _, flag := range []string{"", "--no-progress"} {
		tty, screen := pty(t)
		var stdout strings.Builder
		code := run(t.Context(), strings.Fields("copy "+flag+" "+source+" "+target), nil, &stdout, tty)
		got := screen()
		if drawn := strings.Contains(got, "done") && strings.Contains(got, "100% 3 MiB/3 MiB holes 1 MiB"); code != exitOK || drawn != (flag == "") {
			t.Errorf("%s: exit code %d, on the terminal: %q", flag, code, got)
		}
	}
	if got := cvol(t.Context(), "copy", source, target); got.stderr != "" {
		t.Errorf("got %+v", got)
	}
	if got := cvol(t.Context(), "copy", "--progress", source, target); got.code != exitOK || !strings.HasPrefix(got.stderr, "cvol: done 100% 3 MiB/3 MiB holes 1 MiB") {
		t.Errorf("got %+v", got)
	}
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if got := cvol(t.Context(), "copy", "--progress="+strconv.Itoa(int(in.Fd())), source, target); got.code != exitOK || got.stderr != "" {
		t.Errorf("got %+v", got)
	}
	in.Close()
	if numbers, err := io.ReadAll(out); err != nil || !strings.HasSuffix(string(numbers), "100/100\n") {
		t.Errorf("numbers %q, %v", numbers, err)
	}
	out.Close()
}

// What --progress is is said as it is given.
func TestProgressTo(t *testing.T) {
	var p progressTo
	for _, value := range []string{"", "stderr", "1"} {
		if value != "" {
			if err := p.Set(value); err != nil {
				t.Fatal(err)
			}
		}
		if got := p.String(); got != value || p.wanted() != (value != "") {
			t.Errorf("%q is %q", value, got)
		}
	}
	p.close()
}

// watched is a view of a copy that a test moves by hand, and what it says.
func watched(t *testing.T, came func() int64) (progress *transfer.Progress, said func() string) {
	t.Helper()
	var stderr lockedBuffer
	progress = new(transfer.Progress)
	v := (&cli{stderr: &stderr}).newCopyView(progress, progressTo{stderr: true}, came)
	t.Cleanup(func() { v.close(false) })
	return progress, stderr.take
}

// lockedBuffer is written to by one goroutine and read by another.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// take is what was written since it was called last.
func (l *lockedBuffer) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.b.Reset()
	return l.b.String()
}

// A copy that stands still is told of once, and once when it goes on; of a copy of hours there is a line now and then.
func TestCopyStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var moved atomic.Int64
		progress, said := watched(t, moved.Load)
		progress.SetPhase(transfer.PhaseCopying)
		step := func(d time.Duration) string {
			time.Sleep(d)
			synctest.Wait()
			return said()
		}
		if got := step(copyLine + time.Second); got != "cvol: copying 0 B 0 B/s\n" {
			t.Errorf("after the first line: %q", got)
		}
		if got := step(stallNote - copyLine); got != "cvol: nothing has moved for 15s: nothing comes, a device does not answer, or a limit is very low\n" {
			t.Errorf("standing still: %q", got)
		}
		moved.Store(30 << 20)
		if got := step(time.Second); !strings.HasPrefix(got, "cvol: it goes on, after 1") {
			t.Errorf("going on: %q", got)
		}
	})
}

// Without a stream it is a device that does not answer.
func TestCopyWords(t *testing.T) {
	v := &copyView{began: time.Unix(0, 0)}
	s := transfer.ProgressSnapshot{
		Phase: transfer.PhaseRechecking, TotalBytes: 4 << 20, VerifiedBytes: 1 << 20, ZeroBytes: 1 << 10, SkippedBytes: 2 << 10, RecheckedBytes: 3 << 10,
	}
	before, after := v.words(s, progressOf(s), time.Unix(1, 0))
	if got := before + ", " + after; got != "rechecking 3 KiB, 25% 1 MiB/4 MiB holes 1 KiB unchanged 2 KiB" {
		t.Errorf("it says %q", got)
	}
}

// Warnings are told as notes, with what belongs to them, and not for ever; all else is not.
func TestCopyLog(t *testing.T) {
	var stderr bytes.Buffer
	v := &copyView{cli: &cli{stderr: &stderr}, told: map[string]int{}}
	log := v.logger().With("disk", "a").WithGroup("g")
	log.Log(t.Context(), slog.LevelInfo, "all is well")
	for i := range maxTold + 5 {
		log.Warn("it cannot be read", "offset", i)
	}
	log.Warn("another one")
	lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
	if len(lines) != maxTold+2 || lines[1] != "cvol: it cannot be read, disk a, offset 1" ||
		lines[maxTold] != "cvol: it cannot be read: there is more, which is not told of" || lines[maxTold+1] != "cvol: another one, disk a" {
		t.Errorf("it says %q", lines)
	}
}

// Tab completes files for both ends, as for other commands that take paths, and the words of flags.
func TestCopyCompletion(t *testing.T) {
	for args, want := range map[string]string{
		"copy ":          "",
		"copy disk.raw ": "",
		"copy --verify ": "readback\ndigest\nnone\n",
		"copy --digest ": "xxh3-128\nblake3\n",
	} {
		words := append([]string{cobra.ShellCompNoDescRequestCmd}, strings.Split(args, " ")...)
		got := cvol(t.Context(), words...)
		offered, directive, _ := strings.Cut(got.stdout, ":")
		files := directive == "0\n"
		if got.code != exitOK || offered != want || files != (want == "") {
			t.Errorf("%q: %+v", args, got)
		}
	}
}
