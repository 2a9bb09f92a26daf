package migration

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/internal/durable"
)

// checkpointSuffix of the files in migrations/.
const checkpointSuffix = ".checkpoint"

// sweepCheckpoints removes, at the start, the checkpoints of migrations that are not under way any more: a crash may
// have come between the end of one and the removal of its file.
func (e *Engine) sweepCheckpoints(all []catalog.Migration) {
	active := map[string]bool{}
	for _, m := range all {
		active[m.ID] = !m.State.Final()
	}
	dir := filepath.Join(e.o.Directory, "migrations")
	entries, err := os.ReadDir(dir)
	if err != nil {
		e.o.Logger.Warn("checkpoints not swept", "error", err)
		return
	}
	for _, entry := range entries {
		if id, ok := strings.CutSuffix(entry.Name(), checkpointSuffix); ok && active[id] {
			continue
		}
		if err := durable.Remove(filepath.Join(dir, entry.Name())); err != nil {
			e.o.Logger.Warn("checkpoint not removed", "file", entry.Name(), "error", err)
		}
	}
}
