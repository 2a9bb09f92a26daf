package api

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/cvold/cvold/client"
)

// backupPart is how much of a backup goes out under one deadline, in bytes.
const backupPart = 1 << 20

// backupCatalog answers GET /v1/catalog/backup with the bytes of a copy of this agent's catalog. It is made on the disk
// first, so that a client that reads slowly holds no snapshot of the store.
func (s *Server) backupCatalog(x *exchange) error {
	select {
	case s.backups <- struct{}{}:
		defer func() { <-s.backups }()
	default:
		return fault{http.StatusServiceUnavailable, "another backup is being made: try again when it is done"}
	}
	f, err := s.o.Backup()
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	x.w.Header().Set("Content-Type", "application/octet-stream")
	x.w.Header().Set("Content-Length", strconv.FormatInt(info.Size(), 10))
	x.w.Header().Set("Cache-Control", "no-store")
	x.w.WriteHeader(http.StatusOK)
	to := http.NewResponseController(x.w)
	for {
		_ = to.SetWriteDeadline(time.Now().Add(writeTimeout)) // a writer of a test has none
		_, err := io.CopyN(x.w, f, backupPart)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err // logged; the client sees that it is cut off
		}
	}
}

// rebuildCatalog answers POST /v1/catalog/rebuild.
func (s *Server) rebuildCatalog(x *exchange) error {
	var dryRun client.Bool
	if err := x.read(fields{"dry_run": flag("dry_run", &dryRun)}); err != nil {
		return err
	}
	ctx, cancel := x.work()
	defer cancel()
	answer, err := s.o.Rebuild(ctx, bool(dryRun))
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, answer)
}
