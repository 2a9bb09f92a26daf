package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// piped is cvol with something at its standard input.
func piped(ctx context.Context, stdin io.Reader, args ...string) result {
	var stdout, stderr strings.Builder
	code := run(ctx, args, stdin, &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// Streams of all sizes come and go, over files and NBD.
func TestCopyStreams(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "t")
	const manyBatches = 70 << 20 // a stream is recorded every 64 MiB
	for _, size := range []int64{0, 1, 511, 4097, 1 << 20, 3<<20 + 7, manyBatches} {
		content := holes(size)
		for _, flags := range []string{"", "--verify digest", "--verify none", "--sparse=false", "--digest blake3", "--manifest " + filepath.Join(dir, "m")} {
			if size == manyBatches && flags != "" {
				continue
			}
			got := piped(t.Context(), bytes.NewReader(content), append(append([]string{"copy", "--json"}, strings.Fields(flags)...), "-", target)...)
			var answer copyResult
			if err := json.Unmarshal([]byte(got.stdout), &answer); err != nil || got.code != exitOK || answer.SizeBytes != size || answer.SentBytes+answer.ZeroBytes != size {
				t.Errorf("%d bytes, %s: %v, %+v", size, flags, err, got)
			}
			holds(t, target, content, true)
			if got = piped(t.Context(), nil, "copy", target, "-"); got.code != exitOK || got.stdout != string(content) || got.stderr != "" {
				t.Errorf("%d bytes, %s: exit code %d, %d bytes, %s", size, flags, got.code, len(got.stdout), got.stderr)
			}
			if err := errors.Join(os.Remove(target), os.RemoveAll(filepath.Join(dir, "m"))); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A file that is there is written over from its beginning, as by a copy of a file: never made shorter.
func TestCopyStreamToAFileThatIsThere(t *testing.T) {
	target := filepath.Join(t.TempDir(), "t")
	content, old := holes(2<<20+5), noise(5<<20)
	for _, before := range [][]byte{old, old[:1<<20+9], old[:len(content)], nil} {
		for _, sparse := range []string{"--sparse", "--sparse=false"} {
			write(t, target, before)
			got := piped(t.Context(), bytes.NewReader(content), "copy", sparse, "-", target)
			if told := strings.Contains(got.stderr, "is longer than what came"); got.code != exitOK || told != (len(before) > len(content)) {
				t.Errorf("got %+v", got)
			}
			holds(t, target, append(bytes.Clone(content), before[min(len(content), len(before)):]...), true)
		}
	}
}

func TestCopyStreamOverNBD(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "t")
	write(t, path, noise(4<<20))
	s := serve(t, "--socket", filepath.Join(dir, "s"), path)
	content := holes(3<<20 + 512)
	if got := piped(t.Context(), bytes.NewReader(content), "copy", "-", s.uri); got.code != exitOK || !strings.Contains(got.stdout, "class server-readback") {
		t.Errorf("got %+v", got)
	}
	holds(t, path, content, false)
	if got := piped(t.Context(), nil, "copy", s.uri, "-"); got.stdout != string(contentOf(t, path)) {
		t.Errorf("%d bytes, %s", len(got.stdout), got.stderr)
	}
	got := piped(t.Context(), bytes.NewReader(noise(5<<20)), "copy", "-", s.uri)
	if got.code != exitOther || !strings.Contains(got.stderr, "the target has 4194304 bytes") {
		t.Errorf("a stream that is too long: %+v", got)
	}
	if got := piped(t.Context(), bytes.NewReader(content), "copy", "-", "null:"); got.code != exitOK || !strings.Contains(got.stdout, "size 3 MiB") {
		t.Errorf("got %+v", got)
	}
}

// asked is a stream that tells when it is waited for, and then gives nothing, and takes nothing.
type asked struct {
	waiting chan struct{}
	once    sync.Once
	end     chan struct{}
}

func newAsked(t *testing.T) *asked {
	a := &asked{waiting: make(chan struct{}), end: make(chan struct{})}
	t.Cleanup(func() { close(a.end) })
	return a
}

func (a *asked) Read([]byte) (int, error)  { return a.hang() }
func (a *asked) Write([]byte) (int, error) { return a.hang() }
func (a *asked) hang() (int, error) {
	a.once.Do(func() { close(a.waiting) })
	<-a.end
	return 0, io.ErrClosedPipe
}

// Ctrl-C ends a copy that waits for its standard input, or for who reads its output, and what it made is gone.
func TestCopyStreamInterrupted(t *testing.T) {
	dir := devices(t)
	before := tree(t, dir)
	for _, args := range [][]string{{"copy", "-", filepath.Join(dir, "new")}, {"copy", filepath.Join(dir, "disk.raw"), "-"}} {
		ctx, cancel := context.WithCancel(t.Context())
		a := newAsked(t)
		go func() {
			<-a.waiting
			cancel()
		}()
		var stderr strings.Builder
		if code := run(ctx, args, a, a, &stderr); code != exitInterrupted || stderr.String() != "cvol: interrupted\n" {
			t.Errorf("%q: exit code %d, %s", args, code, stderr.String())
		}
	}
	if after := tree(t, dir); after != before {
		t.Errorf("before:\n%safter:\n%s", before, after)
	}
}

// Whoever reads standard output may leave: the process ends as others do, by SIGPIPE.
func TestCopyStreamToNobody(t *testing.T) {
	dir := devices(t)
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out.Close()
	command := exec.Command(os.Args[0], "copy", filepath.Join(dir, "disk.raw"), "-")
	command.Env = append(os.Environ(), asProcess+"=1")
	var stderr strings.Builder
	command.Stdout, command.Stderr = in, &stderr
	_ = command.Run()
	in.Close()
	if status := command.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGPIPE || stderr.String() != "" {
		t.Errorf("%v, %s", command.ProcessState, stderr.String())
	}
}

func TestCopyStreamErrors(t *testing.T) {
	dir := devices(t)
	disk := filepath.Join(dir, "disk.raw")
	var stderr strings.Builder
	if code := run(t.Context(), []string{"copy", disk, "-"}, nil, fullDisk{}, &stderr); code != exitOther || !strings.Contains(stderr.String(), "no space left on device") {
		t.Errorf("exit code %d, %s", code, stderr.String())
	}
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stderr.Reset()
	if code := run(t.Context(), []string{"copy", disk, "-"}, nil, f, &stderr); code != exitRefused || !strings.Contains(stderr.String(), "one and the same") {
		t.Errorf("to itself: exit code %d, %s", code, stderr.String())
	}
	if got := piped(t.Context(), f, "copy", "-", disk); got.code != exitRefused || !strings.Contains(got.stderr, "one and the same") {
		t.Errorf("from itself: %+v", got)
	}
	tty, screen := pty(t)
	stderr.Reset()
	code := run(t.Context(), []string{"copy", disk, "-"}, nil, tty, &stderr)
	if shown := screen(); code != exitUsage || !strings.Contains(stderr.String(), "is a terminal") || shown != "" {
		t.Errorf("to a terminal: exit code %d, %s, %q", code, stderr.String(), shown)
	}
	broken := io.MultiReader(strings.NewReader("abc"), &failing{})
	if got := piped(t.Context(), broken, "copy", "-", filepath.Join(dir, "new")); got.code != exitOther || !strings.Contains(got.stderr, "read the stream at 3: it tore") {
		t.Errorf("got %+v", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "new")); !os.IsNotExist(err) {
		t.Errorf("left over: %v", err)
	}
}

type failing struct{}

func (*failing) Read([]byte) (int, error) { return 0, errors.New("it tore") }
