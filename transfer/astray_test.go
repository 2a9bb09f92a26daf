package transfer

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/faulty"
)

// strayWrite lands on a chunk that is verified by then.
var strayWrite = faulty.Rule{Ops: faulty.Write, Offset: 60 * 4096, Length: 4096, Times: 1, Action: faulty.Misdirect(-60 * 4096)}

// astray is a copy of data, chunk by chunk, with a checkpoint or without.
func astray(t *testing.T, recorded bool) (source *memory, target *faulty.Memory, conf Config) {
	t.Helper()
	const size = 64 * 4096
	source, target = newMemory(t, size), faulty.NewMemory(size)
	source.fill(0, size, 1)
	conf = Config{Geometry: small(size), Progress: new(Progress), batch: 1, Workers: 1}
	conf.Verifier = NewVerifier(target, conf.Geometry)
	if recorded {
		conf.Checkpoint, _ = create(t, conf.Geometry)
	}
	return source, target, conf
}

// A write that lands on a chunk which was verified before is found, for its own chunk differs: then all is read back once more.
func TestCopyFindsWhatWentAstray(t *testing.T) {
	for _, recorded := range []bool{true, false} {
		source, target, conf := astray(t, recorded)
		if err := Copy(t.Context(), source, faulty.Wrap(target, faulty.NewPlan(1).Add(strayWrite)), conf); err != nil {
			t.Fatal(err)
		}
		root, err := RootOf(t.Context(), target, conf.Geometry)
		if err != nil {
			t.Fatal(err)
		}
		if root != naiveRoot(t, conf.Geometry, source.data) {
			t.Errorf("recorded %v: the target differs and was called verified", recorded)
		}
		if recorded && !conf.Checkpoint.Complete() {
			t.Error("the checkpoint is not complete")
		}
		s := conf.Progress.Snapshot()
		if s.Phase != PhaseDone || s.VerifiedBytes != s.TotalBytes || s.ResumedBytes != 0 || s.Mismatches != 1 {
			t.Errorf("recorded %v: progress %+v", recorded, s)
		}
	}
}

// A target that goes on with it ends the copy: here each second write of two chunks lands on the other one.
func TestCopyGivesUpOnWhatGoesAstray(t *testing.T) {
	for _, recorded := range []bool{true, false} {
		plan := faulty.NewPlan(1)
		for n := range 8 {
			plan.Add(
				faulty.Rule{Ops: faulty.Write, Offset: 60 * 4096, Length: 4096, Nth: 2*n + 1, Action: faulty.Misdirect(-60 * 4096)},
				faulty.Rule{Ops: faulty.Write, Offset: 0, Length: 4096, Nth: 2*n + 2, Action: faulty.Misdirect(60 * 4096)})
		}
		source, target, conf := astray(t, recorded)
		err := Copy(t.Context(), source, faulty.Wrap(target, plan), conf)
		var m *MismatchError
		if !errors.As(err, &m) || m.Chunk != 0 && m.Chunk != 60 {
			t.Errorf("recorded %v: %v", recorded, err)
		}
		if plan.Struck() > 2*maxRecopies+2 {
			t.Errorf("recorded %v: %d writes went astray before it gave up", recorded, plan.Struck())
		}
	}
}

// What the target is read back with may fail then, too.
func TestCopyReadsBackAllAndFails(t *testing.T) {
	source, target, conf := astray(t, true)
	verifier := conf.Verifier
	conf.Verifier = verifierFunc(func(ctx context.Context, first, count int64) ([]Run, error) {
		if conf.Progress.Snapshot().Phase == PhaseRechecking {
			return nil, dataplane.ErrIO
		}
		return verifier.Digests(ctx, first, count)
	})
	err := Copy(t.Context(), source, faulty.Wrap(target, faulty.NewPlan(1).Add(strayWrite)), conf)
	if !errors.Is(err, dataplane.ErrIO) || !strings.Contains(err.Error(), "check again") {
		t.Errorf("error %v", err)
	}
}
