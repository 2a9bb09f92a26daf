package e2e

import (
	"slices"
	"testing"

	"github.com/cvold/cvold/client"
)

// TestThrottle: a migration that would take days ends at once when its limit is lifted, at either node.
func TestThrottle(t *testing.T) {
	t.Parallel()
	a, b := started(t, "transfer_rate = 10")
	data := random(t, 8<<20)
	volume := a.filled("db", data)
	id := a.migrate("db", b.host(), "--iops", "50", "--class", "background")
	own := func() client.Limit {
		var answer client.LimitsAnswer
		b.parse(&answer, "throttle")
		i := slices.IndexFunc(answer.Limits, func(l client.Limit) bool { return l.Name == id })
		if i < 0 {
			t.Fatalf("no limit of the migration in %+v", answer)
		}
		return answer.Limits[i]
	}
	a.await("a chunk passes", func() bool { return own().PassedOperations > 0 })
	if l := own(); l.BytesPerSecond != 10 || l.IOPS != 50 || l.TransferClass != client.TransferBackground || l.PassedOperations != 1 {
		t.Errorf("the migration's limit is %+v", l)
	}
	b.must("throttle", "migration", "db", "--rate", "1G", "--iops", "0", "--class", "normal")
	if m := a.over(id); m.Outcome != client.OutcomeSucceeded {
		t.Errorf("%s: %s", m.State, m.Reason)
	}
	if again := a.cvol("throttle", "migration", id, "--rate", "1"); again.code != 5 {
		t.Errorf("limit what has ended: exit code %d: %s", again.code, again.errors)
	}
	b.guestsGone()
	checkSettled(t, a, b, b, volume, data)
}
