package transfer

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// A record is how a run, or a statement about one, is written in checkpoint and manifest: 24 bytes and its digests
// (docs/STORAGE.md, "Records"). All numbers are big-endian.
const (
	recordHeadSize = 24
	recordCRCAt    = 4

	kindZero       = 1 // chunks of zeroes
	kindRepeated   = 2 // one digest for all chunks
	kindDistinct   = 3 // a digest for each chunk
	kindUnverified = 4 // in a checkpoint: what earlier records say of these chunks counts no more
	kindEnd        = 0xFF
)

// castagnoli is CRC32C, which processors compute.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is a record read: a run, or chunks that are unverified (then the run has no form), or the end.
type record struct {
	kind byte
	run  Run
}

// appendRecord appends the record for a canonical run.
func appendRecord(p []byte, r Run, a Algorithm) []byte {
	kind := byte(kindDistinct)
	switch {
	case r.Zero:
		kind = kindZero
	case len(r.Digests) == 1 && r.Count > 1:
		kind = kindRepeated
	}
	body := make([]byte, 0, len(r.Digests)*a.Size())
	for i := range r.Digests {
		body = append(body, r.Digests[i][:a.Size()]...)
	}
	return appendRawRecord(p, kind, r.First, r.Count, body)
}

func appendRawRecord(p []byte, kind byte, first, count int64, body []byte) []byte {
	start := len(p)
	p = append(p, kind, 0, 0, 0, 0, 0, 0, 0)
	p = binary.BigEndian.AppendUint64(p, uint64(first))
	p = binary.BigEndian.AppendUint64(p, uint64(count))
	p = append(p, body...)
	binary.BigEndian.PutUint32(p[start+recordCRCAt:], recordCRC(p[start:start+recordHeadSize], body))
	return p
}

// recordCRC is over the head, with the CRC's own place left out, and the body.
func recordCRC(head, body []byte) uint32 {
	crc := crc32.Update(0, castagnoli, head[:recordCRCAt])
	crc = crc32.Update(crc, castagnoli, head[recordCRCAt+4:])
	return crc32.Update(crc, castagnoli, body)
}

// recordReader reads records. The run that next returns is valid until the following call.
type recordReader struct {
	r        io.Reader
	geometry Geometry
	head     [recordHeadSize]byte
	body     []byte
	digests  []Digest
}

// next reads a record: io.EOF at a clean end, ErrCorrupt for anything that is no record of this geometry.
func (r *recordReader) next() (record, error) {
	if _, err := io.ReadFull(r.r, r.head[:]); err != nil {
		return record{}, cutShort(err, false)
	}
	rec := record{kind: r.head[0], run: Run{
		First: int64(binary.BigEndian.Uint64(r.head[8:])),
		Count: int64(binary.BigEndian.Uint64(r.head[16:])),
	}}
	size, err := r.bodySize(rec)
	if err != nil {
		return record{}, err
	}
	if cap(r.body) < size {
		r.body = make([]byte, size)
	}
	r.body = r.body[:size]
	if _, err := io.ReadFull(r.r, r.body); err != nil {
		return record{}, cutShort(err, true)
	}
	if recordCRC(r.head[:], r.body) != binary.BigEndian.Uint32(r.head[recordCRCAt:]) {
		return record{}, fmt.Errorf("record of chunk %d: checksum: %w", rec.run.First, ErrCorrupt)
	}
	return rec, r.fill(&rec.run, rec.kind)
}

// bodySize is the length of the digests that the head announces, at most maxRunDigests of them.
func (r *recordReader) bodySize(rec record) (int, error) {
	size := r.geometry.Algorithm.Size()
	switch rec.kind {
	case kindZero, kindUnverified:
		return 0, nil
	case kindRepeated:
		return size, nil
	case kindEnd:
		return len(Root{}), nil
	case kindDistinct:
		if rec.run.Count >= 1 && rec.run.Count <= maxRunDigests {
			return int(rec.run.Count) * size, nil
		}
	}
	return 0, fmt.Errorf("record of kind %d with %d chunks: %w", rec.kind, rec.run.Count, ErrCorrupt)
}

// fill completes the run and checks it against the geometry.
func (r *recordReader) fill(run *Run, kind byte) error {
	if kind == kindEnd {
		return nil
	}
	if run.Count < 1 || r.geometry.check(run.First, run.Count) != nil {
		return fmt.Errorf("record of chunks %d+%d: %w", run.First, run.Count, ErrCorrupt)
	}
	run.Zero = kind == kindZero
	size := r.geometry.Algorithm.Size()
	r.digests = r.digests[:0]
	if kind == kindRepeated || kind == kindDistinct {
		for at := 0; at < len(r.body); at += size {
			var d Digest
			copy(d[:], r.body[at:at+size])
			r.digests = append(r.digests, d)
		}
		run.Digests = r.digests
	}
	return nil
}

// cutShort makes an end inside a record ErrCorrupt; an end before it stays io.EOF.
func cutShort(err error, inside bool) error {
	if err == io.ErrUnexpectedEOF || err == io.EOF && inside {
		return fmt.Errorf("record is cut short: %w", ErrCorrupt)
	}
	return err
}
