package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cvold/cvold/internal/program"
)

// mostAgain in bytes is what a kill may cost: the batches under way, and what is in flight (transfer's maxBatches and
// batchBytes, and DefaultInFlight).
const mostAgain = 32*(8<<20) + 64<<20

// killing is the campaign of kills of cvol copy.
type killing struct {
	t      *testing.T
	r      *rand.Rand
	chunks int64
	met    map[string]int
	kills  int
	most   int64 // bytes that a kill had copied again
}

// TestCampaignCopyKill kills cvol copy at random moments, now and then the server of its target too, and goes on. The end is
// equal, nothing is left over, what the checkpoint held is not copied again, and a kill costs no more than is under way.
func TestCampaignCopyKill(t *testing.T) {
	k := &killing{t: t, r: rand.New(rand.NewPCG(uint64(*seed), 1)), chunks: 96, met: map[string]int{}}
	kills := 6
	if os.Getenv("CVOLD_CAMPAIGN") == "full" {
		kills, k.chunks = 200, 512
	}
	defer func() {
		var counts strings.Builder
		for _, name := range slices.Sorted(maps.Keys(k.met)) {
			fmt.Fprintf(&counts, ", %s %d", name, k.met[name])
		}
		t.Logf("-e2e.seed=%d: %d kills, at most %d MiB copied again%s", *seed, k.kills, k.most>>20, counts.String())
	}()
	for i := 0; k.kills < kills; i++ {
		server := ""
		switch i % 4 {
		case 1:
			server = "cvol"
		case 3:
			server = "qemu-nbd"
		}
		t.Run(fmt.Sprintf("%d %s", i, server), func(t *testing.T) { k.copies(t, server) })
		if t.Failed() {
			break
		}
	}
}

// copies is a copy from beginning to end, killed several times, and then again while all is read back.
func (k *killing) copies(t *testing.T, server string) {
	j := newCopyJob(t, k.r, k.chunks)
	if server != "" {
		j.serve(server)
	}
	if k.r.IntN(2) == 0 {
		j.args = []string{"--rate", "600M"}
	}
	k.met["copies to "+map[string]string{"": "a file", "cvol": "cvol serve", "qemu-nbd": "qemu-nbd"}[server]]++
	span := 900 * time.Millisecond * time.Duration(k.chunks) / 512
	for range 2 + k.r.IntN(4) {
		if !k.kill(j, time.Duration(k.r.Int64N(int64(span)))) {
			break
		}
		k.meddle(j)
	}
	before := j.look()
	p := j.start()
	j.finish(p)
	j.mustBeEqual()
	k.mustNotRepeat(j, before, p)
	for range 2 {
		if j.recheckable() && k.kill(j, time.Duration(k.r.Int64N(int64(span/2)))) {
			j.finish(j.start())
		}
		j.mustBeEqual()
	}
	if j.recheckable() {
		k.killAtRemoval(j)
	}
}

// killAtRemoval kills a copy that is done when its checkpoint's name is gone, if it is there long enough.
func (k *killing) killAtRemoval(j *copyJob) {
	j.t.Helper()
	p := j.start()
	for over := time.Now().Add(patience); exists(j.checkpoint) && time.Now().Before(over); {
		_ = p.runs(0)
	}
	if !p.halted(j.t) {
		j.finish(p)
	} else {
		p.kill()
		k.kills++
		k.met["killed after it was removed"]++
		j.finish(j.start())
	}
	j.mustBeEqual()
}

// kill kills a copy after d, or before if it ends by itself: then it must have ended well. True: it was killed.
func (k *killing) kill(j *copyJob, d time.Duration) bool {
	j.t.Helper()
	before := j.look()
	p := j.start()
	restarted := j.server != nil && k.r.IntN(4) == 0
	if restarted {
		p.runs(d / 2)
		j.restart()
		k.met["kills of the server"]++
	}
	if !p.runs(d) || !p.halted(j.t) {
		if restarted && p.ProcessState.ExitCode() == 1 {
			k.met["ended since the server was not there at first"]++
			return true
		}
		j.finish(p)
		return false
	}
	after, written := j.look(), p.written(j.t)
	j.keep()
	p.kill()
	k.kills++
	phase := phaseOf(before, after)
	k.met["killed "+phase]++
	if j.server == nil {
		recorded := after.data - before.data
		if j.changed {
			recorded = after.data // both sides are compared, from the beginning
		}
		k.most = max(k.most, written-recorded)
		if written-recorded > mostAgain {
			j.t.Errorf("%s: %d bytes written, %d recorded: the others are copied again", phase, written, recorded)
		}
	}
	return true
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// phaseOf tells from the checkpoint what a process was doing.
func phaseOf(before, after record) string {
	switch {
	case !before.there && !after.there:
		return "before the checkpoint was made"
	case before.there && !after.there:
		return "after it was removed"
	case before.complete && after.complete:
		return "while it reads back all"
	case after.complete:
		return "when all was copied"
	case before.verified == after.verified:
		return "before anything was recorded"
	}
	return "while it copies"
}

// meddle does between two runs what others do: to the target, which is found when all is read back, or to the source, which
// has both sides compared.
func (k *killing) meddle(j *copyJob) {
	switch k.r.IntN(8) {
	case 0:
		if _, err := os.Stat(j.target); err == nil {
			j.spoil(j.target)
			k.met["target changed"]++
		}
	case 1:
		j.spoil(j.source)
		j.data, j.changed = j.size, true // a hole may be data now
		k.met["source changed"]++
	}
}

// mustNotRepeat: what was recorded was not sent again.
func (k *killing) mustNotRepeat(j *copyJob, before record, p *copyProcess) {
	j.t.Helper()
	var result struct {
		SentBytes    int64 `json:"sent_bytes"`
		ResumedBytes int64 `json:"resumed_bytes"`
	}
	if err := json.Unmarshal(p.out.Bytes(), &result); err != nil {
		j.t.Fatalf("%v: %q", err, p.out.String())
	}
	const spoilt = 8 * chunk // at most so many kills a copy, each with a byte spoilt
	if result.ResumedBytes != 0 && result.SentBytes > j.data-before.data+spoilt {
		j.t.Errorf("%d bytes sent, though %d of %d were recorded", result.SentBytes, before.data, j.data)
	}
}

// keep keeps the checkpoint under a second name: cvol removes the first one when it is complete.
func (j *copyJob) keep() {
	j.t.Helper()
	if err := os.Remove(j.kept); err != nil && !errors.Is(err, fs.ErrNotExist) {
		j.t.Fatal(err)
	}
	if err := os.Link(j.checkpoint, j.kept); err != nil && !errors.Is(err, fs.ErrNotExist) {
		j.t.Fatal(err)
	}
}

// recheckable puts the checkpoint that was kept in place again, if there is one: a copy that goes on from it only reads back.
func (j *copyJob) recheckable() bool {
	err := os.Link(j.kept, j.checkpoint)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		j.t.Fatal(err)
	}
	return err == nil
}

// serve has the target served, by cvol serve or by qemu-nbd (nbdkit 1.32 aborts now and then when a client vanishes).
func (j *copyJob) serve(server string) {
	j.t.Helper()
	f, err := os.Create(j.target)
	if err == nil {
		err = errors.Join(f.Truncate(j.size), f.Close())
	}
	if err != nil {
		j.t.Fatal(err)
	}
	socket := filepath.Join(j.dir, "s")
	j.to = "nbd+unix:///?socket=" + socket
	j.server = exec.Command(cvol, "serve", "--socket", socket, j.target)
	if server == "qemu-nbd" {
		j.server = exec.Command(program.Need(j.t, "qemu-nbd"), "--persistent", "--shared=0", "--format=raw", "--socket="+socket, j.target)
	}
	j.launch()
	j.t.Cleanup(j.endServer)
}

// launch starts the server and waits until it listens.
func (j *copyJob) launch() {
	j.t.Helper()
	j.server.Stdout, j.server.Stderr = &j.serverSaid, &j.serverSaid
	if err := j.server.Start(); err != nil {
		j.t.Fatal(err)
	}
	over := time.Now().Add(patience)
	for {
		if _, err := os.Stat(filepath.Join(j.dir, "s")); err == nil {
			return
		}
		if time.Now().After(over) {
			j.t.Fatal("the server does not listen")
		}
		passes(j.t, look)
	}
}

func (j *copyJob) endServer() {
	_ = j.server.Process.Kill()
	_ = j.server.Wait()
	if j.t.Failed() {
		j.t.Logf("the server said: %v %s", j.server.ProcessState, j.serverSaid.String())
	}
}

// restart kills the server and starts it anew.
func (j *copyJob) restart() {
	j.t.Helper()
	j.endServer()
	if err := os.Remove(filepath.Join(j.dir, "s")); err != nil {
		j.t.Fatal(err)
	}
	j.server = exec.Command(j.server.Args[0], j.server.Args[1:]...)
	j.launch()
}
