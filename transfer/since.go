package transfer

import (
	"errors"
	"fmt"
	"io"
)

// CheckManifest reads a manifest to its end: nil only if it is whole and under its root. A Config.Since should have been
// checked so.
func CheckManifest(path string) (h ManifestHeader, root Root, err error) {
	m, err := OpenManifest(path)
	if err != nil {
		return h, root, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	for err == nil {
		_, err = m.Next()
	}
	if err != io.EOF {
		return h, root, fmt.Errorf("read manifest %s: %w", path, err)
	}
	root, err = m.Root()
	return m.Header(), root, err
}

// since reads digests out of a manifest in ascending order of chunks. Not safe for concurrent use.
type since struct {
	manifest *ManifestReader
	zero     zeroDigests
	run      Run
}

func newSince(m *ManifestReader) *since {
	return &since{manifest: m, zero: m.header.zeroDigests()}
}

// digests are those of count chunks from first, which must lie behind those of the calls before.
func (s *since) digests(first, count int64) ([]Digest, error) {
	digests := make([]Digest, 0, count)
	for next := first; next < first+count; next++ {
		for s.run.End() <= next {
			run, err := s.manifest.Next()
			if err == io.EOF {
				err = ErrIncomplete // a manifest that ends well covers all chunks
			}
			if err != nil {
				return nil, fmt.Errorf("manifest: %w", err)
			}
			s.run = run
		}
		digests = append(digests, s.run.digest(next, &s.zero))
	}
	return digests, nil
}
