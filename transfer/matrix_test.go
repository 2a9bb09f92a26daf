package transfer

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/faulty"
)

// matrixSize is 64 chunks and a sector.
const matrixSize = 64*MinChunkSize + 512

// rig is a copy whose devices have plans, still empty, in front. The checkpoint's flush has one of its own.
type rig struct {
	t          *testing.T
	source     *memory
	target     *memory
	plans      map[string]*faulty.Plan // of the source, the target, and the medium that it is read back from
	appendErr  error                   // of the checkpoint's flush
	checkpoint *Checkpoint
	path       string
	config     Config
	flips      int // how often the medium gives chunk kept back with a bit flipped; -1: always
	stale      int // how often the medium gives chunk data back as it was before; -1: always
	old        []byte
	lies       bool // flushes do nothing, until it shows on the medium
	resumed    bool // what was verified is to be read back in the end, as cvol copy does
	moved      int  // how often it was something else then
	since      string
	corrupt    *corruption // of the target, beside the plans; nil: none
	// data is a chunk of data that is written, zero one that is zeroed, kept one of data that is not written but read back.
	data, zero, kept int64
}

// newRig is a first copy: data in the chunks 0 to 19 and 50 to 59 and in the last sector, onto a target full of old bytes.
func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, data: 7, zero: 30, kept: 7, plans: map[string]*faulty.Plan{
		"source": faulty.NewPlan(1), "target": faulty.NewPlan(2), "medium": faulty.NewPlan(3),
	}}
	r.source, r.target = newMemory(t, matrixSize), newMemory(t, matrixSize)
	r.source.fill(0, 20*4096, 1)
	r.source.fill(50*4096, 10*4096, 2)
	r.source.fill(64*4096, 512, 3)
	r.target.fill(0, matrixSize, 4)
	copy(r.target.durable, r.target.data)
	r.checkpoint, r.path = create(t, small(matrixSize))
	r.config = Config{Geometry: small(matrixSize), Retries: 2, batch: 4}
	return r
}

// kinds are the columns of the matrix: what sort of copy meets the fault. turn makes it of a copy that is done, and of which
// these chunks of the source have changed; nil: it is the first copy.
var kinds = []struct {
	name string
	turn func(r *rig, changed []int64)
}{
	{"first copy", nil},
	{"resumed", func(r *rig, changed []int64) {
		for _, chunk := range changed {
			if err := r.checkpoint.Invalidate(chunk, 1); err != nil {
				r.t.Fatal(err)
			}
		}
		r.resumed = true
	}},
	{"comparing", func(r *rig, _ []int64) { r.config.Compare = true }},
	{"since", func(r *rig, _ []int64) {
		r.since = filepath.Join(memoryDir(r.t), "manifest")
		if _, err := WriteManifest(r.since, r.checkpoint, DeviceDirect, "v", testTime); err != nil {
			r.t.Fatal(err)
		}
		if err := r.checkpoint.Close(); err != nil {
			r.t.Fatal(err)
		}
		r.checkpoint, r.path = create(r.t, r.config.Geometry)
	}},
}

// kindOf is the rig for a column of the matrix: of a copy that is done, chunk data changes and chunk zero becomes a hole.
func kindOf(t *testing.T, kind int) *rig {
	r := newRig(t)
	if kinds[kind].turn == nil {
		return r
	}
	r.source.fill(r.zero*4096, 4096, 5)
	if err := r.run(); err != nil {
		t.Fatal(err)
	}
	r.source.fill(r.data*4096, 4096, 6)
	clear(r.source.data[r.zero*4096 : (r.zero+1)*4096])
	r.kept = 15
	kinds[kind].turn(r, []int64{r.data, r.zero})
	return r
}

// run copies as cvol copy does: what another run verified is read back in the end.
func (r *rig) run() error {
	for range 4 {
		if err := r.once(); err != nil || !r.resumed {
			return err
		}
		moved, err := Recheck(r.t.Context(), r.verifier(), r.checkpoint, r.config.Progress)
		if err != nil || moved == 0 {
			return err
		}
		r.moved++
	}
	return errMoves
}

// errMoves stands for the words of cvol copy about a target that does not keep still.
var errMoves = errors.New("the target changes")

func (r *rig) verifier() Verifier {
	return NewVerifier(flipping{faulty.Wrap(medium{r.target}, r.plans["medium"]), r}, r.config.Geometry)
}

// keepOld has reads of the medium give chunk data back as it is now, so often.
func (r *rig) keepOld(times int) {
	at := r.data * MinChunkSize
	r.stale, r.old = times, bytes.Clone(r.target.durable[at:at+MinChunkSize])
}

// flipping is a medium that gives chunks back wrong.
type flipping struct {
	dataplane.Device
	r *rig
}

func (d flipping) ReadAt(p []byte, off int64) (int, error) {
	d.r.corrupt.given(off, int64(len(p)))
	n, err := d.Device.ReadAt(p, off)
	at := d.r.kept*MinChunkSize + 99 - off
	if d.r.flips != 0 && at >= 0 && at < int64(n) {
		p[at] ^= 1
		d.r.flips--
	}
	at = d.r.data*MinChunkSize - off
	if d.r.stale != 0 && at >= 0 && at < int64(n) && !bytes.Equal(p[at:at+MinChunkSize], d.r.old) {
		copy(p[at:], d.r.old)
		d.r.stale--
	}
	if d.r.lies && d.r.shows(off, int64(n)) {
		d.r.plans["target"].Clear()
	}
	return n, err
}

// shows says whether the medium lacks some of the range.
func (r *rig) shows(off, n int64) bool {
	r.target.mu.Lock()
	defer r.target.mu.Unlock()
	return !bytes.Equal(r.target.data[off:off+n], r.target.durable[off:off+n])
}

func (r *rig) once() error {
	config := r.config
	config.Checkpoint = r.checkpoint
	config.Progress = new(Progress)
	r.config.Progress = config.Progress
	config.Verifier = r.verifier()
	r.checkpoint.sync = func(*os.File) error { return r.appendErr }
	if r.since != "" {
		m, err := OpenManifest(r.since)
		if err != nil {
			r.t.Fatal(err)
		}
		defer m.Close()
		config.Since = m
	}
	var target dataplane.Device = faulty.Wrap(r.target, r.plans["target"])
	if r.corrupt != nil {
		target = corrupted{target, r.corrupt}
	}
	return Copy(r.t.Context(), faulty.Wrap(r.source, r.plans["source"]), target, config)
}

// right says whether the medium has the source's bytes.
func (r *rig) right() bool { return bytes.Equal(r.source.data, r.target.durable) }

// The outcomes of a fault, as docs/RELIABILITY.md explains them.
const (
	same     = "same"     // nothing comes of it
	retried  = "retried"  // the request is made again
	repaired = "repaired" // it is read back wrong and copied again
	differs  = "differs"  // it stays wrong, and ends the copy
	failed   = "error"    // it ends the copy
	believed = "believed" // nobody can tell
	nowhere  = "–"        // it does not come to it
)

// outcome runs the copy and says what came of it.
func (r *rig) outcome() string {
	err := r.run()
	var mismatch *MismatchError
	s := r.config.Progress.Snapshot()
	switch {
	case errors.As(err, &mismatch) || errors.Is(err, errMoves):
		return differs
	case err != nil:
		return failed
	case !r.right():
		return believed
	case s.Mismatches > 0 || r.moved > 0:
		return repaired
	case s.Retries > 0:
		return retried
	}
	return same
}

// falselyVerified are the chunks that the checkpoint calls verified with a digest that the medium's bytes do not have.
func (r *rig) falselyVerified() (chunks []int64) {
	for i, digest := range known(r.t, r.checkpoint) {
		off, n := r.config.Range(int64(i))
		if digest != (Digest{}) && digest != r.config.Sum(r.target.durable[off:off+n]) {
			chunks = append(chunks, int64(i))
		}
	}
	return chunks
}

// recover goes on without faults, from what a power cut leaves.
func (r *rig) recover() {
	r.t.Helper()
	for _, plan := range r.plans {
		plan.Clear()
	}
	r.appendErr, r.flips, r.stale, r.corrupt = nil, 0, 0, nil
	r.target.crash()
	r.checkpoint = reopen(r.t, r.checkpoint, r.path)
	r.resumed = true
	if err := r.run(); err != nil {
		r.t.Fatalf("resume: %v", err)
	}
	mustBeCopied(r.t, r.source, r.target, r.checkpoint)
}

// TestFaultMatrix: each fault in each kind of copy has the outcome that the table says; a copy that failed can be gone on
// with; and what the checkpoint calls verified is true, but for what a write hit that went astray in a copy that failed: that
// is found by whoever goes on.
func TestFaultMatrix(t *testing.T) {
	for _, fault := range faultMatrix {
		for i, kind := range kinds {
			want := fault.outcomes[i]
			if want == nowhere {
				continue
			}
			t.Run(fault.name+"/"+kind.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := kindOf(t, i)
					fault.strike(r)
					if got := r.outcome(); got != want {
						t.Errorf("%s, want %s", got, want)
					}
					if wrong := r.falselyVerified(); len(wrong) > 0 && !(fault.astray && want == differs) {
						t.Errorf("chunks %v are called verified", wrong)
					}
					if want == believed {
						return
					}
					r.recover()
				})
			})
		}
	}
}

// A call that hangs is waited for: Copy does not return while it may still do something, and then ends as it was told to.
func TestFaultHangs(t *testing.T) {
	for _, cancelled := range []bool{false, true} {
		for device, ops := range map[string]faulty.Op{
			"source": faulty.Read | faulty.Extents, "target": faulty.Write | faulty.Zero | faulty.Sync, "medium": faulty.Read,
		} {
			for op := faulty.Read; op <= faulty.Extents; op <<= 1 {
				if ops&op == 0 {
					continue
				}
				t.Run(device+" "+op.String(), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { hang(t, device, op, cancelled) })
				})
			}
		}
	}
}

// hang has the first call take an hour.
func hang(t *testing.T, device string, op faulty.Op, cancelled bool) {
	r := newRig(t)
	until := make(chan struct{})
	time.AfterFunc(time.Hour, func() { close(until) })
	r.plans[device].Add(faulty.Rule{Ops: op, Nth: 1, Action: faulty.Delay(until)})
	start := time.Now()
	if cancelled {
		r.plans[device].Add(faulty.Rule{Ops: op, Nth: 1, Action: faulty.Fail(dataplane.ErrAbandoned)})
	}
	err := r.run()
	if took := time.Since(start); took < time.Hour {
		t.Errorf("returned after %v", took)
	}
	if cancelled != errors.Is(err, dataplane.ErrAbandoned) || !cancelled && (err != nil || !r.right()) {
		t.Errorf("error %v", err)
	}
	if wrong := r.falselyVerified(); len(wrong) > 0 {
		t.Errorf("chunks %v are called verified", wrong)
	}
	r.recover()
}
