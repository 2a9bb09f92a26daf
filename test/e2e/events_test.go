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
	go follow(a, func(c client.Change) bool { return c.Migration != nil && c.Migration.State == "succeeded" })
	<-ready
	a.must("migrate", "--wait", id, b.host())
	at, progress, gone := 0, 0, false
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
		case c.Kind == client.ChangeVolume && c.ID == id:
			gone = c.Deleted
		}
	}
	if order[at] != "succeeded" || progress == 0 || !gone {
		t.Errorf("last state %s, %d times progress, volume gone %v", order[at], progress, gone)
	}
	go follow(b, func(c client.Change) bool { return c.Kind == client.ChangeReady })
	<-ready
	if all := <-seen; !slices.ContainsFunc(all, func(c client.Change) bool { return c.Volume != nil && c.Volume.Owner == b.name }) {
		t.Errorf("node2 tells %+v", all)
	}
}
