package transfer

import (
	"context"
	"io"

	"github.com/cvold/cvold/dataplane"
)

// Difference is a stretch of chunks, as long as it goes, that have other digests on a device than in a manifest.
type Difference struct {
	// Offset and Length are the stretch in bytes: whole chunks, up to the end of the volume.
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
	// Manifest and Device are the digests of its first chunk.
	Manifest Digest `json:"manifest_digest"`
	Device   Digest `json:"device_digest"`
}

// Compare digests the device as the manifest's geometry says and calls fn for each stretch that is not what the manifest
// says, in order, one call at a time. Both are streams: memory does not depend on their length. Nothing may have been
// read from the manifest yet but its header.
//
// It returns nil when all of both was read, whether they differ or not, and the manifest is whole; else ErrCorrupt, or an
// error as ScanWith has them. The device may be larger than the manifest's volume; the rest of it is not looked at.
func Compare(ctx context.Context, medium dataplane.Device, m *ManifestReader, o ScanOptions, fn func(Difference) error) error {
	g := m.Header().Geometry
	c := comparer{manifest: m, geometry: g, zero: g.zeroDigests(), fn: fn}
	if err := ScanWith(ctx, medium, g, 0, g.Chunks(), o, c.add); err != nil {
		return err
	}
	if err := c.settle(); err != nil {
		return err
	}
	if _, err := m.Next(); err != io.EOF {
		return err
	}
	return nil
}

// comparer walks through the runs of both side by side.
type comparer struct {
	manifest *ManifestReader
	geometry Geometry
	zero     zeroDigests
	fn       func(Difference) error

	said Run // what is left of the manifest's last run; Count 0: nothing
	// open is the difference that may still grow, from chunk first to end; equal: there is none.
	open       Difference
	first, end int64
}

// add compares the device's next run.
func (c *comparer) add(found Run) error {
	for found.Count > 0 {
		if c.said.Count == 0 {
			var err error
			if c.said, err = c.manifest.Next(); err != nil {
				return err // io.EOF comes after the last chunk only
			}
		}
		end := min(found.End(), c.said.End())
		a, _ := c.said.clip(found.First, end)
		b, _ := found.clip(found.First, end)
		if err := c.compare(a, b); err != nil {
			return err
		}
		c.said, _ = c.said.clip(end, c.said.End())
		found, _ = found.clip(end, found.End())
	}
	return nil
}

// compare compares two runs of the same chunks.
func (c *comparer) compare(said, found Run) error {
	if said.Zero && found.Zero {
		return nil // as long as it may be
	}
	for chunk := found.First; chunk < found.End(); chunk++ {
		a, b := said.digest(chunk, &c.zero), found.digest(chunk, &c.zero)
		if a == b {
			continue
		}
		if err := c.differ(chunk, a, b); err != nil {
			return err
		}
	}
	return nil
}

// differ makes the open difference longer by a chunk, or begins another one.
func (c *comparer) differ(chunk int64, said, found Digest) error {
	if chunk != c.end || c.first == c.end {
		if err := c.settle(); err != nil {
			return err
		}
		c.first = chunk
		c.open = Difference{Offset: chunk * c.geometry.ChunkSize, Manifest: said, Device: found}
	}
	c.end = chunk + 1
	return nil
}

// settle tells of the open difference, if there is one.
func (c *comparer) settle() error {
	if c.first == c.end {
		return nil
	}
	c.open.Length = c.geometry.Bytes(c.first, c.end-c.first)
	c.first = c.end
	return c.fn(c.open)
}
