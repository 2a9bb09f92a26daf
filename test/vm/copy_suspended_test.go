package vm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// leaves is within which time a copy that was interrupted has to say what it leaves behind: 35 s, and the guest is slow.
const leaves = time.Minute

// hanging is a copy whose source or target hangs in the kernel.
type hanging struct {
	name   string
	source bool // hangs, and not the target
	before bool // already when the copy begins
	flags  []string
	signal syscall.Signal
}

// hangingCopies have the calls that hang: a read through the page cache, a write past it, a flush, and the first read of what a
// copy opens.
var hangingCopies = []hanging{
	{name: "source", source: true, signal: syscall.SIGINT},
	{name: "target", signal: syscall.SIGTERM},
	{name: "target-direct", flags: []string{"--direct"}, signal: syscall.SIGINT},
	{name: "target-before", before: true, signal: syscall.SIGTERM},
	{name: "target-killed", signal: syscall.SIGKILL},
}

// run: interrupted, the copy says within a bounded time what it leaves behind. Its process stays, killed or not, as long as the
// call that hangs, and keeps everybody else from the target; the checkpoint has what is on the medium. When the disk goes on,
// the process ends, and the copy that resumes comes out equal.
func (h hanging) run(t *testing.T, source string) {
	target, checkpoint := disk(t, copyMebibytes), filepath.Join(t.TempDir(), "checkpoint")
	from, to := source, target
	var slow *suspendable
	if h.source {
		slow = mapped(t, h.name, source)
		from = slow.device
	} else {
		slow = mapped(t, h.name, target)
		to = slow.device
	}
	if h.before {
		slow.suspend()
	}
	args := append([]string{"--checkpoint", checkpoint, "--resume", "--source-unchanged", from, to}, h.flags...)
	c := startCopy(t, []*suspendable{slow}, append([]string{"--rate", copyRate}, args...)...)
	if !h.before {
		await(t, "something is verified", func() bool { return verifiedBytes(t, checkpoint, target) > 0 })
		slow.suspend()
	}
	awaitHang(t, c.cmd.Process.Pid)
	h.end(t, c, slow.device)
	verified := verifiedBytes(t, checkpoint, target)
	if !h.source { // which may be in the midst of being closed, and then whoever opens it waits for that
		mustBeBusy(t, args)
	}

	slow.resume()
	<-c.ended
	if state := c.cmd.ProcessState; h.signal != syscall.SIGKILL && state.ExitCode() != 130 || c.stdout.Len() > 0 {
		t.Errorf("it ends with %v, and %s", state, &c.stdout)
	}
	got := copyTo(t, args...)
	if got.Resumed != verified || got.Resumed+got.Sent != got.Size || got.Mismatches != 0 || (verified == 0) != h.before {
		t.Errorf("the checkpoint had %d bytes, and then %+v", verified, got)
	}
	run(t, "cmp", source, target)
}

// mustBeBusy makes a copy that is refused, for another one has the target.
func mustBeBusy(t *testing.T, args []string) {
	t.Helper()
	out, err := try(t, "cvol", append([]string{"copy"}, args...)...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 5 {
		t.Errorf("a second copy meanwhile: %v: %s", err, out)
	}
}

// end sends the signal; there is no end of the process for who waits for it.
func (h hanging) end(t *testing.T, c *copying, device string) {
	t.Helper()
	began := time.Now()
	if err := c.cmd.Process.Signal(h.signal); err != nil {
		t.Fatal(err)
	}
	c.awaitEnd(t)
	if h.signal == syscall.SIGKILL {
		return
	}
	if took := time.Since(began); took > leaves {
		t.Errorf("it took %v to end", took)
	}
	what := "cvol: close " + device + ": close after 30s: device hangs and was abandoned"
	if h.before {
		what = "cvol: a call in the kernel does not end: device hangs and was abandoned"
	}
	for _, want := range []string{"cvol: interrupted\n", what, "only then can this process end\n"} {
		await(t, "it says "+want, func() bool { return bytes.Contains(c.stderr.read(), []byte(want)) })
	}
}

// readersLeave: what reads a disk that hangs says within a bounded time what it leaves behind when it is interrupted.
func readersLeave(t *testing.T, source string) {
	slow := mapped(t, "read", source)
	slow.suspend()
	var all []*copying
	for _, args := range [][]string{{"checksum", slow.device}, {"dd", "if=" + slow.device, "of=" + filepath.Join(t.TempDir(), "copy"), "bs=1M"}} {
		all = append(all, startCvol(t, []*suspendable{slow}, args...))
	}
	for _, c := range all {
		awaitHang(t, c.cmd.Process.Pid)
		if err := c.cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
	}
	told := time.Now()
	for _, c := range all { // one that waits for the page cache can end then, one that waits for the disk itself cannot
		await(t, "it says what it leaves behind", func() bool { return bytes.Contains(c.stderr.read(), []byte("device hangs and was abandoned")) })
	}
	if took := time.Since(told); took > leaves {
		t.Errorf("they took %v to end", took)
	}
	slow.resume()
	for _, c := range all {
		if <-c.ended; c.cmd.ProcessState.ExitCode() != 130 {
			t.Errorf("%v ends with %v", c.cmd.Args, c.cmd.ProcessState)
		}
	}
}

// copyWaits: a copy waits for disks that do not answer for a while, and comes out as if nothing had been.
func copyWaits(t *testing.T, source string) {
	target := disk(t, copyMebibytes)
	from, to := mapped(t, "from", source), mapped(t, "to", target)
	disks := []*suspendable{from, to}
	c := startCopy(t, disks, "--rate", copyRate, from.device, to.device)
	await(t, "the copy writes", func() bool {
		name, err := filepath.EvalSymlinks(to.device)
		return err == nil && written(t, name) > 4<<20
	})
	for _, d := range disks {
		d.suspend()
	}
	awaitHang(t, c.cmd.Process.Pid)
	select {
	case <-c.ended:
		t.Fatalf("it does not wait: %v", c.cmd.ProcessState)
	case <-time.After(5 * time.Second):
	}
	for _, d := range disks {
		d.resume()
	}
	<-c.ended
	got := answer(t, c.stdout.Bytes())
	if state := c.cmd.ProcessState; !state.Success() || got.Sent != got.Size || got.Mismatches+got.Retries != 0 || got.Class != "device-direct" {
		t.Errorf("it ends with %v and %+v", state, got)
	}
	run(t, "cmp", source, target)
}

const (
	// copyMebibytes at copyRate take 12 s: verified chunks are recorded after 5 s, and then there has to be time to suspend
	// a disk before the copy is over.
	copyMebibytes = 48
	copyRate      = "4M"
)

// randomDisk is a disk full of bytes.
func randomDisk(t *testing.T) string {
	t.Helper()
	path := disk(t, copyMebibytes)
	run(t, "dd", "if=/dev/urandom", "of="+path, "bs=1M", fmt.Sprintf("count=%d", copyMebibytes), "conv=notrunc", "status=none")
	return path
}

// copied is what `cvol copy --json` answers.
type copied struct {
	Size       int64  `json:"size_bytes"`
	Sent       int64  `json:"sent_bytes"`
	Resumed    int64  `json:"resumed_bytes"`
	Mismatches int64  `json:"mismatches"`
	Retries    int64  `json:"retries"`
	Class      string `json:"class"`
}

// copyTo is a copy that succeeds.
func copyTo(t *testing.T, args ...string) copied {
	t.Helper()
	return answer(t, []byte(run(t, "cvol", append([]string{"copy", "--json"}, args...)...)))
}

func answer(t *testing.T, text []byte) (c copied) {
	t.Helper()
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return c
}
