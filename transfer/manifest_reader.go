package transfer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
)

// ManifestReader reads a manifest as a stream. Not safe for concurrent use.
type ManifestReader struct {
	header  ManifestHeader
	records recordReader
	count   int64
	hash    *RootHash
	root    Root
	err     error // what ended the stream, io.EOF if all is well
	file    io.Closer
}

// NewManifestReader reads the header: ErrCorrupt, ErrVersion. The caller brings the buffering.
func NewManifestReader(r io.Reader) (*ManifestReader, error) {
	page := make([]byte, manifestHeadSize)
	if _, err := io.ReadFull(r, page); err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil, fmt.Errorf("manifest header is cut short: %w", ErrCorrupt)
	} else if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	h, err := decodeManifestHeader(page)
	if err != nil {
		return nil, err
	}
	return &ManifestReader{
		header:  h,
		records: recordReader{r: r, geometry: h.Geometry},
		hash:    NewRootHash(h.Geometry),
	}, nil
}

// OpenManifest is NewManifestReader for a file. The caller closes it.
func OpenManifest(path string) (*ManifestReader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open manifest: %w", err)
	}
	m, err := NewManifestReader(bufio.NewReader(f))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open manifest %s: %w", path, err), f.Close())
	}
	m.file = f
	return m, nil
}

// Header is what the manifest is about.
func (m *ManifestReader) Header() ManifestHeader { return m.header }

// Next returns the next run, valid until the following call. io.EOF comes only after the manifest was found complete, in
// order, and under its root; anything else wrong is ErrCorrupt. What ended the stream is returned again by later calls.
func (m *ManifestReader) Next() (Run, error) {
	if m.err != nil {
		return Run{}, m.err
	}
	rec, err := m.records.next()
	switch {
	case err == io.EOF:
		err = fmt.Errorf("manifest has no end: %w", ErrCorrupt)
	case err == nil && rec.kind == kindEnd:
		err = m.finish(rec)
	case err == nil && rec.kind == kindUnverified:
		err = fmt.Errorf("record of kind %d in a manifest: %w", rec.kind, ErrCorrupt)
	case err == nil:
		err = m.add(rec.run)
	}
	if err != nil {
		m.err = err
		return Run{}, err
	}
	return rec.run, nil
}

func (m *ManifestReader) add(r Run) error {
	m.count++
	if err := m.hash.Add(r); err != nil {
		return fmt.Errorf("manifest: %w: %w", ErrCorrupt, err)
	}
	return nil
}

// finish checks the end record and that nothing follows; io.EOF is its success.
func (m *ManifestReader) finish(end record) error {
	root, err := m.hash.Sum()
	if err != nil {
		return fmt.Errorf("manifest: %w: %w", ErrCorrupt, err)
	}
	if end.run.First != m.hash.next || end.run.Count != m.count || Root(m.records.body) != root {
		return fmt.Errorf("manifest is not under its root: %w", ErrCorrupt)
	}
	var one [1]byte
	if n, err := io.ReadFull(m.records.r, one[:]); n > 0 {
		return fmt.Errorf("manifest has bytes after its end: %w", ErrCorrupt)
	} else if err != io.EOF {
		return err
	}
	m.root = root
	return io.EOF
}

// Root is the manifest's root: ErrIncomplete until Next has returned io.EOF.
func (m *ManifestReader) Root() (Root, error) {
	if m.err != io.EOF {
		return Root{}, fmt.Errorf("manifest not read to its end: %w", ErrIncomplete)
	}
	return m.root, nil
}

// Close closes the file of OpenManifest.
func (m *ManifestReader) Close() error {
	if m.file == nil {
		return nil
	}
	return m.file.Close()
}
