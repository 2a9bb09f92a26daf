package transfer

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/cvold/cvold/internal/durable"
)

const (
	manifestMagic   = "CVOLMANI"
	manifestVersion = 1
	// manifestHeadSize in bytes: a sector.
	manifestHeadSize = 512
	// MaxVolumeID bounds ManifestHeader.VolumeID, in bytes; Cinder's column has 36.
	MaxVolumeID = 255
	volumeIDAt  = 42
	// endRecordSize in bytes: a record's head and the root.
	endRecordSize = recordHeadSize + int64(len(Root{}))
)

// ManifestHeader says what a manifest is about.
type ManifestHeader struct {
	Geometry
	// VolumeID is the volume's id, at most MaxVolumeID bytes.
	VolumeID string `json:"volume_id"`
	// Class is what the verification of the digests proves.
	Class Class `json:"class"`
	// Created is kept in whole seconds.
	Created time.Time `json:"created"`
}

// Validate checks the limits: ErrInvalid.
func (h ManifestHeader) Validate() error {
	if len(h.VolumeID) > MaxVolumeID {
		return fmt.Errorf("volume id of %d bytes: %w", len(h.VolumeID), ErrInvalid)
	}
	if !h.Class.valid() {
		return fmt.Errorf("%v: %w", h.Class, ErrInvalid)
	}
	return h.Geometry.Validate()
}

func (h ManifestHeader) encode() []byte {
	p := make([]byte, 0, manifestHeadSize)
	p = append(p, manifestMagic...)
	p = binary.BigEndian.AppendUint16(p, manifestVersion)
	p = append(p, byte(h.Algorithm), byte(h.Class), 0, 0, 0, 0)
	p = binary.BigEndian.AppendUint64(p, uint64(h.VolumeSize))
	p = binary.BigEndian.AppendUint64(p, uint64(h.ChunkSize))
	p = binary.BigEndian.AppendUint64(p, uint64(h.Created.Unix()))
	p = binary.BigEndian.AppendUint16(p, uint16(len(h.VolumeID)))
	p = append(p, h.VolumeID...)
	p, _ = sealHead(p[:manifestHeadSize])
	return p
}

func decodeManifestHeader(p []byte) (h ManifestHeader, err error) {
	if _, err := openHead(p, manifestMagic, manifestVersion); err != nil {
		return h, fmt.Errorf("manifest header: %w", err)
	}
	h.Geometry = decodeGeometry(p)
	h.Class = Class(p[11])
	h.Created = time.Unix(int64(binary.BigEndian.Uint64(p[32:])), 0).UTC()
	n := int(binary.BigEndian.Uint16(p[40:]))
	if n > MaxVolumeID {
		return h, fmt.Errorf("manifest header: volume id of %d bytes: %w", n, ErrCorrupt)
	}
	h.VolumeID = string(p[volumeIDAt : volumeIDAt+n])
	if err := h.Validate(); err != nil {
		return h, fmt.Errorf("manifest header: %w: %w", ErrCorrupt, err)
	}
	return h, nil
}

// ManifestWriter writes a manifest as a stream. Not safe for concurrent use.
type ManifestWriter struct {
	w       io.Writer
	root    *RootHash
	cut     *canonical
	records int64
	buf     []byte
}

// NewManifestWriter writes the header. The caller brings the buffering.
func NewManifestWriter(w io.Writer, h ManifestHeader) (*ManifestWriter, error) {
	if err := h.Validate(); err != nil {
		return nil, fmt.Errorf("write manifest: %w", err)
	}
	if _, err := w.Write(h.encode()); err != nil {
		return nil, fmt.Errorf("write manifest: %w", err)
	}
	m := &ManifestWriter{w: w, root: NewRootHash(h.Geometry)}
	m.cut = newCanonical(h.Geometry, func(r Run) error {
		m.records++
		m.buf = appendRecord(m.buf[:0], r, h.Algorithm)
		_, err := m.w.Write(m.buf)
		return err
	})
	return m, nil
}

// Add takes the next run; it must begin where the one before ended: ErrOrder. How runs are cut makes no difference to
// what is written.
func (m *ManifestWriter) Add(r Run) error {
	if err := m.root.Add(r); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	if err := m.cut.add(r); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return nil
}

// Finish ends the manifest and returns its root: ErrIncomplete if chunks are missing.
func (m *ManifestWriter) Finish() (Root, error) {
	root, err := m.root.Sum()
	if err != nil {
		return Root{}, fmt.Errorf("write manifest: %w", err)
	}
	if err := m.cut.finish(); err != nil {
		return Root{}, fmt.Errorf("write manifest: %w", err)
	}
	end := appendRawRecord(nil, kindEnd, m.root.next, m.records, root[:])
	if _, err := m.w.Write(end); err != nil {
		return Root{}, fmt.Errorf("write manifest: %w", err)
	}
	return root, nil
}

// WriteManifest writes the manifest of a complete checkpoint, durably and whole or not at all: ErrIncomplete. The room
// that the checkpoint keeps for it is given back first.
func WriteManifest(path string, c *Checkpoint, class Class, volumeID string, created time.Time) (Root, error) {
	if !c.Complete() {
		return Root{}, fmt.Errorf("write manifest %s: %w", path, ErrIncomplete)
	}
	h := ManifestHeader{Geometry: c.header.Geometry, VolumeID: volumeID, Class: class, Created: created}
	if err := c.releaseRoom(); err != nil {
		return Root{}, fmt.Errorf("write manifest %s: %w", path, err)
	}
	var root Root
	f, err := durable.Replace(path, 0o600, func(f *os.File) (err error) {
		// Its records take less than those of the checkpoint, which are cut at the batches.
		if err := durable.Preallocate(f, c.size()); err != nil {
			return err
		}
		root, err = copyManifest(f, h, c)
		return err
	})
	if err != nil {
		return Root{}, fmt.Errorf("write manifest: %w", err)
	}
	return root, f.Close()
}

// copyManifest writes the file and gives back the room that it did not need.
func copyManifest(f *os.File, h ManifestHeader, c *Checkpoint) (Root, error) {
	buffered := bufio.NewWriter(f)
	m, err := NewManifestWriter(buffered, h)
	if err != nil {
		return Root{}, err
	}
	if err := c.Runs(m.Add); err != nil {
		return Root{}, err
	}
	root, err := m.Finish()
	if err != nil {
		return Root{}, err
	}
	if err := buffered.Flush(); err != nil {
		return Root{}, err
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return Root{}, err
	}
	return root, f.Truncate(size)
}
