package agent

import (
	"strings"
	"testing"

	"github.com/cvold/cvold/agent/config"
	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/dataplane"
)

// TestAgainst: what peers say decides whether an object may become a volume, and above which epoch.
func TestAgainst(t *testing.T) {
	a := &Agent{config: &config.Config{Node: "a"}}
	stores := map[string]string{"store-b": "b"}
	for _, c := range []struct {
		name   string
		mark   dataplane.Mark
		claims map[string]migration.Claim
		says   string // empty: it may
		epoch  uint64
	}{
		{name: "nobody knows it", mark: dataplane.Mark{StoreID: "lost"}},
		{name: "a peer's object", mark: dataplane.Mark{StoreID: "store-b"}, says: "node b"},
		{name: "a peer owns it", claims: map[string]migration.Claim{"b": {Owns: true, Epoch: 3}}, says: "node b owns", epoch: 4},
		{name: "migrating", claims: map[string]migration.Claim{"b": {Migration: "m"}}, says: "migration m", epoch: 1},
		{name: "moved to a third", claims: map[string]migration.Claim{"b": {MovedTo: "c", Epoch: 2}}, says: "to node c", epoch: 3},
		{name: "came here", mark: dataplane.Mark{MigrationID: "m"}, claims: map[string]migration.Claim{"b": {MovedTo: "a", Epoch: 2}}, epoch: 3},
		{name: "went round", claims: map[string]migration.Claim{"b": {MovedTo: "a", Epoch: 2}, "c": {MovedTo: "a", Epoch: 7}}, epoch: 8},
		{name: "handed over, and owned", claims: map[string]migration.Claim{"b": {MovedTo: "a", Epoch: 2}, "c": {Owns: true, Epoch: 3}}, says: "node c owns", epoch: 4},
		{name: "unfinished", mark: dataplane.Mark{MigrationID: "m"}, says: "may be unfinished"},
	} {
		got := a.against(volume.Lost{Object: dataplane.Object{Mark: c.mark}}, c.claims, stores)
		if (got == "") != (c.says == "") || !strings.Contains(got, c.says) || above(c.claims) != c.epoch {
			t.Errorf("%s: %q, epoch %d; want %q, %d", c.name, got, above(c.claims), c.says, c.epoch)
		}
	}
}
