package agent

import (
	"testing"

	"github.com/cvold/cvold/agent/catalog"
)

// serviceUUID is that of the node's only service.
func (n *node) serviceUUID() string {
	n.t.Helper()
	var all []catalog.Service
	err := n.agent.store.View(func(tx catalog.Tx) (err error) {
		all, err = catalog.Services.All(tx)
		return err
	})
	if err != nil || len(all) != 1 || all[0].Host != n.name+"@pool" {
		n.t.Fatalf("services %+v, %v", all, err)
	}
	return all[0].UUID
}

func TestServicesKeepTheirUUID(t *testing.T) {
	a, _ := pair(t)
	a.start()
	first := a.serviceUUID()
	if first == "" {
		t.Fatal("the service has no uuid")
	}
	if err := a.agent.registerServices(); err != nil {
		t.Fatal(err)
	}
	if again := a.serviceUUID(); again != first {
		t.Errorf("uuid %s, and after another registration %s", first, again)
	}
}
