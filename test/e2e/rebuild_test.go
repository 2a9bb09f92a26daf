package e2e

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cvold/cvold/client"
)

// loseCatalog ends the agent and removes its records.
func (n *node) loseCatalog() {
	n.t.Helper()
	n.terminate()
	if err := errors.Join(os.Remove(filepath.Join(n.dir, "state", "cvold.db")), os.RemoveAll(filepath.Join(n.dir, "state", "manifests"))); err != nil {
		n.t.Fatal(err)
	}
}

// verdicts is what cvol catalog rebuild says, by volume.
func (n *node) verdicts(args ...string) map[string]string {
	n.t.Helper()
	var answer client.RebuildAnswer
	n.parse(&answer, append([]string{"catalog", "rebuild"}, args...)...)
	all := map[string]string{}
	for _, o := range answer.Objects {
		all[o.VolumeID] = o.Verdict
		if o.Verdict == client.RebuildRefused {
			all[o.VolumeID] = o.Reason
		}
	}
	return all
}

// TestCatalogRebuild: the catalog of a node is lost. Its volumes, one that was made there and one that came by a migration, are
// volumes again, with their bytes, and migrate on; one that went, and an unfinished copy, are not.
func TestCatalogRebuild(t *testing.T) {
	a, b := started(t, "")
	want := random(t, 8<<20)
	made, came, went := b.filled("made", want), a.filled("came", want), b.filled("went", want)
	a.must("migrate", "--wait", came, b.host())
	b.must("migrate", "--wait", went, a.host())
	b.loseCatalog()
	b.start()
	if all, err := b.client.Volumes(b.context(), client.VolumeFilter{}); err != nil || len(all) != 1 {
		t.Fatalf("the catalog is lost, and it lists %v, %v", all, err)
	}
	possible := b.verdicts()
	if len(possible) != 2 || possible[made] != client.RebuildPossible || possible[came] != client.RebuildPossible {
		t.Fatalf("would: %v", possible)
	}
	if all := b.verdicts("--dry-run"); len(all) != 2 {
		t.Errorf("a dry run changed something: %v", all)
	}
	if all := b.verdicts("--yes"); len(all) != 2 || all[made] != client.Rebuilt || all[came] != client.Rebuilt {
		t.Errorf("did: %v", all)
	}
	if all := b.verdicts("--yes"); len(all) != 0 {
		t.Errorf("a second time: %v", all)
	}
	for _, id := range []string{made, came} {
		for _, n := range []*node{a, b} {
			v, err := n.client.Volume(n.context(), id)
			if err != nil || v.Owner != b.name || v.Status != "available" || v.SizeBytes != int64(len(want)) {
				t.Errorf("%s shows %+v, %v", n.name, v, err)
			}
		}
		b.must("migrate", "--wait", id, a.host())
		if got, err := os.ReadFile(filepath.Join(a.pool, "volume-"+id)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", id, len(got), err)
		}
	}
}

// TestCatalogRebuildRefused: an unfinished copy of a peer's volume is left alone, and nothing is done while a peer is away.
func TestCatalogRebuildRefused(t *testing.T) {
	a, b := started(t, crawl)
	half := a.filled("half", random(t, 32<<20))
	a.must("migrate", half, b.host())
	a.await("the copy is under way", func() bool {
		all, err := a.client.Transfers(a.context())
		return err == nil && len(all) == 1 && all[0].Progress.SentBytes > 0
	})
	b.loseCatalog()
	b.start()
	if all := b.verdicts("--yes"); len(all) != 1 || !strings.Contains(all[half], "node node1 owns the volume") {
		t.Errorf("an unfinished copy: %v", all)
	}
	a.must("migration", "abort", half)
	a.terminate()
	if r := b.cvol("catalog", "rebuild", "--yes"); r.code != 3 || !strings.Contains(r.errors, "node1") {
		t.Errorf("without its peer: %+v", r)
	}
}
