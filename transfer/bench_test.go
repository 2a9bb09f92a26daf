package transfer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
)

// plainFile is the simplest device on a file: no holes told.
type plainFile struct {
	*os.File
	size int64
}

func (d plainFile) Size() (int64, error)       { return d.size, nil }
func (d plainFile) Info() dataplane.Info       { return dataplane.Info{MinBlock: 1, PreferredBlock: 4096} }
func (d plainFile) Discard(off, n int64) error { return nil }
func (d plainFile) ZeroAt(off, n int64, _ dataplane.ZeroMode) error {
	return unix.Fallocate(int(d.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}
func (d plainFile) Extents(ctx context.Context, off, n int64, fn func(dataplane.Extent) error) error {
	return dataplane.AllData(ctx, off, n, fn)
}

func newPlainFile(b *testing.B, dir string, size int64, data bool) plainFile {
	b.Helper()
	f, err := os.CreateTemp(dir, "device")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close(); os.Remove(f.Name()) })
	if err := f.Truncate(size); err != nil {
		b.Fatal(err)
	}
	random := rand.NewChaCha8([32]byte{1})
	p := make([]byte, 1<<20)
	for off := int64(0); data && off < size; off += int64(len(p)) {
		_, _ = random.Read(p)
		if _, err := f.WriteAt(p, off); err != nil {
			b.Fatal(err)
		}
	}
	return plainFile{f, size}
}

// BenchmarkCopy copies incompressible data between two files in memory (tmpfs), flush, verification and checkpoint
// included.
func BenchmarkCopy(b *testing.B) {
	dir := b.TempDir()
	if shm, err := os.MkdirTemp("/dev/shm", "transfer"); err == nil {
		dir = shm
		b.Cleanup(func() { os.RemoveAll(shm) })
	}
	const size = 512 << 20
	for _, workers := range []int{1, 2, 4, 8} {
		b.Run(fmt.Sprintf("workers-%d", workers), func(b *testing.B) {
			source, target := newPlainFile(b, dir, size, true), newPlainFile(b, dir, size, true)
			g := NewGeometry(size)
			b.SetBytes(size)
			for b.Loop() {
				c, err := CreateCheckpoint(filepath.Join(dir, "checkpoint"), testHeader(g))
				if err != nil {
					b.Fatal(err)
				}
				conf := Config{Geometry: g, Workers: workers, Checkpoint: c, Verifier: NewVerifier(target, g)}
				if err := Copy(b.Context(), source, target, conf); err != nil {
					b.Fatal(err)
				}
				if err := c.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDigest(b *testing.B) {
	p := make([]byte, DefaultChunkSize)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(p)
	for _, a := range []Algorithm{XXH3_128, BLAKE3} {
		b.Run(a.String(), func(b *testing.B) {
			g := Geometry{Algorithm: a}
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				g.Sum(p)
			}
		})
	}
	b.Run("zero-test", func(b *testing.B) {
		clear(p)
		b.SetBytes(int64(len(p)))
		for b.Loop() {
			isZero(p)
		}
	})
}

func BenchmarkRoot(b *testing.B) {
	g := NewGeometry(1 << 40)
	b.SetBytes(g.Chunks() * int64(g.Algorithm.Size()))
	for b.Loop() {
		h := NewRootHash(g)
		if err := h.Add(Run{First: 0, Count: g.Chunks(), Zero: true}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkScan digests incompressible data of a file in memory (tmpfs), and beside it only reads it, in the same requests
// from as many threads: what no digest can be faster than.
func BenchmarkScan(b *testing.B) {
	const size = 1 << 30
	d := newPlainFile(b, memoryDir(b), size, true)
	for _, workers := range []int{1, 2, 4, 16} {
		for _, chunk := range []int64{4 << 10, 64 << 10, 1 << 20, 32 << 20} {
			g := Geometry{VolumeSize: size, ChunkSize: chunk, Algorithm: XXH3_128}
			b.Run(fmt.Sprintf("workers-%d/chunk-%dK", workers, chunk>>10), func(b *testing.B) {
				b.SetBytes(size)
				for b.Loop() {
					err := ScanWith(b.Context(), d, g, 0, g.Chunks(), ScanOptions{Workers: workers}, func(Run) error { return nil })
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		b.Run(fmt.Sprintf("workers-%d/read-alone", workers), func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				readAlone(b, d, workers)
			}
		})
	}
}

func readAlone(b *testing.B, d plainFile, workers int) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			p := getBuffer(scanBytes)
			defer putBuffer(p)
			for off := next.Add(scanBytes) - scanBytes; off < d.size; off = next.Add(scanBytes) - scanBytes {
				if _, err := d.ReadAt(p, off); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
}
