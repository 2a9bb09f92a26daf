package vm

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// stops is within which time an agent whose back end hangs has to say what it leaves behind: 60 s, less than its unit's TimeoutStopSec.
const stops = 90 * time.Second

// TestSuspended: disks that hang in the kernel, under copies and under an agent that is told to stop, all at the same time, for each
// takes a minute.
func TestSuspended(t *testing.T) {
	inGuest(t)
	agent := hangAgent(t)
	source := randomDisk(t)
	t.Run("hang", func(t *testing.T) {
		t.Run("agent", func(t *testing.T) {
			t.Parallel()
			agent.leaves(t)
		})
		t.Run("copy", func(t *testing.T) {
			t.Parallel()
			copyWaits(t, source)
		})
		t.Run("readers", func(t *testing.T) {
			t.Parallel()
			readersLeave(t, source)
		})
		t.Run("migration-aborted", func(t *testing.T) {
			t.Parallel()
			abortHung(t, source)
		})
		t.Run("migration-stopped", func(t *testing.T) {
			t.Parallel()
			stopHung(t, source)
		})
		for _, h := range hangingCopies {
			t.Run(h.name, func(t *testing.T) {
				t.Parallel()
				h.run(t, source)
			})
		}
	})
	agent.goesOn(t)
}

// hungAgent is an agent that was told to stop while its back end hangs, with somebody who writes to a volume of it.
type hungAgent struct {
	*agent
	*process
	told   time.Time
	pool   *suspendable
	device string
	bytes  string // a file
	write  *process
}

func hangAgent(t *testing.T) *hungAgent {
	t.Helper()
	// The kernel has to wait for the agent as long as all tests beside it take.
	h := &hungAgent{agent: prepareAgent(t, "attach_dead_timeout = 600"), bytes: filepath.Join(t.TempDir(), "bytes")}
	h.pool = mappedPool(t, h.agent.pool)
	h.launch()
	h.device = h.volume("db", "64")
	run(t, "dd", "if=/dev/urandom", "of="+h.bytes, "bs=1M", "count=1", "status=none")
	h.pool.suspend()
	t.Cleanup(h.pool.resume)
	write := exec.Command("dd", "if="+h.bytes, "of="+h.device, "bs=64k", "oflag=direct", "conv=notrunc,fsync", "status=none")
	if err := write.Start(); err != nil {
		t.Fatal(err)
	}
	h.write = watch(write)
	awaitHang(t, h.agent.cmd.Process.Pid)
	h.told = time.Now()
	if err := h.agent.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	h.process = watch(h.agent.cmd)
	t.Cleanup(func() {
		h.pool.resume()
		<-h.ended
	})
	return h
}

// leaves: the agent says what it leaves behind, and is then held by that alone.
func (h *hungAgent) leaves(t *testing.T) {
	h.awaitEnd(t)
	if took := time.Since(h.told); took > stops {
		t.Errorf("the agent took %v to stop", took)
	}
	await(t, "the agent says what it leaves behind", func() bool { return bytes.Contains(h.log(), []byte(`msg="device abandoned"`)) })
	if h.write.over() {
		t.Errorf("the write ends with %v", h.write.cmd.ProcessState)
	}
}

// goesOn: when the disk does, the agent ends, the next one serves the volume, and who wrote to it has seen nothing.
func (h *hungAgent) goesOn(t *testing.T) {
	t.Helper()
	h.pool.resume()
	<-h.ended
	if code := h.agent.cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("the agent ends with %d", code)
	}
	h.start()
	await(t, "the write is over", h.write.over)
	if state := h.write.cmd.ProcessState; !state.Success() {
		t.Errorf("the write ends with %v", state)
	}
	run(t, "cmp", "-n", "1048576", h.bytes, h.device)
}
