package migration_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/cvold/cvold/agent/migration"
)

func TestFilesGoWithTheirRecords(t *testing.T) {
	w := newWorld(t, "a", "b")
	a, b := w.nodes["a"], w.nodes["b"]
	gone, stays := content(11, 1<<20), content(12, 1<<20)
	v, other := a.create(gone), a.create(stays)
	m := a.final(a.accept(v.ID, migration.Request{Host: toB}).ID)
	b.check(os.WriteFile(filepath.Join(b.dir, "manifests", "half-written"), nil, 0o600))
	b.check(os.WriteFile(filepath.Join(b.dir, "migrations", m.ID+".checkpoint"), nil, 0o600))
	b.check(b.volumes.Delete(context.Background(), v.ID))
	a.final(a.accept(other.ID, migration.Request{Host: toB}).ID)
	b.restart()
	if n := b.files("manifests"); n != 1 {
		t.Errorf("the target has %d manifests, want that of the volume it has", n)
	}
	if path, err := a.engine.Manifest(v.ID); err != nil || filepath.Base(path) != m.ID+".manifest" {
		t.Errorf("the source, whose record is there, answers %q, %v", path, err)
	}
	w.clean(other.ID, stays)
}
