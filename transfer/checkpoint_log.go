package transfer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

const (
	appendMagic    = "APND"
	appendHeadSize = 32
	// sector is the unit in which a disk writes whole: appends begin and end at one, so that a torn append cannot hurt
	// the one before.
	sector = 512
	// MaxAppendDigests is the most digests that one Append takes; a batch of a copy has at most half of it.
	MaxAppendDigests = 64 << 10
	// maxAppendBytes bounds an append's records, and so what a reader holds in memory: digests of 32 bytes, each with
	// a record of its own and a zero run beside it.
	maxAppendBytes = MaxAppendDigests * (maxDigestSize + 2*recordHeadSize)
)

// errBroken: what is there is no whole append.
var errBroken = errors.New("append is not whole")

// appendLog writes and reads the appends of a checkpoint file (docs/STORAGE.md, "Checkpoint"). It holds no state but
// the header's CRC, which ties each append to its file.
type appendLog struct {
	geometry Geometry
	headCRC  uint32
}

// appendHead is an append's head, decoded.
type appendHead struct {
	sequence uint64
	records  int // bytes
	crc      uint32
}

// padded is the length in bytes of an append with so many bytes of records.
func padded(records int) int { return (appendHeadSize + records + sector - 1) / sector * sector }

// encode makes an append: its head, its records, zeroes up to the next sector.
func (l appendLog) encode(sequence uint64, records []byte) []byte {
	p := make([]byte, padded(len(records)))
	copy(p[appendHeadSize:], records)
	h := append(p[:0], appendMagic...)
	h = binary.BigEndian.AppendUint32(h, l.headCRC)
	h = binary.BigEndian.AppendUint64(h, sequence)
	h = binary.BigEndian.AppendUint32(h, uint32(len(records)))
	h = binary.BigEndian.AppendUint32(h, crc32.Checksum(p[appendHeadSize:], castagnoli))
	h = binary.BigEndian.AppendUint32(h, 0)
	binary.BigEndian.AppendUint32(h, crc32.Checksum(h, castagnoli))
	return p
}

// decodeHead reads an append's head; false: that is none.
func (l appendLog) decodeHead(p []byte) (h appendHead, ok bool) {
	body := p[:appendHeadSize-4]
	if string(p[:4]) != appendMagic || binary.BigEndian.Uint32(p[4:]) != l.headCRC ||
		crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(p[len(body):]) {
		return h, false
	}
	h.sequence = binary.BigEndian.Uint64(p[8:])
	h.records = int(binary.BigEndian.Uint32(p[16:]))
	h.crc = binary.BigEndian.Uint32(p[20:])
	return h, h.records <= maxAppendBytes
}

// read returns the records of the append at off: io.EOF at the end of the file, errBroken if no whole append is there.
func (l appendLog) read(f io.ReaderAt, off int64) (sequence uint64, records []byte, err error) {
	var head [appendHeadSize]byte
	if n, err := f.ReadAt(head[:], off); n < len(head) {
		return 0, nil, endOfLog(n, err)
	}
	h, ok := l.decodeHead(head[:])
	if !ok {
		return 0, nil, errBroken
	}
	p := make([]byte, padded(h.records)-appendHeadSize)
	if n, err := f.ReadAt(p, off+appendHeadSize); n < len(p) {
		return 0, nil, endOfLog(appendHeadSize, err)
	}
	if crc32.Checksum(p, castagnoli) != h.crc {
		return 0, nil, errBroken
	}
	return h.sequence, p[:h.records], nil
}

// endOfLog tells the clean end of the file from one inside an append, and both from a read error.
func endOfLog(read int, err error) error {
	switch {
	case err != io.EOF:
		return err
	case read == 0:
		return io.EOF
	}
	return errBroken
}

// each calls fn for the records of an append. What has a good checksum and makes no sense is ErrCorrupt.
func (l appendLog) each(records []byte, fn func(record) error) error {
	r := recordReader{r: bytes.NewReader(records), geometry: l.geometry}
	for {
		rec, err := r.next()
		switch {
		case err == io.EOF:
			return nil
		case err == nil && rec.kind == kindEnd:
			err = fmt.Errorf("record of kind %d in a checkpoint: %w", rec.kind, ErrCorrupt)
		case err == nil:
			err = fn(rec)
		}
		if err != nil {
			return err
		}
	}
}

// hasLater looks for a whole head after off with a higher sequence number than the one that was due at off. Each append
// is durable before the next begins, so one that has another behind it was whole once: it was damaged, not interrupted.
func (l appendLog) hasLater(f io.ReaderAt, off int64, due uint64) (bool, error) {
	block := make([]byte, 128*sector)
	for off += sector; ; off += int64(len(block)) {
		n, err := f.ReadAt(block, off)
		for at := 0; at+appendHeadSize <= n; at += sector {
			if h, ok := l.decodeHead(block[at : at+appendHeadSize]); ok && h.sequence > due {
				return true, nil
			}
		}
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
}
