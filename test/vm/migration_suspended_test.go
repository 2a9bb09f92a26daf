package vm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/cvold/cvold/client"
)

// hungMigration is an agent with a migration whose target, the back end "slow", hangs.
type hungMigration struct {
	*agent
	source string // what the volume "db" holds
	disk   *suspendable
}

// hangMigration suspends the target's disk once something of it is verified.
func hangMigration(t *testing.T, source string) *hungMigration {
	t.Helper()
	h := &hungMigration{agent: newAgent(t, "", "pool", "slow", "spare"), source: source}
	h.disk = mappedPool(t, h.directory("slow"))
	h.launch()
	t.Cleanup(h.disk.resume) // before the agent is ended
	h.cvol("create", "--name", "db", fmt.Sprintf("%dM", copyMebibytes))
	run(t, "dd", "if="+source, "of="+h.object(), "bs=1M", "conv=notrunc,fsync", "status=none")
	h.cvol("migrate", "--rate", copyRate, "db", "guest@slow#slow")
	h.await("something is verified", func() bool { return h.migration().Progress.VerifiedBytes > 0 })
	h.disk.suspend()
	awaitHang(t, h.cmd.Process.Pid)
	if m := h.migration(); m.State != "copying" {
		t.Fatalf("the migration is %s: %s", m.State, m.Reason)
	}
	return h
}

// abortHung: a migration that is aborted while its target hangs gives the volume back at once, and takes its target away when that
// can not be written any more. Nothing else waits.
func abortHung(t *testing.T, source string) {
	h := hangMigration(t, source)
	h.abort()
	h.cvol("create", "--name", "other", "4M")
	h.cvol("migrate", "--wait", "other", "guest@spare#spare")
	h.await("the target is waited for", func() bool { return bytes.Contains(h.log(), []byte("abort at the target")) })
	if m := h.migration(); m.State != "aborting" || m.Final || len(h.objects("slow")) != 1 {
		t.Errorf("while the target hangs the migration is %s, and there are %v", m.State, h.objects("slow"))
	}
	h.disk.resume()
	h.await("the migration has ended", func() bool { return h.migration().Final })
	if m := h.migration(); m.State != "failed" || m.Reason != "aborted by uid 0" || len(h.objects("slow")) != 0 {
		t.Errorf("the migration ends %s: %s, and there are %v", m.State, m.Reason, h.objects("slow"))
	}
	h.isWhole()
	h.nothingLeft()
}

// abort is answered at once, and so is what is asked of the volume then.
func (h *hungMigration) abort() {
	h.t.Helper()
	began := time.Now()
	h.cvol("migration", "abort", "db")
	var is client.VolumeAnswer
	if err := json.Unmarshal([]byte(h.cvol("show", "--json", "db")), &is); err != nil {
		h.t.Fatal(err)
	}
	if v := is.Volume; v.Status != "available" || v.Migration() != "error" || v.Location() != "guest@pool#pool" {
		h.t.Errorf("the aborted volume is %s, %s, at %s", v.Status, v.Migration(), v.Location())
	}
	h.isWhole()
	if took := time.Since(began); took > usable {
		h.t.Errorf("the volume was not usable for %v", took)
	}
}

// usable is within which time an aborted volume can be read to its end: less than what the target's half waits. The guest is slow.
const usable = 30 * time.Second

// stopHung: an agent that is told to stop while a migration's target hangs says what it leaves behind, and stays as long as that
// hangs; the next one completes the migration.
func stopHung(t *testing.T, source string) {
	h := hangMigration(t, source)
	verified := h.migration().Progress.VerifiedBytes
	told := time.Now()
	if err := h.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p := watch(h.cmd)
	t.Cleanup(func() { // before the agent is ended
		h.disk.resume()
		<-p.ended
	})
	p.awaitEnd(t)
	if took := time.Since(told); took > stops {
		t.Errorf("the agent took %v to stop", took)
	}
	h.await("the agent says what it leaves behind", func() bool { return bytes.Contains(h.log(), []byte(`msg="device abandoned"`)) })
	h.disk.resume()
	<-p.ended
	if code := h.cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("the agent ends with %d", code)
	}
	h.start()
	h.cvol("migration", "wait", "db")
	if m := h.migration(); m.State != "succeeded" || m.Progress.ResumedBytes < verified || m.Progress.Mismatches > 0 {
		t.Errorf("%d bytes were verified, and the migration ends %s: %s: %+v", verified, m.State, m.Reason, m.Progress)
	}
	h.isWhole()
	if held, left := h.objects("slow"), h.objects("pool"); len(held) != 1 || len(left) != 0 {
		t.Errorf("the target holds %v, and the pool %v", held, left)
	}
	h.nothingLeft()
}

// isWhole: the volume can be used, and has all its bytes.
func (h *hungMigration) isWhole() {
	h.t.Helper()
	read := filepath.Join(h.t.TempDir(), "read")
	h.cvol("copy", h.cvol("export", "db"), read)
	h.cvol("unexport", "db")
	run(h.t, "cmp", h.source, read)
}

// nothingLeft: no file of a migration is left over.
func (h *hungMigration) nothingLeft() {
	h.t.Helper()
	if left, err := filepath.Glob(filepath.Join(h.dir, "state", "migrations", "*")); err != nil || len(left) > 0 {
		h.t.Errorf("left over: %v, %v", left, err)
	}
}

// migration is that of the volume.
func (h *hungMigration) migration() client.Migration {
	h.t.Helper()
	var list client.MigrationsAnswer
	if err := json.Unmarshal([]byte(h.cvol("migration", "list", "--json")), &list); err != nil {
		h.t.Fatal(err)
	}
	i := slices.IndexFunc(list.Migrations, func(m client.Migration) bool { return m.VolumeName == "db" })
	if i < 0 {
		h.t.Fatal("there is no migration")
	}
	return list.Migrations[i]
}
