package transfer

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cvold/cvold/dataplane"
)

// huge is a device of any size that remembers a seed or a digest for each chunk that is not zero. It verifies itself.
type huge struct {
	t        testing.TB
	geometry Geometry
	reads    atomic.Int64
	zeroes   atomic.Int64
	hook     func()

	mu      sync.Mutex
	chunks  map[int64]Digest // as a source: the seed in the first 8 bytes
	highest uint64           // heap in use, sampled
}

func newHuge(t testing.TB, g Geometry) *huge {
	return &huge{t: t, geometry: g, chunks: make(map[int64]Digest)}
}

func (h *huge) set(chunk int64, seed uint64) {
	var d Digest
	binary.BigEndian.PutUint64(d[:], seed)
	h.chunks[chunk] = d
}

func (h *huge) get(chunk int64) (Digest, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d, ok := h.chunks[chunk]
	return d, ok
}

func (h *huge) call() {
	if h.hook != nil {
		h.hook()
	}
}

func (h *huge) ReadAt(p []byte, off int64) (int, error) {
	h.call()
	if h.reads.Add(1)%64 == 0 {
		h.sample()
	}
	clear(p)
	for i := 0; i+maxDigestSize <= len(p); i += 4096 {
		if seed, ok := h.get((off + int64(i)) / h.geometry.ChunkSize); ok {
			copy(p[i:], seed[:])
		}
	}
	return len(p), nil
}

func (h *huge) sample() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.highest = max(h.highest, m.HeapInuse)
}

func (h *huge) WriteAt(p []byte, off int64) (int, error) {
	h.call()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.chunks[off/h.geometry.ChunkSize] = h.geometry.Sum(p)
	return len(p), nil
}

func (h *huge) ZeroAt(off, n int64, _ dataplane.ZeroMode) error {
	h.call()
	h.zeroes.Add(1)
	if n > maxZero {
		h.t.Errorf("one request for %d bytes of zeroes", n)
	}
	return nil
}

// in returns the chunks from first to end that are set, in order.
func (h *huge) in(first, end int64) (chunks []int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.chunks {
		if i >= first && i < end {
			chunks = append(chunks, i)
		}
	}
	slices.Sort(chunks)
	return chunks
}

// Extents reports each chunk that is set as data which ends short of the chunk's end, in a hole.
func (h *huge) Extents(ctx context.Context, off, n int64, fn func(dataplane.Extent) error) error {
	size := h.geometry.ChunkSize
	hole := func(end int64) error {
		if end == off {
			return nil
		}
		return fn(dataplane.Extent{Offset: off, Length: end - off, Zero: true})
	}
	end := off + n
	for _, i := range h.in(off/size, (end+size-1)/size) {
		if err := hole(i * size); err != nil {
			return err
		}
		data := dataplane.Extent{Offset: i * size, Length: size - 512}
		if err := fn(data); err != nil {
			return err
		}
		off = data.End()
	}
	if err := hole(end); err != nil {
		return err
	}
	return ctx.Err()
}

func (h *huge) Digests(_ context.Context, first, count int64) ([]Run, error) {
	var runs []Run
	end := first + count
	for _, i := range h.in(first, end) {
		if i > first {
			runs = append(runs, Run{First: first, Count: i - first, Zero: true})
		}
		d, _ := h.get(i)
		runs = append(runs, Run{First: i, Count: 1, Digests: []Digest{d}})
		first = i + 1
	}
	if first < end {
		runs = append(runs, Run{First: first, Count: end - first, Zero: true})
	}
	return runs, nil
}

func (h *huge) Sync() error                { h.call(); return nil }
func (h *huge) Size() (int64, error)       { return h.geometry.VolumeSize, nil }
func (h *huge) Info() dataplane.Info       { return dataplane.Info{MinBlock: 512} }
func (h *huge) Discard(int64, int64) error { return nil }
func (h *huge) Close() error               { return nil }

// 16 TiB of holes with data scattered over all of it: bounded memory, few requests for zeroes, no chunk read for nothing.
func TestCopyHugeSparseVolume(t *testing.T) {
	g, data := NewGeometry(16<<40), int64(1024)
	if raceEnabled || testing.Short() {
		g, data = NewGeometry(1<<40), 64
	}
	source, target := newHuge(t, g), newHuge(t, g)
	step := g.Chunks() / data
	for i := range data {
		source.set(i*step+i%step, uint64(i)+1)
	}
	c, path := create(t, g)
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	source.sample()
	err := Copy(t.Context(), source, target, Config{Geometry: g, Checkpoint: c, Verifier: target})
	if err != nil {
		t.Fatal(err)
	}
	if source.reads.Load() != data {
		t.Errorf("%d chunks read, %d hold data", source.reads.Load(), data)
	}
	if most := 2 * (g.VolumeSize/maxZero + data); target.zeroes.Load() > most {
		t.Errorf("%d requests for zeroes, want at most %d", target.zeroes.Load(), most)
	}
	const bound = DefaultInFlight * 3 / 2 // and what records and garbage take
	if grown := int64(source.highest) - int64(before.HeapInuse); grown > bound {
		t.Errorf("memory grew by %d MiB", grown>>20)
	}
	c = reopen(t, c, path)
	if !c.Complete() || len(c.verified) > 8 {
		t.Errorf("complete %v, %d intervals", c.Complete(), len(c.verified))
	}
	if err := checkHugeRoot(source, c); err != nil {
		t.Error(err)
	}
}

// checkHugeRoot computes the root from the source's side alone.
func checkHugeRoot(source *huge, c *Checkpoint) error {
	g := source.geometry
	h := NewRootHash(g)
	buf := make([]byte, g.ChunkSize)
	next := int64(0)
	for _, i := range source.in(0, g.Chunks()) {
		if i > next {
			if err := h.Add(Run{First: next, Count: i - next, Zero: true}); err != nil {
				return err
			}
		}
		if _, err := source.ReadAt(buf, i*g.ChunkSize); err != nil {
			return err
		}
		if err := h.Add(Run{First: i, Count: 1, Digests: []Digest{g.Sum(buf)}}); err != nil {
			return err
		}
		next = i + 1
	}
	if next < g.Chunks() {
		if err := h.Add(Run{First: next, Count: g.Chunks() - next, Zero: true}); err != nil {
			return err
		}
	}
	want, err := h.Sum()
	if err != nil {
		return err
	}
	if got, err := c.Root(); err != nil || got != want {
		return fmt.Errorf("root %v, %v; want %v", got, err, want)
	}
	return nil
}
