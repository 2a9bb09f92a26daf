package api

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/client"
)

// TestBackupCatalog: what is answered is a catalog with all records; one is made at a time.
func TestBackupCatalog(t *testing.T) {
	r := newRig(t)
	v := newVolume(func(*catalog.Volume) {})
	r.put(v)
	w := r.want(200, "GET /v1/catalog/backup", "", nil)
	if w.Header().Get("Content-Type") != "application/octet-stream" {
		t.Errorf("%v", w.Header())
	}
	path := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(path, w.Body.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	store, err := catalog.OpenBolt(path, catalog.BoltOptions{Reserve: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	err = store.View(func(tx catalog.Tx) error { _, err := catalog.Volumes.Get(tx, v.ID); return err })
	if err != nil || !store.Restored() {
		t.Errorf("%v, restored %v", err, store.Restored())
	}
	var answer client.RebuildAnswer
	r.want(200, "POST /v1/catalog/rebuild", `{"dry_run": true}`, &answer)
	if answer.Objects[0].Verdict != client.RebuildPossible {
		t.Errorf("%+v", answer)
	}
	r.want(200, "POST /v1/catalog/rebuild", "{}", &answer)
	if answer.Objects[0].Verdict != client.Rebuilt {
		t.Errorf("%+v", answer)
	}
	r.want(400, "POST /v1/catalog/rebuild", `{"dry_run": "perhaps"}`, nil)
	r.want(400, "POST /v1/catalog/rebuild", `{"force": true}`, nil)
	r.backups <- struct{}{}
	r.want(503, "GET /v1/catalog/backup", "", nil)
	<-r.backups
	r.o.Backup = func() (*os.File, error) { return nil, errors.Join(fs.ErrPermission) }
	r.want(500, "GET /v1/catalog/backup", "", nil)
	r.o.Backup = func() (*os.File, error) { return nil, catalog.ErrNoSpace }
	r.want(503, "GET /v1/catalog/backup", "", nil)
}
