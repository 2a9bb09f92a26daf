package transfer

import (
	"testing"

	"pgregory.net/rapid"
)

// Property: a stretch is cut into batches that cover it, of at most so many chunks of data, and none is shorter than it
// has to be.
func TestPlanCuts(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := copier{Config: Config{batch: rapid.Int64Range(1, 50).Draw(rt, "batch")}}
		var data []bool
		for range rapid.IntRange(1, 6).Draw(rt, "stretches") {
			n := rapid.SampledFrom([]int{1, 7, 49, 50, 51, 5000}).Draw(rt, "n")
			for read := rapid.Bool().Draw(rt, "read"); n > 0; n-- {
				data = append(data, read)
			}
		}
		for len(data) > 0 {
			n := c.cut(data)
			reads := int64(0)
			for _, read := range data[:n] {
				if read {
					reads++
				}
			}
			if n < 1 || reads > c.batch {
				rt.Fatalf("a batch of %d chunks with %d of data", n, reads)
			}
			if data = data[n:]; len(data) > 0 && (reads < c.batch || !data[0]) {
				rt.Fatalf("a batch of %d chunks with %d of data, and room for the next", n, reads)
			}
		}
	})
}

// Windows: what lies beside one another in two of them is copied as anything else, in Compare, in a resumed copy and with a
// manifest too.
func TestPlanWindows(t *testing.T) {
	g := small((2*windowChunks + 5) * 4096)
	for _, compare := range []bool{false, true} {
		source, target := newHuge(t, g), newHuge(t, g)
		for _, chunk := range []int64{0, windowChunks - 1, windowChunks, 2*windowChunks - 1, 2 * windowChunks, g.Chunks() - 1} {
			source.set(chunk, uint64(chunk)+1)
		}
		c, _ := create(t, g)
		resumed := []Run{{First: windowChunks - 10, Count: 5, Zero: true}}
		if err := c.Append(resumed); err != nil {
			t.Fatal(err)
		}
		conf := Config{Geometry: g, Checkpoint: c, Verifier: target, Compare: compare}
		if !compare {
			conf = sinceOf(t, conf, manifestOf(t, newHuge(t, g), g))
		}
		if err := Copy(t.Context(), source, target, conf); err != nil {
			t.Fatal(err)
		}
		if err := checkHugeRoot(source, c); err != nil {
			t.Error(err)
		}
		if !c.Complete() || len(target.in(0, g.Chunks())) != 6 {
			t.Errorf("compare %v: complete %v, chunks %v", compare, c.Complete(), target.in(0, g.Chunks()))
		}
		if !compare && target.zeroes.Load() != 0 {
			t.Errorf("%d requests for zeroes that the manifest has", target.zeroes.Load())
		}
	}
}
