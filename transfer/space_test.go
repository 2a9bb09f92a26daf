package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/cvold/cvold/dataplane"
)

// space is one point of all that a Config can say, and of what can happen meanwhile: what TestCopySpace draws.
type space struct {
	source, target *memory
	conf           Config
	path           string // of the checkpoint; empty: there is none, or a volatile one
	manifest       []byte // for Since
	flaky          bool   // requests fail as often as they are retried
	cancel         func() // ends the Copy that runs
}

// drawSpace draws devices and a configuration that fit together.
func drawSpace(t *testing.T, rt *rapid.T) *space {
	block := rapid.SampledFrom([]int64{1, 512, 4096}).Draw(rt, "block")
	units := max(block/8, 1) // sizes need not be whole blocks
	g := Geometry{VolumeSize: rapid.Int64Range(0, 400<<10).Draw(rt, "size") / units * units,
		ChunkSize: rapid.SampledFrom([]int64{4096, 8192, 65536, DefaultChunkSize}).Draw(rt, "chunk"),
		Algorithm: rapid.SampledFrom([]Algorithm{XXH3_128, BLAKE3}).Draw(rt, "algorithm")}
	size := (g.VolumeSize + 4095) / 4096 * 4096
	s := &space{source: newMemory(t, size), target: newMemory(t, size)}
	for _, d := range []*memory{s.source, s.target} {
		d.info = dataplane.Info{MinBlock: block, MaxBlock: rapid.SampledFrom([]int64{0, 4096, 12288}).Draw(rt, "most")}
	}
	s.source.hole = rapid.SampledFrom([]int64{0, 4096, 12288}).Draw(rt, "hole")
	scribble(rt, s.source)
	s.conf = Config{
		Geometry: g, Progress: new(Progress),
		Workers:     rapid.IntRange(0, 6).Draw(rt, "workers"),
		InFlight:    rapid.SampledFrom([]int64{0, 1, 1 << 20}).Draw(rt, "memory"),
		RequestSize: rapid.SampledFrom([]int64{0, 4096}).Draw(rt, "request"),
		Preallocate: rapid.Bool().Draw(rt, "preallocate"),
		ReadHoles:   rapid.Bool().Draw(rt, "holes"),
		Retries:     rapid.IntRange(0, 3).Draw(rt, "retries"),
		batch:       rapid.Int64Range(0, 9).Draw(rt, "batch"),
	}
	s.target.keeps = s.conf.Preallocate
	s.drawRecord(t, rt)
	s.drawTarget(t, rt)
	s.flaky = rapid.Bool().Draw(rt, "flaky")
	s.source.hook, s.target.hook = s.fails(), s.fails()
	return s
}

// scribble writes data and zeroes somewhere.
func scribble(rt *rapid.T, d *memory) {
	size := int64(len(d.data))
	for range rapid.IntRange(0, 5).Draw(rt, "writes") {
		off := rapid.Int64Range(0, size/8).Draw(rt, "off") * 8
		n := rapid.Int64Range(0, (size-off)/8).Draw(rt, "n") * 8
		if d.fill(off, n, rapid.Uint64().Draw(rt, "seed")); rapid.Bool().Draw(rt, "clear") {
			clear(d.data[off : off+n])
		}
	}
}

// drawRecord draws what becomes of the digests.
func (s *space) drawRecord(t testing.TB, rt *rapid.T) {
	switch rapid.SampledFrom([]string{"checkpoint", "volatile", "forgetful", "no digests"}).Draw(rt, "record") {
	case "checkpoint":
		s.conf.Checkpoint, s.path = create(t, s.conf.Geometry)
	case "volatile":
		c, err := NewVolatileCheckpoint("", testHeader(s.conf.Geometry))
		if err != nil {
			rt.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		s.conf.Checkpoint = c
	case "no digests":
		s.conf.NoDigests = true
		return
	}
	if rapid.Bool().Draw(rt, "verified") {
		s.conf.Verifier = NewVerifier(medium{s.target}, s.conf.Geometry)
		s.conf.Compare = rapid.Bool().Draw(rt, "compare")
	}
}

// drawTarget draws what is on the target, and what is said of that: the truth, where nothing is read back.
func (s *space) drawTarget(t testing.TB, rt *rapid.T) {
	switch said := rapid.SampledFrom([]string{"nothing", "zero", "manifest"}).Draw(rt, "said"); {
	case said == "manifest" && !s.conf.NoDigests:
		scribble(rt, s.target)
		s.manifest = manifestOf(t, s.target, s.conf.Geometry)
	case said == "zero":
		s.conf.TargetIsZero = true
	default:
		s.target.fill(0, int64(len(s.target.data)), 99)
	}
	if s.conf.Verifier != nil && rapid.Bool().Draw(rt, "lies") {
		scribble(rt, s.target)
	}
	s.target.crashless()
}

// fails is a hook: of a chunk, reads, writes and requests for zeroes fail as often as they may.
func (s *space) fails() func(string, int64, int64, []byte) error {
	var mu sync.Mutex
	failed := make(map[string]int)
	return func(op string, off, _ int64, _ []byte) error {
		mu.Lock()
		defer mu.Unlock()
		at := fmt.Sprint(op, off/s.conf.ChunkSize)
		if !s.flaky || op == "sync" || op == "extents" || failed[at] == s.conf.Retries {
			return nil
		}
		failed[at]++
		return dataplane.ErrIO
	}
}

// copy is one Copy of the space, with its manifest read anew. Pauses take no time.
func (s *space) copy(t *testing.T) (err error) {
	conf := s.conf
	if s.manifest != nil {
		conf = sinceOf(t, conf, s.manifest)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s.cancel = cancel
		err = Copy(ctx, s.source, s.target, conf)
	})
	return err
}

// interrupt has one of the first copies end early: by a device that fails for good, or by ctx.
func (s *space) interrupt(t *testing.T, rt *rapid.T) {
	stop, byContext := rapid.Int64Range(1, 60).Draw(rt, "stop"), rapid.Bool().Draw(rt, "cancel")
	var calls atomic.Int64
	dead := errors.New("dead")
	hook := func(string, int64, int64, []byte) error {
		switch {
		case calls.Add(1) < stop:
		case byContext:
			s.cancel()
		default:
			return dead
		}
		return nil
	}
	s.source.hook, s.target.hook = hook, hook
	if err := s.copy(t); err != nil && !errors.Is(err, dead) && !errors.Is(err, context.Canceled) {
		rt.Fatal(err)
	}
	s.source.hook, s.target.hook = s.fails(), s.fails()
	if s.target.failed != nil { // its flush: opened anew, it has lost what was in its cache
		s.target.crash()
	}
	if s.path != "" {
		s.conf.Checkpoint = reopen(t, s.conf.Checkpoint, s.path)
	}
	for i := range s.conf.Chunks() {
		off, n := s.conf.Range(i)
		if c := s.conf.Checkpoint; c != nil && c.Verified(i) && !bytes.Equal(s.source.data[off:off+n], s.target.durable[off:off+n]) {
			rt.Fatalf("chunk %d is called verified and is not on the medium", i)
		}
	}
}

// Property: whatever a Config says, on whatever devices, after whatever interruptions, the target's medium is the source in the
// end, the root is the naive one, and the counts add up.
func TestCopySpace(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := drawSpace(t, rt)
		for range rapid.IntRange(0, 2).Draw(rt, "interruptions") {
			s.interrupt(t, rt)
		}
		before := s.conf.Progress.Snapshot()
		if err := s.copy(t); err != nil {
			rt.Fatal(err)
		}
		n := s.conf.VolumeSize
		if !bytes.Equal(s.source.data[:n], s.target.durable[:n]) {
			rt.Fatal("target's medium differs from the source")
		}
		if s.conf.Checkpoint != nil {
			mustBeCopied(t, s.source, s.target, s.conf.Checkpoint)
		}
		s.mustAddUp(rt, before)
	})
}

// mustAddUp checks the progress of the last copy against that before it.
func (s *space) mustAddUp(rt *rapid.T, before ProgressSnapshot) {
	now := s.conf.Progress.Snapshot()
	if now.Phase != PhaseDone || now.VerifiedBytes != s.conf.VolumeSize || now.TotalBytes != s.conf.VolumeSize || now.ETA != 0 {
		rt.Fatalf("progress %+v", now)
	}
	if s.conf.Compare && now.ResumedBytes != 0 || s.conf.Checkpoint == nil && now.ResumedBytes != 0 {
		rt.Fatalf("resumed what it could not: %+v", now)
	}
	sent, zero, skipped := now.SentBytes-before.SentBytes, now.ZeroBytes-before.ZeroBytes, now.SkippedBytes-before.SkippedBytes
	done := sent + zero + skipped + now.ResumedBytes
	if again := now.Mismatches - before.Mismatches; done < s.conf.VolumeSize || done > s.conf.VolumeSize+again*s.conf.ChunkSize {
		rt.Fatalf("%d sent, %d zero, %d skipped, %d resumed and %d again of %d", sent, zero, skipped, now.ResumedBytes, again, s.conf.VolumeSize)
	}
	chunks := now.DataChunks - before.DataChunks + now.ZeroChunks - before.ZeroChunks
	if resumed := (now.ResumedBytes + s.conf.ChunkSize - 1) / s.conf.ChunkSize; chunks+resumed != s.conf.Chunks() && chunks+resumed != s.conf.Chunks()+1 {
		rt.Fatalf("%d chunks and %d resumed of %d", chunks, resumed, s.conf.Chunks())
	}
}
