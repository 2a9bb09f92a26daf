package transfer

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/zeebo/blake3"
)

// Root stands for all bytes of a volume: BLAKE3 over the geometry and all chunk digests (docs/STORAGE.md, "Root").
type Root [32]byte

// String is the root in hexadecimal, 64 digits.
func (r Root) String() string { return hex.EncodeToString(r[:]) }

// MarshalText is String, for JSON.
func (r Root) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads 64 hexadecimal digits.
func (r *Root) UnmarshalText(text []byte) error {
	if len(text) != 2*len(r) {
		return fmt.Errorf("root of %d digits: %w", len(text), ErrInvalid)
	}
	if _, err := hex.Decode(r[:], text); err != nil {
		return fmt.Errorf("root: %w", err)
	}
	return nil
}

const (
	rootMagic   = "CVOLROOT"
	rootVersion = 1
	// rootHeadSize is the length in bytes of what goes before the digests.
	rootHeadSize = 32
	// rootPiece is how many digests of a long run are hashed at a time.
	rootPiece = 1024
)

// RootHash computes a Root from runs. Not safe for concurrent use.
type RootHash struct {
	geometry Geometry
	zero     zeroDigests
	hash     *blake3.Hasher
	next     int64
	buf      []byte
}

// NewRootHash begins a root; the geometry must be valid.
func NewRootHash(g Geometry) *RootHash {
	h := &RootHash{geometry: g, zero: g.zeroDigests(), hash: blake3.New()}
	head := make([]byte, 0, rootHeadSize)
	head = append(head, rootMagic...)
	head = binary.BigEndian.AppendUint16(head, rootVersion)
	head = append(head, byte(g.Algorithm), 0, 0, 0, 0, 0)
	head = binary.BigEndian.AppendUint64(head, uint64(g.VolumeSize))
	head = binary.BigEndian.AppendUint64(head, uint64(g.ChunkSize))
	h.write(head)
	return h
}

// Add takes the next run; it must begin where the one before ended: ErrOrder. How runs are cut makes no difference, nor
// whether zeroes come as a zero run or as their digest.
func (h *RootHash) Add(r Run) error {
	if err := r.Validate(); err != nil {
		return err
	}
	if r.First != h.next || r.End() > h.geometry.Chunks() {
		return fmt.Errorf("run %d+%d where %d was due: %w", r.First, r.Count, h.next, ErrOrder)
	}
	h.next = r.End()
	switch {
	case r.Zero:
		h.addZeroes(r)
	case len(r.Digests) == 1:
		h.repeat(r.Digests[0], r.Count)
	default:
		h.addDigests(r.Digests)
	}
	return nil
}

// Sum is the root; ErrIncomplete before the last chunk was added.
func (h *RootHash) Sum() (root Root, err error) {
	if h.next != h.geometry.Chunks() {
		return root, fmt.Errorf("root of %d chunks of %d: %w", h.next, h.geometry.Chunks(), ErrIncomplete)
	}
	h.hash.Sum(root[:0])
	return root, nil
}

func (h *RootHash) addZeroes(r Run) {
	if r.End()-1 != h.zero.last {
		h.repeat(h.zero.full, r.Count)
		return
	}
	h.repeat(h.zero.full, r.Count-1)
	h.repeat(h.zero.tail, 1)
}

func (h *RootHash) repeat(d Digest, count int64) {
	size := h.geometry.Algorithm.Size()
	h.buf = h.buf[:0]
	for range min(count, rootPiece) {
		h.buf = append(h.buf, d[:size]...)
	}
	for count > 0 {
		piece := min(count, rootPiece)
		h.write(h.buf[:piece*int64(size)])
		count -= piece
	}
}

func (h *RootHash) addDigests(digests []Digest) {
	size := h.geometry.Algorithm.Size()
	for len(digests) > 0 {
		piece := min(len(digests), rootPiece)
		h.buf = h.buf[:0]
		for i := range piece {
			h.buf = append(h.buf, digests[i][:size]...)
		}
		h.write(h.buf)
		digests = digests[piece:]
	}
}

func (h *RootHash) write(p []byte) {
	_, _ = h.hash.Write(p) // a hash's Write never fails
}
