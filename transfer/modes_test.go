package transfer

import (
	"bytes"
	"slices"
	"sync"
	"testing"
)

// mustEqual checks that the target's medium is the source.
func mustEqual(t testing.TB, source, target *memory) {
	t.Helper()
	if !bytes.Equal(source.data, target.durable) {
		t.Fatal("the target's medium differs from the source")
	}
}

// Without a verifier nothing is read back; without digests nothing is digested; without a checkpoint nothing is left. The bytes
// are the same each time, and durable, and so are the counts.
func TestModes(t *testing.T) {
	for name, mode := range map[string]func(*Config){
		"all":           func(*Config) {},
		"no verifier":   func(c *Config) { c.Verifier = nil },
		"no checkpoint": func(c *Config) { c.Checkpoint = nil },
		"neither":       func(c *Config) { c.Checkpoint, c.Verifier = nil, nil },
		"no digests":    func(c *Config) { c.Checkpoint, c.Verifier, c.NoDigests = nil, nil, true },
	} {
		for _, hole := range []int64{0, 4096} {
			source, target, _, _, conf := faultPair(t)
			source.hole = hole
			mode(&conf)
			if err := Copy(t.Context(), source, target, conf); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			mustEqual(t, source, target)
			if conf.Checkpoint != nil {
				mustBeCopied(t, source, target, conf.Checkpoint)
			}
			s := conf.Progress.Snapshot()
			s.BytesPerSecond, s.Started = 0, conf.Progress.now.Started
			want := ProgressSnapshot{
				Phase: PhaseDone, TotalBytes: conf.VolumeSize, VerifiedBytes: conf.VolumeSize, Started: s.Started,
				ZeroBytes: 34 * 4096, SentBytes: 30*4096 + 512, DataChunks: 31, ZeroChunks: 34,
			}
			if s != want {
				t.Errorf("%s: progress %+v, want %+v", name, s, want)
			}
		}
	}
}

// Space that is to be kept is asked for as such, for holes and for zeroes that were read.
func TestPreallocate(t *testing.T) {
	for _, hole := range []int64{0, 4096} {
		source, target, c, _, conf := faultPair(t)
		source.hole, target.keeps, conf.Preallocate = hole, true, true
		if err := Copy(t.Context(), source, target, conf); err != nil {
			t.Fatal(err)
		}
		mustBeCopied(t, source, target, c)
		if target.zeroCalls == 0 {
			t.Error("no requests for zeroes")
		}
	}
}

// What a source calls holes, and is none, is copied if it is to be read.
func TestReadHolesOfALiar(t *testing.T) {
	source, target, c, _, conf := faultPair(t)
	conf.ReadHoles = true
	source.hook = func(op string, _, _ int64, _ []byte) error {
		if op == "extents" {
			t.Error("asked for the extents")
		}
		return nil
	}
	if err := Copy(t.Context(), falseHoles{source}, target, conf); err != nil {
		t.Fatal(err)
	}
	mustBeCopied(t, source, target, c)
}

// sums adds up what it is told.
type sums struct {
	mu    sync.Mutex
	count int
	total float64
}

func (s *sums) Observe(seconds float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	s.total += seconds
}

// Observers are told of each step that there is, and of none that there is not.
func TestObserversOfModes(t *testing.T) {
	for name, test := range map[string]struct {
		mode func(*Config)
		want [6]bool // read, write, zero, flush, verify, append
	}{
		"all":         {func(*Config) {}, [6]bool{true, true, true, true, true, true}},
		"no verifier": {func(c *Config) { c.Verifier = nil }, [6]bool{true, true, true, true, false, true}},
		"zero":        {func(c *Config) { c.Verifier, c.TargetIsZero = nil, true }, [6]bool{true, true, false, true, false, true}},
		"none":        {func(c *Config) { c.Observers = Observers{} }, [6]bool{}},
	} {
		source, target, _, _, conf := faultPair(t)
		var s [6]sums
		conf.Observers = Observers{Read: &s[0], Write: &s[1], Zero: &s[2], Flush: &s[3], Verify: &s[4], Append: &s[5]}
		test.mode(&conf)
		if err := Copy(t.Context(), source, target, conf); err != nil {
			t.Fatal(err)
		}
		var got [6]bool
		for i := range s {
			got[i] = s[i].count > 0
			if s[i].total < 0 || s[i].total > 60 {
				t.Errorf("%s: %v seconds", name, s[i].total)
			}
		}
		if got != test.want {
			t.Errorf("%s: observed %v, want %v", name, got, test.want)
		}
	}
}

// Chunks that the target holds are told apart in a copy that compares: zeroes are zeroes, the rest is skipped.
func TestProgressOfCompare(t *testing.T) {
	source, target, c, _, conf := faultPair(t)
	copy(target.data, source.data)
	target.fill(5*4096, 4096, 9)
	target.fill(30*4096, 4096, 9)
	target.crashless()
	conf.Compare = true
	var log []string
	target.hook = func(op string, off, _ int64, _ []byte) error {
		if op != "sync" {
			log = append(log, op)
		}
		return nil
	}
	conf.Workers = 1
	if err := Copy(t.Context(), source, target, conf); err != nil {
		t.Fatal(err)
	}
	mustBeCopied(t, source, target, c)
	s := conf.Progress.Snapshot()
	if s.SentBytes != 4096 || s.SkippedBytes != 29*4096+512 || s.ZeroBytes != 34*4096 || s.Mismatches != 0 {
		t.Errorf("progress %+v", s)
	}
	slices.Sort(log)
	if !slices.Equal(log, []string{"extents", "write", "zero"}) {
		t.Errorf("the target was asked for %v", log)
	}
}

// A target that is called zeroes and is not is found by reading back; all is compared once more then, and what the chunks are
// is counted once.
func TestProgressOfAnotherRound(t *testing.T) {
	source, target, _, _, conf := faultPair(t)
	clear(target.data)
	target.fill(40*4096, 4096, 9) // where the source has a hole
	target.crashless()
	conf.Checkpoint, conf.TargetIsZero = nil, true
	if err := Copy(t.Context(), source, target, conf); err != nil {
		t.Fatal(err)
	}
	mustEqual(t, source, target)
	s := conf.Progress.Snapshot()
	if s.SentBytes != 31*4096+512 || s.ZeroBytes != 34*4096 || s.SkippedBytes != 0 || s.DataChunks != 31 || s.ZeroChunks != 34 ||
		s.Mismatches != 1 || s.VerifiedBytes != conf.VolumeSize {
		t.Errorf("progress %+v", s)
	}
}
