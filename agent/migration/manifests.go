package migration

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/internal/durable"
)

// manifestSuffix of the files in manifests/.
const manifestSuffix = ".manifest"

// sweepManifests removes the manifests that no record speaks of any more: of migrations that were pruned, and of volumes
// that came here and were deleted. What cannot be removed now is tried again after the next migration. At the
// start, when nobody writes one, half-written ones go too.
func (e *Engine) sweepManifests(atStart bool) {
	dir := filepath.Join(e.o.Directory, "manifests")
	entries, err := os.ReadDir(dir)
	if err != nil {
		e.o.Logger.Warn("manifests not swept", "error", err)
		return
	}
	known, err := e.knownManifests()
	if err != nil {
		e.o.Logger.Warn("manifests not swept", "error", err)
		return
	}
	for _, entry := range entries {
		id, ok := strings.CutSuffix(entry.Name(), manifestSuffix)
		if ok && known[id] || !ok && !atStart {
			continue
		}
		if err := durable.Remove(filepath.Join(dir, entry.Name())); err != nil {
			e.o.Logger.Warn("manifest not removed", "migration", id, "error", err)
		}
	}
}

// knownManifests are the migrations that a record speaks of. It is read after the directory: a manifest is written
// only while its migration has a record.
func (e *Engine) knownManifests() (known map[string]bool, err error) {
	known = map[string]bool{}
	err = e.o.Store.View(func(tx catalog.Tx) error {
		migrations, err := catalog.Migrations.All(tx)
		if err != nil {
			return err
		}
		for _, m := range migrations {
			known[m.ID] = true
		}
		guests, err := catalog.Guests.All(tx)
		if err != nil {
			return err
		}
		for _, g := range guests {
			known[g.MigrationID] = true
		}
		volumes, err := catalog.Volumes.All(tx)
		for _, v := range volumes {
			known[v.Manifest] = true
		}
		return err
	})
	return known, err
}
