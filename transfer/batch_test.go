package transfer

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// testBatch is a batch of so many chunks, all of which differ, some of them bad.
func testBatch(g Geometry, first int64, bad []bool) *batch {
	z := g.zeroDigests()
	b := newBatch(first, all(int64(len(bad))), &z)
	for i := range b.digests {
		b.digests[i] = Digest{byte(first + int64(i)), 1}
	}
	if slices.Contains(bad, true) {
		b.bad = slices.Clone(bad)
	}
	return b
}

// Property: what merged batches have to record are the chunks that are not bad, with their own digests, in order, in as few runs
// as that takes; and a chunk that is spoiled takes all behind it along.
func TestBatchRuns(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		g := small(100 * 4096)
		first := rapid.Int64Range(0, 10).Draw(rt, "first")
		var b *batch
		var bad []bool
		for range rapid.IntRange(1, 5).Draw(rt, "batches") {
			more := rapid.SliceOfN(rapid.Bool(), 1, 9).Draw(rt, "bad")
			if rapid.Bool().Draw(rt, "good") {
				clear(more)
			}
			next := testBatch(g, first+int64(len(bad)), more)
			bad = append(bad, more...)
			if b == nil {
				b = next
			} else {
				b.merge(next)
			}
		}
		n := int64(len(bad))
		if b.first != first || b.end() != first+n || b.data != n || int64(len(b.chosen)) != n || int64(len(b.held)) != n {
			rt.Fatalf("merged: %+v", b)
		}
		if rapid.Bool().Draw(rt, "spoil") {
			chunk := rapid.Int64Range(0, n-1).Draw(rt, "chunk")
			b.spoil(first + chunk)
			for i := chunk; i < n; i++ {
				bad[i] = true
			}
		}
		var got []int64
		runs := b.runs()
		for i, r := range runs {
			if err := r.Validate(); err != nil {
				rt.Fatal(err)
			}
			if i > 0 && r.First <= runs[i-1].End() {
				rt.Fatalf("runs %d and %d touch", i-1, i)
			}
			for chunk := r.First; chunk < r.End(); chunk++ {
				if r.digest(chunk, nil) != (Digest{byte(chunk), 1}) {
					rt.Fatalf("chunk %d has another one's digest", chunk)
				}
				got = append(got, chunk)
			}
		}
		var want []int64
		for i, is := range bad {
			if b.isBad(i) != is {
				rt.Fatalf("chunk %d: bad %v", i, !is)
			}
			if !is {
				want = append(want, first+int64(i))
			}
		}
		if !slices.Equal(got, want) {
			rt.Fatalf("chunks %v, want %v", got, want)
		}
	})
}

// A batch keeps what the target is known to hold: nothing without such knowledge, and not what is other data now.
func TestBatchKeep(t *testing.T) {
	b := testBatch(small(10*4096), 0, make([]bool, 3))
	if b.keep(0) {
		t.Error("kept without a base")
	}
	b.base = slices.Clone(b.digests)
	b.base[1] = Digest{9}
	for i, want := range []bool{true, false, true} {
		if b.keep(int64(i)) != want || b.chosen[i] == want || b.held[i] != want {
			t.Errorf("chunk %d: chosen %v, held %v", i, b.chosen[i], b.held[i])
		}
	}
}

// A batch waits for all of its jobs and has the first error of any.
func TestBatchWaits(t *testing.T) {
	b := testBatch(small(10*4096), 0, make([]bool, 3))
	if !b.idle() || b.wait() != nil {
		t.Error("a batch without jobs")
	}
	const jobs = 50
	for range jobs {
		b.add()
	}
	if b.idle() {
		t.Error("idle with jobs")
	}
	broken := errors.New("broken")
	b.done(broken)
	var g sync.WaitGroup
	for range jobs - 1 {
		g.Go(func() { b.done(errors.New("later")) })
	}
	if err := b.wait(); err != broken || !b.idle() {
		t.Errorf("%v, idle %v", err, b.idle())
	}
	g.Wait()
}
