package transfer

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

const (
	checkpointMagic   = "CVOLCKPT"
	checkpointVersion = 1
	// checkpointHeadSize in bytes: a page, so that the log begins aligned.
	checkpointHeadSize = 4096
	headCRCSize        = 4
	// MaxIdentity bounds SourceIdentity and TargetIdentity, in bytes; back ends need a hundred.
	MaxIdentity = 1024

	identitiesAt = 60
)

// CheckpointHeader says what a checkpoint is about. It never changes after CreateCheckpoint.
type CheckpointHeader struct {
	Geometry
	// TransferID tells this transfer from any other (a UUID).
	TransferID [16]byte
	// SourceIdentity and TargetIdentity name the objects (dataplane.Volume.Identity), at most MaxIdentity bytes each.
	SourceIdentity, TargetIdentity string
	// Generation is the source's write generation; another one makes the checkpoint void.
	Generation uint64
}

// Validate checks the limits: ErrInvalid.
func (h CheckpointHeader) Validate() error {
	if len(h.SourceIdentity) > MaxIdentity || len(h.TargetIdentity) > MaxIdentity {
		return fmt.Errorf("identity of %d bytes: %w", max(len(h.SourceIdentity), len(h.TargetIdentity)), ErrInvalid)
	}
	return h.Geometry.Validate()
}

// encode is the header's page and its CRC, which each append repeats.
func (h CheckpointHeader) encode() ([]byte, uint32) {
	p := make([]byte, 0, checkpointHeadSize)
	p = append(p, checkpointMagic...)
	p = binary.BigEndian.AppendUint16(p, checkpointVersion)
	p = append(p, byte(h.Algorithm), 0, 0, 0, 0, 0)
	p = binary.BigEndian.AppendUint64(p, uint64(h.VolumeSize))
	p = binary.BigEndian.AppendUint64(p, uint64(h.ChunkSize))
	p = binary.BigEndian.AppendUint64(p, h.Generation)
	p = append(p, h.TransferID[:]...)
	p = binary.BigEndian.AppendUint16(p, uint16(len(h.SourceIdentity)))
	p = binary.BigEndian.AppendUint16(p, uint16(len(h.TargetIdentity)))
	p = append(p, h.SourceIdentity...)
	p = append(p, h.TargetIdentity...)
	return sealHead(p[:checkpointHeadSize])
}

// decodeCheckpointHeader reads the page: ErrCorrupt, ErrVersion.
func decodeCheckpointHeader(p []byte) (h CheckpointHeader, crc uint32, err error) {
	crc, err = openHead(p, checkpointMagic, checkpointVersion)
	if err != nil {
		return h, 0, fmt.Errorf("checkpoint header: %w", err)
	}
	h.Geometry = decodeGeometry(p)
	h.Generation = binary.BigEndian.Uint64(p[32:])
	copy(h.TransferID[:], p[40:])
	source, target := int(binary.BigEndian.Uint16(p[56:])), int(binary.BigEndian.Uint16(p[58:]))
	if source > MaxIdentity || target > MaxIdentity {
		return h, 0, fmt.Errorf("checkpoint header: identity of %d bytes: %w", max(source, target), ErrCorrupt)
	}
	ids := p[identitiesAt:]
	h.SourceIdentity, h.TargetIdentity = string(ids[:source]), string(ids[source:source+target])
	if err := h.Validate(); err != nil {
		return h, 0, fmt.Errorf("checkpoint header: %w: %w", ErrCorrupt, err)
	}
	return h, crc, nil
}

// decodeGeometry reads the fields that checkpoint and manifest have at the same places.
func decodeGeometry(p []byte) Geometry {
	return Geometry{
		Algorithm:  Algorithm(p[10]),
		VolumeSize: int64(binary.BigEndian.Uint64(p[16:])),
		ChunkSize:  int64(binary.BigEndian.Uint64(p[24:])),
	}
}

// sealHead puts a header's CRC in its last four bytes.
func sealHead(p []byte) ([]byte, uint32) {
	body := p[:len(p)-headCRCSize]
	crc := crc32.Checksum(body, castagnoli)
	binary.BigEndian.PutUint32(p[len(body):], crc)
	return p, crc
}

// openHead checks a header's magic, version and CRC, in this order: a later version may keep its CRC elsewhere.
func openHead(p []byte, magic string, version uint16) (uint32, error) {
	if string(p[:len(magic)]) != magic {
		return 0, fmt.Errorf("magic: %w", ErrCorrupt)
	}
	if v := binary.BigEndian.Uint16(p[len(magic):]); v != version {
		return 0, fmt.Errorf("version %d: %w", v, ErrVersion)
	}
	body := p[:len(p)-headCRCSize]
	crc := crc32.Checksum(body, castagnoli)
	if crc != binary.BigEndian.Uint32(p[len(body):]) {
		return 0, fmt.Errorf("checksum: %w", ErrCorrupt)
	}
	return crc, nil
}
