package transfer

import (
	"fmt"
	"math/bits"
)

const (
	// DefaultChunkSize in bytes: large enough that a request's cost disappears, small enough that a chunk copied again
	// costs nothing.
	DefaultChunkSize = 1 << 20
	// MinChunkSize in bytes: the largest logical block of disks in use, so that chunks are aligned for every device.
	MinChunkSize = 4 << 10
	// MaxChunkSize in bytes: the largest request that NBD servers must expect (NBD protocol, "Size constraints").
	MaxChunkSize = 32 << 20
	// MaxChunks bounds what a checkpoint may cover: 256 TiB in chunks of the default size, 8 PiB in the largest.
	MaxChunks = 1 << 28
)

// Geometry is how a volume is cut into chunks and how they are digested. Chunk i covers the bytes from i*ChunkSize; the
// last one may be shorter.
type Geometry struct {
	// VolumeSize in bytes, at least 0. Volumes are whole sectors, but files that are copied need not be.
	VolumeSize int64 `json:"volume_size"`
	// ChunkSize in bytes: a power of two from MinChunkSize to MaxChunkSize.
	ChunkSize int64     `json:"chunk_size"`
	Algorithm Algorithm `json:"algorithm"`
}

// NewGeometry is the geometry for a volume of that many bytes with the default chunk size and algorithm.
func NewGeometry(volumeSize int64) Geometry {
	return Geometry{VolumeSize: volumeSize, ChunkSize: DefaultChunkSize, Algorithm: XXH3_128}
}

// Validate checks the limits: ErrInvalid.
func (g Geometry) Validate() error {
	switch {
	case g.Algorithm.Size() == 0:
		return fmt.Errorf("%v: %w", g.Algorithm, ErrInvalid)
	case g.ChunkSize < MinChunkSize || g.ChunkSize > MaxChunkSize || bits.OnesCount64(uint64(g.ChunkSize)) != 1:
		return fmt.Errorf("chunk size %d: %w", g.ChunkSize, ErrInvalid)
	case g.VolumeSize < 0 || g.VolumeSize > MaxChunks*g.ChunkSize:
		return fmt.Errorf("volume size %d in chunks of %d: %w", g.VolumeSize, g.ChunkSize, ErrInvalid)
	}
	return nil
}

// Chunks is the number of chunks.
func (g Geometry) Chunks() int64 { return (g.VolumeSize + g.ChunkSize - 1) / g.ChunkSize }

// Range is where a chunk begins and how many bytes it has.
func (g Geometry) Range(chunk int64) (off, n int64) {
	off = chunk * g.ChunkSize
	return off, min(g.ChunkSize, g.VolumeSize-off)
}

// Bytes is the number of bytes in count chunks from first; the range must lie inside the volume.
func (g Geometry) Bytes(first, count int64) int64 {
	return min((first+count)*g.ChunkSize, g.VolumeSize) - first*g.ChunkSize
}

// Sum is the digest of a chunk's bytes.
func (g Geometry) Sum(p []byte) Digest { return g.Algorithm.sum(p) }

// ZeroDigest is the digest of n zero bytes.
func (g Geometry) ZeroDigest(n int64) Digest { return g.Algorithm.sumZeroes(n) }

// check is nil if the count chunks from first exist.
func (g Geometry) check(first, count int64) error {
	if first < 0 || count < 0 || first > g.Chunks() || count > g.Chunks()-first {
		return fmt.Errorf("chunks %d+%d of %d: %w", first, count, g.Chunks(), ErrOrder)
	}
	return nil
}

// zeroDigests are the digests that chunks of zeroes have, computed once.
type zeroDigests struct {
	last       int64
	full, tail Digest
}

func (g Geometry) zeroDigests() zeroDigests {
	z := zeroDigests{last: g.Chunks() - 1}
	if z.last < 0 {
		return z
	}
	_, n := g.Range(z.last)
	z.tail = g.ZeroDigest(n)
	z.full = z.tail
	if n != g.ChunkSize {
		z.full = g.ZeroDigest(g.ChunkSize)
	}
	return z
}

// of is the digest of the chunk if it holds zeroes.
func (z *zeroDigests) of(chunk int64) Digest {
	if chunk == z.last {
		return z.tail
	}
	return z.full
}
