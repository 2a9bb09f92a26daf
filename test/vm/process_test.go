package vm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// process is a running one that somebody waits for.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when who waits has it back: then cmd.ProcessState says how it was
}

// watch waits for a command that was started.
func watch(cmd *exec.Cmd) *process {
	p := &process{cmd: cmd, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // ProcessState has it
		close(p.ended)
	}()
	return p
}

func (p *process) over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// awaitEnd waits until only those threads are left that hang, and the process ends when they do.
func (p *process) awaitEnd(t *testing.T) {
	t.Helper()
	await(t, "only what hangs is left", func() bool {
		all := states(t, p.cmd.Process.Pid)
		return p.over() || strings.Contains(all, "D") && strings.Trim(all, "DZX") == ""
	})
	if p.over() {
		t.Fatalf("it ends before its call: %v", p.cmd.ProcessState)
	}
}

// awaitHang waits until a thread of the process stays where no signal reaches it, longer than a disk that is well keeps it there:
// not the main thread, which is the one that gets the signals.
func awaitHang(t *testing.T, pid int) {
	t.Helper()
	const long = int(2 * time.Second / look)
	looks := 0
	await(t, "it hangs", func() bool {
		looks++
		if !strings.Contains(states(t, pid), "D") {
			looks = 0
		}
		return looks > long
	})
	if main := state(fmt.Sprintf("/proc/%d/stat", pid)); main != "S" {
		t.Errorf("the main thread is in state %s", main)
	}
}

// states are those of a process's threads, a letter each, as ps has them.
func states(t *testing.T, pid int) (all string) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		all += state(thread)
	}
	return all
}

// state is that of a thread, or nothing if it has ended.
func state(stat string) string {
	text, err := os.ReadFile(stat)
	if err != nil {
		return ""
	}
	_, after, _ := strings.Cut(string(text), ") ")
	return after[:min(1, len(after))]
}
