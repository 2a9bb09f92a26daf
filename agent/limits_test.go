package agent

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cvold/cvold/client"
)

// scrape is what the agent's metrics have now.
func (n *node) scrape() string {
	n.t.Helper()
	w := httptest.NewRecorder()
	n.agent.metrics.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	p, err := io.ReadAll(w.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return string(p)
}

func (n *node) scraped(want ...string) {
	n.t.Helper()
	got := n.scrape()
	for _, line := range want {
		if !strings.Contains(got, "\n"+line+"\n") {
			n.t.Errorf("%s: the scrape has no %q", n.name, line)
		}
	}
}

// TestLimits: what is configured counts, is changed while a copy waits, and is configured again after a restart; what the
// migration has of its own stays. The copy's writes at the target are no foreground.
func TestLimits(t *testing.T) {
	a, b := pair(t)
	a.options += "transfer_rate = 1\ntransfer_class = background\nnode_transfer_rate = 1G\nnode_transfer_iops = 900\n"
	a.start()
	b.start()
	v := a.create("db", 3<<20)
	a.fill(v.ID, pattern(3<<20))
	id, err := a.client.MigrateVolume(a.context(), v.ID, client.MigrateVolume{Host: b.host()})
	must(t, err)
	limits := func() map[string]client.Limit {
		all, err := b.client.Limits(b.context())
		must(t, err)
		of := map[string]client.Limit{}
		for _, l := range all {
			of[l.Node+" "+l.Kind] = l
		}
		return of
	}
	a.await("a chunk passes", func() bool { return limits()["a migration"].PassedOperations > 0 })
	want := client.Limit{
		Node: "a", Kind: "migration", Name: id, VolumeID: v.ID, VolumeName: "db", TransferClass: "background",
		BytesPerSecond: 1, PassedBytes: 1 << 20, PassedOperations: 1,
	}
	got := limits()["a migration"]
	if got.WaitedSeconds = 0; got != want {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	if l := limits()["a node"]; l.BytesPerSecond != 1<<30 || l.IOPS != 900 {
		t.Errorf("the node's limit is %+v", l)
	}
	two := int64(2)
	_, err = a.client.LimitNode(a.context(), client.LimitChange{BytesPerSecond: &two})
	must(t, err)
	_, err = a.client.LimitMigration(a.context(), id, client.LimitChange{BytesPerSecond: &two, TransferClass: client.TransferNormal})
	must(t, err)
	a.scraped(`cvold_limit_bytes_per_second{backend="",limit="node"} 2`)
	a.stop()
	a.start()
	if l := limits()["a migration"]; l.BytesPerSecond != 2 || l.TransferClass != "normal" {
		t.Errorf("after a restart the migration has %+v", l)
	}
	a.scraped(`cvold_limit_bytes_per_second{backend="",limit="node"} 1.073741824e+09`)
	_, err = b.client.LimitMigration(b.context(), id, client.LimitChange{BytesPerSecond: new(int64)}) // asked of the other node
	must(t, err)
	var m client.Migration
	for !m.Final {
		m, err = a.client.WaitMigration(a.context(), id, m.State, patience)
		must(t, err)
	}
	if m.Outcome != client.OutcomeSucceeded {
		t.Errorf("%s: %s", m.State, m.Reason)
	}
	b.scraped(`cvold_foreground_requests_total 0`)
	at := b.export(v.ID)
	d := b.device(at)
	defer d.Close()
	if _, err := d.WriteAt(pattern(4096), 0); err != nil {
		t.Fatal(err)
	}
	b.scraped(`cvold_foreground_requests_total 1`, `cvold_limit_passed_operations_total{backend="pool",limit="backend"} 0`)
}
