package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/cvold/cvold/client"
	"github.com/cvold/cvold/transfer"
)

// showManifest answers GET /v1/manifests/VOLUME. The whole manifest is read: only its end proves its root.
func (s *Server) showManifest(x *exchange) error {
	path, err := s.o.Migrations.Manifest(x.id())
	if err != nil {
		return err
	}
	m, err := transfer.OpenManifest(path)
	if err != nil {
		return err
	}
	defer m.Close()
	ctx, cancel := x.patience(workTimeout)
	defer cancel()
	for {
		if _, err = m.Next(); err != nil {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("manifest of volume %s: %w", x.id(), err)
	}
	root, err := m.Root()
	if err != nil {
		return err
	}
	h := m.Header()
	return x.json(http.StatusOK, client.ManifestAnswer{Manifest: client.Manifest{
		VolumeID: x.id(), MigrationID: strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)),
		Root: root.String(), Algorithm: h.Algorithm.String(), ChunkSize: h.ChunkSize, VolumeSize: h.VolumeSize,
		Class: h.Class.String(), CreatedAt: h.Created,
	}})
}
