package migration_test

import (
	"context"
	"strings"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/migration"
)

// TestTypesAreCompared: a volume moves only to a node that has its type, with the same extra specs; else it stays as it was.
func TestTypesAreCompared(t *testing.T) {
	w := newWorld(t, "a", "b")
	a, b := w.nodes["a"], w.nodes["b"]
	data := content(17, 1<<20)
	v := a.create(data)
	gold, err := a.volumes.CreateType("gold", "", map[string]string{"qos:x": "y"})
	a.check(err)
	_, err = a.volumes.Retype(context.Background(), v.ID, "gold")
	a.check(err)
	refused := func(says string) {
		t.Helper()
		m := a.final(a.accept(v.ID, migration.Request{Host: toB}).ID)
		if m.State != catalog.StateFailed || !strings.Contains(m.Reason, says) {
			t.Errorf("%s: %q does not say %q", m.State, m.Reason, says)
		}
		if owner, record := w.clean(v.ID, data); owner != a || record.TypeID != gold.ID {
			t.Errorf("owner %s, type %q", owner.name, record.TypeID)
		}
	}
	refused("volume type gold (" + gold.ID + ") does not exist at the target")
	other, err := b.volumes.CreateType("gold", "", map[string]string{"qos:x": "z"})
	b.check(err)
	refused("volume type gold differs at the target")

	_, err = b.volumes.ChangeExtraSpecs(other.ID, map[string]string{"qos:x": "y"})
	b.check(err)
	if m := a.final(a.accept(v.ID, migration.Request{Host: toB}).ID); m.State != catalog.StateSucceeded {
		t.Fatalf("%s: %s", m.State, m.Reason)
	}
	if owner, record := w.clean(v.ID, data); owner != b || record.TypeID != gold.ID || record.Specs["qos:x"] != "y" {
		t.Errorf("owner %s, type %q, specs %v", owner.name, record.TypeID, record.Specs)
	}
}
