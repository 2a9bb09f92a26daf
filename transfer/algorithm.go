package transfer

import (
	"encoding/hex"
	"fmt"

	"github.com/zeebo/blake3"
	"github.com/zeebo/xxh3"
)

// Algorithm is how a chunk's digest is computed. Its numbers are part of the file formats.
type Algorithm uint8

const (
	// XXH3_128 is XXH3's 128-bit hash, seed 0, in canonical (big-endian) form. It guards against faults, not against
	// malice. The default.
	XXH3_128 Algorithm = 1
	// BLAKE3 is BLAKE3 with 256 bits, for digests that cross a border of trust.
	BLAKE3 Algorithm = 2
)

// maxDigestSize is the longest digest in bytes.
const maxDigestSize = 32

var algorithms = []struct {
	Algorithm
	name string
	size int
}{
	{XXH3_128, "xxh3-128", 16},
	{BLAKE3, "blake3", 32},
}

// Size is the length of a digest in bytes, 0 for an unknown algorithm.
func (a Algorithm) Size() int {
	for _, known := range algorithms {
		if known.Algorithm == a {
			return known.size
		}
	}
	return 0
}

func (a Algorithm) String() string {
	for _, known := range algorithms {
		if known.Algorithm == a {
			return known.name
		}
	}
	return fmt.Sprintf("algorithm %d", uint8(a))
}

// ParseAlgorithm is the reverse of String: ErrInvalid for a name that is none.
func ParseAlgorithm(name string) (Algorithm, error) {
	for _, known := range algorithms {
		if known.name == name {
			return known.Algorithm, nil
		}
	}
	return 0, fmt.Errorf("algorithm %q: %w", name, ErrInvalid)
}

// MarshalText is String, for JSON.
func (a Algorithm) MarshalText() ([]byte, error) {
	if a.Size() == 0 {
		return nil, fmt.Errorf("%v: %w", a, ErrInvalid)
	}
	return []byte(a.String()), nil
}

// UnmarshalText is ParseAlgorithm, for JSON.
func (a *Algorithm) UnmarshalText(text []byte) (err error) {
	*a, err = ParseAlgorithm(string(text))
	return err
}

func (a Algorithm) sum(p []byte) (d Digest) {
	switch a {
	case XXH3_128:
		sum := xxh3.Hash128(p).Bytes()
		copy(d[:], sum[:])
	case BLAKE3:
		d = blake3.Sum256(p)
	}
	return d
}

// sumZeroes is the digest of n zero bytes, which need not be in memory.
func (a Algorithm) sumZeroes(n int64) (d Digest) {
	var x xxh3.Hasher
	b := blake3.New()
	for n > 0 {
		piece := zeroPage[:min(n, int64(len(zeroPage)))]
		if a == XXH3_128 {
			_, _ = x.Write(piece) // a hash's Write never fails
		} else {
			_, _ = b.Write(piece)
		}
		n -= int64(len(piece))
	}
	if a == XXH3_128 {
		sum := x.Sum128().Bytes()
		copy(d[:], sum[:])
		return d
	}
	b.Sum(d[:0])
	return d
}

// zeroPage is never written to.
var zeroPage [64 << 10]byte

// Digest is the digest of one chunk's bytes. Its first Algorithm.Size() bytes count, the rest is zero.
type Digest [maxDigestSize]byte

// short is the digest without its second half if that is zero. No digest of 32 bytes ends so in this universe, and if
// one did, the form would still be read back as the same digest.
func (d Digest) short() []byte {
	const half = maxDigestSize / 2
	if [half]byte(d[half:]) == [half]byte{} {
		return d[:half]
	}
	return d[:]
}

// String is the digest in hexadecimal, 32 or 64 digits.
func (d Digest) String() string { return hex.EncodeToString(d.short()) }

// MarshalText is String, for JSON.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads 32 or 64 hexadecimal digits.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) != maxDigestSize && len(text) != 2*maxDigestSize {
		return fmt.Errorf("digest of %d digits: %w", len(text), ErrInvalid)
	}
	*d = Digest{}
	if _, err := hex.Decode(d[:], text); err != nil {
		return fmt.Errorf("digest: %w", err)
	}
	return nil
}
