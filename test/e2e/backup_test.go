package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCatalogBackup: the backup of a running agent is put back after a volume has moved away. Its openings file is left as it
// is, and the agent was not started since the backup: it serves nothing before the peer has answered, and gives the volume up.
func TestCatalogBackup(t *testing.T) {
	a, b := started(t, "")
	want := random(t, 8<<20)
	moved, stays := a.filled("moves", want), a.filled("stays", want)
	backup := filepath.Join(t.TempDir(), "cvold.db")
	a.must("catalog", "backup", backup)
	if r := a.cvol("catalog", "backup", backup); r.code == 0 || !strings.Contains(r.errors, "--force") {
		t.Errorf("a second backup to the same file: %+v", r)
	}
	a.must("migrate", "--wait", moved, b.host())
	a.terminate()
	b.terminate()
	p, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(a.dir, "state", "cvold.db"), p, 0o600); err != nil {
		t.Fatal(err)
	}
	a.launch()
	a.await("the agent waits for its peer", func() bool { return strings.Contains(a.tail(), "waiting for all peers") })
	if r := a.cvol("export", stays); r.code != 3 || !strings.Contains(r.errors, "put back from a backup") {
		t.Errorf("it serves without its peer: %+v", r)
	}
	b.start()
	a.await("the agent answers", func() bool { _, err := a.client.Version(a.context()); return err == nil })
	for _, n := range []*node{a, b} {
		v, err := n.client.Volume(n.context(), moved)
		if err != nil || v.Owner != b.name {
			t.Errorf("%s shows %+v, %v", n.name, v, err)
		}
	}
	for id, n := range map[string]*node{moved: b, stays: a} {
		got, err := os.ReadFile(filepath.Join(n.pool, "volume-"+id))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s has %d bytes, %v", n.name, len(got), err)
		}
	}
	a.must("export", stays)
}
