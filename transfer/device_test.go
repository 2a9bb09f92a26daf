package transfer

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/cvold/cvold/dataplane"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a device in memory with a cache: what was written is on the medium only after a Sync. It checks the contract
// that its caller must keep.
type memory struct {
	t    testing.TB
	info dataplane.Info
	hole int64 // granularity in which Extents finds zeroes; 0: all data
	// keeps its space: requests for zeroes must not make holes. Else they must.
	keeps bool

	mu            sync.Mutex
	data, durable []byte
	failed        error // sticky, of Sync
	zeroCalls     int
	written       int64 // bytes through WriteAt
	read          int64

	// hook is called before each operation: "read", "write", "zero", "sync", "extents". Its error is the answer. It may
	// change p of a write, for this device only.
	hook func(op string, off, n int64, p []byte) error
}

func newMemory(t testing.TB, size int64) *memory {
	return &memory{t: t, info: dataplane.Info{MinBlock: 512, PreferredBlock: 4096}, hole: 4096,
		data: make([]byte, size), durable: make([]byte, size)}
}

func (m *memory) check(op string, off, n int64, p []byte) error {
	if err := dataplane.CheckRange(off, n, int64(len(m.data)), m.info.MinBlock); err != nil {
		m.t.Errorf("%s: %v", op, err)
		return err
	}
	if m.info.MaxBlock > 0 && p != nil && n > m.info.MaxBlock {
		m.t.Errorf("%s of %d bytes, at most %d", op, n, m.info.MaxBlock)
	}
	if m.hook != nil {
		return m.hook(op, off, n, p)
	}
	return nil
}

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	if err := m.check("read", off, int64(len(p)), p); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.read += int64(len(p))
	return copy(p, m.data[off:]), nil
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	p = bytes.Clone(p)
	if err := m.check("write", off, int64(len(p)), p); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.written += int64(len(p))
	return copy(m.data[off:], p), nil
}

func (m *memory) ZeroAt(off, n int64, mode dataplane.ZeroMode) error {
	if err := m.check("zero", off, n, nil); err != nil {
		return err
	}
	if mode.MayUnmap == m.keeps || mode.FastOnly {
		m.t.Errorf("zero with %+v", mode)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.zeroCalls++
	clear(m.data[off : off+n])
	return nil
}

func (m *memory) Sync() error {
	err := m.check("sync", 0, 0, nil)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed == nil {
		m.failed = err
	}
	if m.failed != nil {
		return m.failed
	}
	copy(m.durable, m.data)
	return nil
}

// crash drops what was not synced.
func (m *memory) crash() {
	copy(m.data, m.durable)
	m.failed = nil
}

func (m *memory) Extents(ctx context.Context, off, n int64, fn func(dataplane.Extent) error) error {
	if err := m.check("extents", off, n, nil); err != nil {
		return err
	}
	if m.hole == 0 {
		return dataplane.AllData(ctx, off, n, fn)
	}
	for end := off + n; off < end; {
		x := dataplane.Extent{Offset: off, Length: min(m.hole, end-off)}
		m.mu.Lock()
		x.Zero = isZero(m.data[x.Offset:x.End()])
		m.mu.Unlock()
		if err := fn(x); err != nil {
			return err
		}
		off = x.End()
	}
	return ctx.Err()
}

func (m *memory) Size() (int64, error)       { return int64(len(m.data)), nil }
func (m *memory) Info() dataplane.Info       { return m.info }
func (m *memory) Discard(off, n int64) error { return m.check("discard", off, n, nil) }
func (m *memory) Close() error               { return nil }

// fill writes a pattern that no two words share; off and n are multiples of 8.
func (m *memory) fill(off, n int64, seed uint64) {
	x := seed*0x9E3779B97F4A7C15 + 1
	for p := m.data[off : off+n]; len(p) > 0; p = p[8:] {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		binary.NativeEndian.PutUint64(p, x)
	}
}

// unreadable is a hook: reads that touch one of the ranges fail.
func unreadable(ranges ...ErrorRange) func(string, int64, int64, []byte) error {
	return func(op string, off, n int64, _ []byte) error {
		for _, r := range ranges {
			if op == "read" && off < r.End() && r.Offset < off+n {
				return dataplane.ErrIO
			}
		}
		return nil
	}
}

// medium reads what is durable on a device, like a verifier on the target's node.
type medium struct{ *memory }

func (m medium) ReadAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return copy(p, m.durable[off:]), nil
}

func (m medium) Extents(ctx context.Context, off, n int64, fn func(dataplane.Extent) error) error {
	return dataplane.AllData(ctx, off, n, fn)
}

// small is a geometry that makes many chunks of few bytes.
func small(size int64) Geometry {
	return Geometry{VolumeSize: size, ChunkSize: MinChunkSize, Algorithm: XXH3_128}
}

func testHeader(g Geometry) CheckpointHeader {
	return CheckpointHeader{Geometry: g, TransferID: [16]byte{1, 2, 3, 15: 16},
		SourceIdentity: "source-object", TargetIdentity: "target-object", Generation: 7}
}

// memoryDir is a directory in memory, where a flush costs nothing; on disk where there is none.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "transfer")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func create(t testing.TB, g Geometry) (*Checkpoint, string) {
	t.Helper()
	dir := memoryDir(t)
	if g.Chunks() > 1<<20 {
		dir = t.TempDir() // reserves much room
	}
	path := filepath.Join(dir, "checkpoint")
	c, err := CreateCheckpoint(path, testHeader(g))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // a test may have closed it
	return c, path
}

func reopen(t testing.TB, c *Checkpoint, path string) *Checkpoint {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := OpenCheckpoint(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// naiveRoot computes the root in the plainest way: from all bytes.
func naiveRoot(t testing.TB, g Geometry, data []byte) Root {
	t.Helper()
	h := NewRootHash(g)
	for i := range g.Chunks() {
		off, n := g.Range(i)
		if err := h.Add(Run{First: i, Count: 1, Digests: []Digest{g.Sum(data[off : off+n])}}); err != nil {
			t.Fatal(err)
		}
	}
	root, err := h.Sum()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// mustBeCopied checks all that a successful Copy promises.
func mustBeCopied(t testing.TB, source, target *memory, c *Checkpoint) {
	t.Helper()
	n := c.Header().VolumeSize
	if !bytes.Equal(source.data[:n], target.durable[:n]) {
		t.Fatal("target's medium differs from the source")
	}
	if !c.Complete() || c.VerifiedBytes() != n {
		t.Fatalf("checkpoint: complete %v, %d bytes of %d", c.Complete(), c.VerifiedBytes(), n)
	}
	root, err := c.Root()
	if err != nil {
		t.Fatal(err)
	}
	if want := naiveRoot(t, c.Header().Geometry, source.data[:n]); root != want {
		t.Fatalf("root %v, naive %v", root, want)
	}
}

func fullDisk(*os.File) error { return syscall.ENOSPC }
