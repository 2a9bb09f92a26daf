package transfer

import (
	"context"
	"os"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/cvold/cvold/dataplane"
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

// questioned is a source with a file behind it, or none, that notes where it is asked for extents.
type questioned struct {
	dataplane.Device
	file *os.File
	mu   sync.Mutex
	from []int64
}

func (a *questioned) Info() dataplane.Info {
	info := a.Device.Info()
	info.File = a.file
	return info
}

func (a *questioned) Extents(ctx context.Context, off, n int64, fn func(dataplane.Extent) error) error {
	a.mu.Lock()
	a.from = append(a.from, off)
	a.mu.Unlock()
	return a.Device.Extents(ctx, off, n, fn)
}

// A file is read before it has looked for its holes, unless that would count against a limit; it makes no difference to what
// comes of it, and a file without that many chunks is not asked at all.
func TestPlanBeforeExtents(t *testing.T) {
	const unasked = unaskedBytes / DefaultChunkSize
	limiter := limiterFunc(func(ctx context.Context, _ int) error { return ctx.Err() })
	for _, test := range []struct {
		chunks  int64
		file    *os.File
		limiter Limiter
		want    []int64
	}{
		{unasked + 40, os.Stdin, nil, []int64{unaskedBytes}},
		{unasked + 40, os.Stdin, limiter, []int64{0}},
		{unasked + 40, nil, nil, []int64{0}},
		{unasked / 2, os.Stdin, nil, nil},
	} {
		g := Geometry{VolumeSize: test.chunks * DefaultChunkSize, ChunkSize: DefaultChunkSize, Algorithm: XXH3_128}
		huge, target := newHuge(t, g), newHuge(t, g)
		for _, chunk := range []int64{3, unasked / 2, test.chunks - 1} {
			huge.set(chunk, uint64(chunk)+1)
		}
		source := &questioned{Device: huge, file: test.file}
		c, _ := create(t, g)
		conf := Config{Geometry: g, Checkpoint: c, Verifier: target, Limiter: test.limiter, Progress: new(Progress)}
		if err := Copy(t.Context(), source, target, conf); err != nil {
			t.Fatal(err)
		}
		if err := checkHugeRoot(huge, c); err != nil {
			t.Error(err)
		}
		if !slices.Equal(source.from, test.want) {
			t.Errorf("%d chunks: extents asked from %v, want %v", test.chunks, source.from, test.want)
		}
		if s := conf.Progress.Snapshot(); s.SentBytes+s.ZeroBytes != g.VolumeSize || target.zeroes.Load() != 0 {
			t.Errorf("%d chunks: %+v, %d zeroes written", test.chunks, s, target.zeroes.Load())
		}
	}
}
