package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/file"
	"github.com/cvold/cvold/transfer"
)

// half leaves what a copy of source to target leaves that was ended when so many chunks were verified.
func half(t *testing.T, source, target, checkpoint string, chunks int64) {
	t.Helper()
	content := contentOf(t, source)
	f, err := os.OpenFile(target, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(len(content))); err != nil {
		t.Fatal(err)
	}
	h := transfer.CheckpointHeader{Geometry: transfer.NewGeometry(int64(len(content)))}
	for path, note := range map[string]func(identity){
		source: func(id identity) { h.SourceIdentity, h.Generation = id.name, id.generation },
		target: func(id identity) { h.TargetIdentity = id.name },
	} {
		d, err := file.OpenPath(t.Context(), path, dataplane.Mode{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		id, err := identify(path, d)
		if err != nil {
			t.Fatal(err)
		}
		note(id)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	c, err := transfer.CreateCheckpoint(checkpoint, h)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for chunk := range chunks {
		off, n := h.Range(chunk)
		p := content[off : off+n]
		if _, err := f.WriteAt(p, off); err != nil {
			t.Fatal(err)
		}
		if err := c.Append([]transfer.Run{{First: chunk, Count: 1, Digests: []transfer.Digest{h.Sum(p)}}}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCopyResumes(t *testing.T) {
	const chunks, done = 8, 5
	later := time.Now().Add(time.Minute)
	touched := func(t *testing.T, source, _ string) {
		if err := os.Chtimes(source, later, later); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name, flags   string
		meanwhile     func(t *testing.T, source, target string)
		sent, resumed int64 // in chunks
		says          string
	}{
		{"nothing happened", "", nil, chunks - done, done, ""},
		{"digest", "--verify digest", nil, chunks - done, done, ""},
		{"target changed", "", func(t *testing.T, _, target string) { change(t, target, 2<<20, 1) }, chunks - done + 1, chunks - 1, "copying them again"},
		{"source touched", "", touched, chunks - done, 0, "comparing it"},
		{"source changed", "", func(t *testing.T, source, target string) {
			change(t, source, 1<<20, 1)
			touched(t, source, target)
		}, chunks - done + 1, 0, "comparing it"},
		{"source unchanged, says the user", "--source-unchanged", touched, chunks - done, done, ""},
		{"and without reading back", "--source-unchanged --verify digest", touched, chunks - done, done, ""},
		{"begun with nothing", "", func(t *testing.T, _, target string) {
			if err := os.Remove(filepath.Join(filepath.Dir(target), "c")); err != nil {
				t.Fatal(err)
			}
		}, chunks, 0, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			source, target, checkpoint := filepath.Join(dir, "s"), filepath.Join(dir, "t"), filepath.Join(dir, "c")
			write(t, source, noise(chunks<<20))
			half(t, source, target, checkpoint, done)
			if test.meanwhile != nil {
				test.meanwhile(t, source, target)
			}
			answer, stderr := copied(t, append(strings.Fields(test.flags), "--checkpoint", checkpoint, "--resume", source, target)...)
			if answer.SentBytes != test.sent<<20 || answer.ResumedBytes != test.resumed<<20 || !strings.Contains(stderr, test.says) || test.says == "" && stderr != "" {
				t.Errorf("got %+v, %s", answer, stderr)
			}
			holds(t, target, contentOf(t, source), true)
			if _, err := os.Stat(checkpoint); !os.IsNotExist(err) {
				t.Errorf("the checkpoint: %v", err)
			}
		})
	}
}

// slowSource is an export of random bytes, in which reads from an offset on do not end before the file "go" is there.
func slowSource(t *testing.T, dir string, size, from int64) (uri string) {
	t.Helper()
	back := filepath.Join(dir, "back")
	write(t, back, noise(size))
	return nbdkit(t, dir, "eval", fmt.Sprintf("get_size=echo %d", size),
		fmt.Sprintf("pread=while [ $4 -ge %d -a ! -e %s/go ]; do sleep 0.02; done; dd if=%s iflag=skip_bytes,count_bytes skip=$4 count=$3 status=none", from, dir, back))
}

// reached reads what --progress=FD writes until so many of a hundred are copied.
func reached(t *testing.T, progress io.Reader, percent int) {
	t.Helper()
	for lines := bufio.NewScanner(progress); lines.Scan(); {
		number, _, _ := strings.Cut(lines.Text(), "/100")
		n, err := strconv.Atoi(number)
		if err != nil {
			t.Errorf("progress says %q", lines.Text())
		}
		if n >= percent {
			return
		}
	}
	t.Errorf("it ended before %d of 100", percent)
}

// The process: a signal ends it in good order, and it says how to go on. Then it does.
func TestCopyInterruptedAndResumed(t *testing.T) {
	const size, recorded = 80 << 20, 64 << 20 // an append is of so many
	dir := t.TempDir()
	target, checkpoint := filepath.Join(dir, "t"), filepath.Join(dir, "c")
	uri := slowSource(t, dir, size, size-4<<20)
	command := exec.Command(os.Args[0], "copy", "--checkpoint", checkpoint, "--progress=3", uri, target)
	command.Env = append(os.Environ(), asProcess+"=1")
	var stderr strings.Builder
	command.Stderr = &stderr
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	command.ExtraFiles = []*os.File{in}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	reached(t, out, recorded*100/size)
	if err := command.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "go"), nil)
	_ = command.Wait()
	want := "cvol: interrupted\ncvol: what is verified is in " + checkpoint + ": the same command with --resume goes on\n"
	if code := command.ProcessState.ExitCode(); code != exitInterrupted || stderr.String() != want {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	answer, _ := copied(t, "--checkpoint", checkpoint, "--resume", "--source-unchanged", uri, target)
	if answer.ResumedBytes < recorded || answer.SentBytes+answer.ResumedBytes != size {
		t.Errorf("got %+v", answer)
	}
	holds(t, target, noise(size), true)
}

// Without a checkpoint an interrupted copy leaves nothing that it made, and what was there.
func TestCopyInterruptedLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	source, target := filepath.Join(dir, "s"), filepath.Join(dir, "t")
	write(t, source, noise(1<<20))
	for _, there := range []bool{false, true} {
		if there {
			write(t, target, noise(5))
		}
		ctx := ended(t)
		got := cvol(ctx, "copy", source, target)
		if got.code != exitInterrupted || got.stderr != "cvol: interrupted\n" {
			t.Errorf("got %+v", got)
		}
		if _, err := os.Stat(target); os.IsNotExist(err) == there {
			t.Errorf("there before: %v; now: %v", there, err)
		}
	}
}

// A source that is written to while it is copied is no copy to trust; with a checkpoint the next run makes it good.
func TestCopyOfWhatChangesMeanwhile(t *testing.T) {
	dir := t.TempDir()
	source, checkpoint := filepath.Join(dir, "s"), filepath.Join(dir, "c")
	write(t, source, noise(1<<20))
	target := nbdkit(t, dir, "eval", "get_size=echo 1048576", "can_write=exit 0", "can_flush=exit 0", "flush=exit 0",
		"pwrite=touch -d 2001-01-01 "+source+"; cat >/dev/null")
	for _, flags := range []string{"", "--checkpoint " + checkpoint} {
		if err := os.Chtimes(source, time.Now(), time.Now()); err != nil {
			t.Fatal(err)
		}
		got := cvol(t.Context(), append(append([]string{"copy", "--verify", "digest"}, strings.Fields(flags)...), source, target)...)
		if got.code != exitRefused || !strings.Contains(got.stderr, "written to while it was copied") || got.stdout != "" ||
			strings.Contains(got.stderr, "--resume goes on") != (flags != "") {
			t.Errorf("got %+v", got)
		}
	}
	copied(t, "--checkpoint", checkpoint, "--resume", "--source-unchanged", "--verify", "digest", source, target)
}

// flaky is a target whose n-th flush fails, after the command was carried out.
func flaky(t *testing.T, dir, back string, n int, command string) string {
	t.Helper()
	count := filepath.Join(dir, "count")
	return nbdkit(t, dir, "eval", "get_size=stat -c %s "+back, "can_write=exit 0", "can_flush=exit 0",
		fmt.Sprintf("flush=echo >>%s; if [ $(wc -l <%s) -eq %d ]; then %s; echo EIO >&2; exit 1; fi", count, count, n, command),
		"pread=dd if="+back+" iflag=skip_bytes,count_bytes skip=$4 count=$3 status=none",
		"pwrite=dd of="+back+" oflag=seek_bytes seek=$4 conv=notrunc bs=1M status=none")
}

// After a flush that failed both ends are opened anew, if they are what they were.
func TestCopyAfterAFailedFlush(t *testing.T) {
	for _, replaced := range []bool{false, true} {
		dir := t.TempDir()
		source, back := filepath.Join(dir, "s"), filepath.Join(dir, "back")
		write(t, source, noise(1<<20))
		write(t, filepath.Join(dir, "other"), noise(1<<20))
		write(t, back, make([]byte, 1<<20))
		command := "true"
		if replaced {
			command = "mv " + filepath.Join(dir, "other") + " " + source
		}
		const opening = 1 // the first flush is when the target is opened
		got := cvol(t.Context(), "copy", source, flaky(t, dir, back, opening+1, command))
		if !strings.Contains(got.stderr, "opening both ends again in 1s") {
			t.Errorf("got %+v", got)
		}
		if replaced {
			if got.code != exitOther || !strings.Contains(got.stderr, "another one than it was") {
				t.Errorf("got %+v", got)
			}
			continue
		}
		if got.code != exitOK {
			t.Errorf("got %+v", got)
		}
		holds(t, back, noise(1<<20), true)
	}
}

// Incremental: what changed is written, and the manifest may take its predecessor's place.
func TestCopySince(t *testing.T) {
	const size = 8 << 20
	dir := t.TempDir()
	source, target, manifest := filepath.Join(dir, "s"), filepath.Join(dir, "t"), filepath.Join(dir, "m")
	write(t, source, noise(size))
	copied(t, "--manifest", manifest, source, target)
	for round, verify := range []string{"readback", "digest"} {
		change(t, source, int64(round+1)<<20, 1)
		change(t, source, 6<<20, round+1)
		answer, _ := copied(t, "--since", manifest, "--manifest", manifest, "--verify", verify, source, target)
		if answer.SentBytes != 2<<20 || answer.SkippedBytes != size-2<<20 {
			t.Errorf("%s: %+v", verify, answer)
		}
		holds(t, target, contentOf(t, source), true)
		if got := cvol(t.Context(), "verify", target, manifest); got.code != exitOK {
			t.Errorf("got %+v", got)
		}
	}
	write(t, target, noise(size)) // not what the manifest says
	answer, stderr := copied(t, "--since", manifest, source, target)
	if answer.Mismatches == 0 || !strings.Contains(stderr, "target differs") {
		t.Errorf("a manifest that lies: %+v, %s", answer, stderr)
	}
	holds(t, target, contentOf(t, source), true)
}
