package e2e

import (
	"slices"
	"testing"

	"github.com/cvold/cvold/client"
)

// TestEvents follows a migration from both of its nodes: its states come in their order, progress between them, and the
// volume goes from one and comes to the other.
func TestEvents(t *testing.T) {
	a, b := started(t, slowly)
	id := a.filled("db", random(t, size))
	order := []string{"accepted", "preparing", "copying", "readying", "committing", "disposing", "renaming", "forgetting", "succeeded"}
	ready := make(chan struct{}, 2)
	seen := make(chan []client.Change, 2)
	follow := func(n *node, over func(client.Change) bool) {
		var all []client.Change
		for c, err := range n.client.Changes(n.context(), client.ChangeFilter{VolumeID: id}) {
			if err != nil {
				t.Errorf("%s: %v after %d events", n.name, err, len(all))
				break
			}
			if c.Kind == client.ChangeReady {
				ready <- struct{}{}
			}
			if all = append(all, c); over(c) {
				break
			}
		}
		seen <- all
	}
	succeeded, left := false, false
	go follow(a, func(c client.Change) bool {
		succeeded = succeeded || c.Migration != nil && c.Migration.State == "succeeded"
		left = left || c.Kind == client.ChangeVolume && c.ID == id && c.Deleted
		return succeeded && left
	})
	<-ready
	a.must("migrate", "--wait", id, b.host())
	at, progress := 0, 0
	for _, c := range <-seen {
		switch {
		case c.Migration != nil:
			i := slices.Index(order, c.Migration.State)
			if i < at {
				t.Errorf("%s came after %s", c.Migration.State, order[at])
			}
			at = i
		case c.Progress != nil:
			progress++
		}
	}
	if order[at] != "succeeded" || progress == 0 {
		t.Errorf("last state %s, %d times progress", order[at], progress)
	}
	go follow(b, func(c client.Change) bool { return c.Kind == client.ChangeReady })
	<-ready
	if all := <-seen; !slices.ContainsFunc(all, func(c client.Change) bool { return c.Volume != nil && c.Volume.Owner == b.name }) {
		t.Errorf("node2 tells %+v", all)
	}
}
