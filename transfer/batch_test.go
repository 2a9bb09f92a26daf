package transfer

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// testBatch is a batch of so many chunks, all of which differ, some of them bad.
func testBatch(first int64, bad []bool) *batch {
	p := newData(first, int64(len(bad)))
	for i := range p.digests {
		p.digests[i] = Digest{byte(first + int64(i)), 1}
	}
	if slices.Contains(bad, true) {
		p.bad = slices.Clone(bad)
	}
	return &batch{parts: []*part{p}, data: p.count, slots: 1}
}

// Property: what merged batches have to record are the chunks that are not bad, with their own digests, in order; and a chunk that is spoiled takes all behind it along.
func TestBatchRuns(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var z zeroDigests
		first := rapid.Int64Range(0, 10).Draw(rt, "first")
		var b *batch
		var bad []bool
		for range rapid.IntRange(1, 5).Draw(rt, "batches") {
			more := rapid.SliceOfN(rapid.Bool(), 1, 9).Draw(rt, "bad")
			if rapid.Bool().Draw(rt, "good") {
				clear(more)
			}
			next := testBatch(first+int64(len(bad)), more)
			bad = append(bad, more...)
			if b == nil {
				b = next
			} else {
				b.merge(next)
			}
		}
		n := int64(len(bad))
		if b.first() != first || b.end() != first+n || b.data != n || b.digests() != int(n) {
			rt.Fatalf("merged: %+v", b)
		}
		if rapid.Bool().Draw(rt, "spoil") {
			chunk := rapid.Int64Range(0, n-1).Draw(rt, "chunk")
			b.spoil(first+chunk, &z)
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
			if i > 0 && r.First < runs[i-1].End() {
				rt.Fatalf("runs %d and %d overlap", i-1, i)
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
			chunk := first + int64(i)
			if p := b.at(chunk); p.isBad(chunk-p.first) != is {
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

// A part keeps what the target is known to hold: nothing without such knowledge, and not what is other data now.
func TestPartKeep(t *testing.T) {
	b := testBatch(0, make([]bool, 3)).parts[0]
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
	b := testBatch(0, make([]bool, 3))
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

// A hole is one part, which keeps nothing for each chunk until somebody looks at one.
func TestPartHole(t *testing.T) {
	g := small(20*4096 + 512)
	z := g.zeroDigests()
	p := newHole(10, 11)
	if !p.hole() || p.end() != 21 || p.digest(20, &z) != g.ZeroDigest(512) || p.digest(10, &z) != g.ZeroDigest(4096) {
		t.Errorf("hole %+v", p)
	}
	if n := p.zeroRun(3, 5, &z); n != 5 {
		t.Errorf("%d chunks to make zeroes, want 5", n)
	}
	if n := p.zeroRun(8, 5, &z); n != 3 {
		t.Errorf("%d chunks to make zeroes at the end, want 3", n)
	}
	added, unread := p.counts(g, &z)
	if added.bytes != 10*4096+512 || added.zeroBytes != added.bytes || added.zeroChunks != 11 || unread {
		t.Errorf("counts %+v", added)
	}
	if runs := p.runs(nil); len(runs) != 1 || !runs[0].Zero || runs[0].First != 10 || runs[0].Count != 11 {
		t.Errorf("runs %+v", runs)
	}
	whole := *p
	whole.expand(&z)
	if again, _ := whole.counts(g, &z); again != added || whole.hole() || whole.zeroRun(0, 100, &z) != 11 {
		t.Errorf("expanded: %+v", again)
	}
	p.chooseNone()
	if p.zeroRun(0, 5, &z) != 0 {
		t.Error("zeroes for a hole that is not chosen")
	}
}
