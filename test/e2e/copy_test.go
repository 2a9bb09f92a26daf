package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cvold/cvold/transfer"
)

// chunk is how much cvol copy digests at a time.
const chunk = transfer.DefaultChunkSize

// copyJob is a source and a target of cvol copy, in a directory of their own, in memory where there is one.
type copyJob struct {
	t                  *testing.T
	r                  *rand.Rand
	dir                string
	source, checkpoint string
	kept               string // a second name of the checkpoint
	target             string // the file
	to                 string // what cvol is told: the file, or its export
	server             *exec.Cmd
	serverSaid         bytes.Buffer
	args               []string // more of them

	changed    bool  // the source, since the first run
	size, data int64 // bytes of the source, and of them in chunks that are no zeroes
}

// newCopyJob makes a source of so many chunks, a fifth of them holes.
func newCopyJob(t *testing.T, r *rand.Rand, chunks int64) *copyJob {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "cvol-copy")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	at := func(name string) string { return filepath.Join(dir, name) }
	j := &copyJob{t: t, r: r, dir: dir, source: at("source"), target: at("target"), checkpoint: at("checkpoint"), kept: at("kept"), size: chunks*chunk + 4096}
	j.to = j.target
	f, err := os.Create(j.source)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	noise := rand.NewChaCha8([32]byte{byte(r.Uint32()), byte(r.Uint32())})
	p := make([]byte, chunk)
	for i := range chunks {
		if r.IntN(5) == 0 {
			continue
		}
		_, _ = noise.Read(p)
		if _, err := f.WriteAt(p, i*chunk); err != nil {
			t.Fatal(err)
		}
		j.data += chunk
	}
	if err := f.Truncate(j.size); err != nil {
		t.Fatal(err)
	}
	return j
}

// copyProcess is a cvol copy that runs.
type copyProcess struct {
	*exec.Cmd
	out, errors bytes.Buffer
	ended       chan struct{}
}

// start runs cvol copy, which goes on if it can.
func (j *copyJob) start() *copyProcess {
	j.t.Helper()
	args := append([]string{"copy", "--json", "--no-progress", "--checkpoint", j.checkpoint, "--resume"}, j.args...)
	p := &copyProcess{Cmd: exec.Command(cvol, append(args, j.source, j.to)...), ended: make(chan struct{})}
	p.Stdout, p.Stderr = &p.out, &p.errors
	if err := p.Start(); err != nil {
		j.t.Fatal(err)
	}
	go func() {
		_ = p.Wait()
		close(p.ended)
	}()
	j.t.Cleanup(p.kill)
	return p
}

// kill ends the process as a crash does.
func (p *copyProcess) kill() {
	_ = p.Process.Kill() // it may have ended
	<-p.ended
}

// runs waits so long, and says whether the process is still there then.
func (p *copyProcess) runs(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.ended:
		return false
	}
}

// finish waits for the end, which must be a good one.
func (j *copyJob) finish(p *copyProcess) {
	j.t.Helper()
	if p.runs(patience) {
		j.t.Fatalf("cvol copy does not end: %s", p.errors.String())
	}
	if code := p.ProcessState.ExitCode(); code != 0 {
		j.t.Fatalf("cvol copy ends with exit code %d: %s", code, p.errors.String())
	}
}

// halted stops the process in its tracks; false: it has ended.
func (p *copyProcess) halted(t *testing.T) bool {
	t.Helper()
	if p.Process.Signal(syscall.SIGSTOP) != nil {
		return false
	}
	for p.runs(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Process.Pid))
		if err == nil && strings.Contains(string(stat), ") T ") {
			return true
		}
	}
	return false
}

// written is how many bytes the process has written, to the target and (few) to the checkpoint.
func (p *copyProcess) written(t *testing.T) (n int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.Process.Pid))
	if err == nil {
		_, after, _ := strings.Cut(string(text), "wchar: ")
		_, err = fmt.Sscan(after, &n)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// record is what a checkpoint says.
type record struct {
	there, complete bool
	verified, data  int64 // bytes; data without zeroes
}

// look reads the checkpoint, from a copy: the process may have it open.
func (j *copyJob) look() (r record) {
	j.t.Helper()
	text, err := os.ReadFile(j.checkpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return r
	}
	copied := filepath.Join(j.dir, "look")
	if err == nil {
		err = os.WriteFile(copied, text, 0o600)
	}
	if err != nil {
		j.t.Fatal(err)
	}
	c, err := transfer.OpenCheckpoint(copied)
	if err != nil {
		j.t.Fatal(err)
	}
	defer c.Close()
	r = record{there: true, complete: c.Complete(), verified: c.VerifiedBytes()}
	err = c.Runs(func(run transfer.Run) error {
		if !run.Zero {
			r.data += c.Header().Bytes(run.First, run.Count)
		}
		return nil
	})
	if err != nil {
		j.t.Fatal(err)
	}
	return r
}

// mustBeEqual: the target has the source's bytes, and nothing is left over.
func (j *copyJob) mustBeEqual() {
	j.t.Helper()
	source, target := j.open(j.source), j.open(j.target)
	defer source.Close()
	defer target.Close()
	a, b := make([]byte, chunk), make([]byte, chunk)
	for at := int64(0); ; at += chunk {
		n, err := io.ReadFull(source, a)
		m, _ := io.ReadFull(target, b[:max(n, 1)])
		if n != m || !bytes.Equal(a[:n], b[:n]) {
			j.t.Fatalf("source and target differ from %d on", at)
		}
		if err != nil {
			break
		}
	}
	left, _ := filepath.Glob(j.checkpoint + "*")
	if len(left) > 0 {
		j.t.Errorf("left over: %v", left)
	}
}

func (j *copyJob) open(path string) *os.File {
	j.t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		j.t.Fatal(err)
	}
	return f
}

// spoil changes a byte of a file.
func (j *copyJob) spoil(path string) {
	j.t.Helper()
	f := j.open(path)
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return // there is nothing yet
	}
	at, p := j.r.Int64N(info.Size()), make([]byte, 1)
	if _, err = f.ReadAt(p, at); err == nil {
		p[0] ^= 0x80
		_, err = f.WriteAt(p, at)
	}
	if err != nil {
		j.t.Fatal(err)
	}
}
