package e2e

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// TestCampaignKill kills one agent, or both, at random moments of a migration, once or twice, and starts it again. Whatever
// the moment: in the end the volume is there once, and whole.
func TestCampaignKill(t *testing.T) {
	t.Parallel()
	rounds := 4
	if os.Getenv("CVOLD_CAMPAIGN") == "full" {
		rounds = 100
	}
	t.Logf("seed %d", *seed)
	r := rand.New(rand.NewPCG(uint64(*seed), 0))
	a, b := started(t, slowly)
	data := random(t, size)
	id := a.filled("db", data)
	owner, other := a, b
	for round := range rounds {
		t.Logf("round %d: from %s", round, owner.name)
		if killed(t, r, owner, other, id) {
			owner, other = other, owner
		}
		checkSettled(t, a, b, owner, id, data)
		if t.Failed() {
			t.Fatalf("round %d of seed %d", round, *seed)
		}
	}
}

// killed is one round: a migration with agents killed in it. moved says that it succeeded.
func killed(t *testing.T, r *rand.Rand, from, to *node, volume string) (moved bool) {
	t.Helper()
	defer took(t, "round", time.Now())
	abort := r.IntN(4) == 0
	id := from.migrate(volume, to.host())
	for range 1 + r.IntN(2) {
		victim := from
		if r.IntN(2) == 0 {
			victim = to
		}
		moment := time.Duration(r.Int64N(int64(1500 * time.Millisecond)))
		passes(t, moment)
		t.Logf("%s is killed after %s, %s", victim.name, moment, id)
		victim.kill()
		victim.start()
	}
	if abort {
		a := from.cvol("migration", "abort", id)
		t.Logf("abort: %d %s", a.code, a.errors)
	}
	m := from.over(id)
	t.Logf("%s at attempt %d: %s", m.State, m.Attempt, m.Reason)
	if m.Outcome == "failed" && !abort {
		t.Fatalf("migration failed: %s", m.Reason)
	}
	to.guestsGone()
	return m.Outcome == "succeeded"
}

// passes lets a random time pass: it stands for nothing that could be waited for.
func passes(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}
