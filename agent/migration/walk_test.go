package migration_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/migration"
)

var walkSeed = flag.Uint64("walk.seed", 0, "seed of the crash walk's slice; 0 draws one")

// crashPoint is one place of a crash: before or after a touch, on one node, at its nth time.
type crashPoint struct {
	node  string
	touch migration.Touch
	after bool
	nth   int
}

func (p crashPoint) String() string {
	when := "before"
	if p.after {
		when = "after"
	}
	return fmt.Sprintf("%s %s %s %d", p.node, when, p.touch, p.nth)
}

// arm makes the world crash at p, once; fired is closed then.
func (w *world) arm(p crashPoint) (fired chan struct{}) {
	fired = make(chan struct{})
	var once sync.Once
	var mu sync.Mutex
	count := 0
	w.setHook(func(n *testNode, _ string, t migration.Touch, after bool) error {
		if n.name != p.node || t != p.touch || after != p.after {
			return nil
		}
		mu.Lock()
		count++
		due := count == p.nth
		mu.Unlock()
		if !due {
			return nil
		}
		once.Do(func() { close(fired) })
		return errCrashed
	})
	return fired
}

// drive asks for a migration and, if abort, ends it while it copies. It answers as far as the nodes live.
func (w *world) drive(id, host string, abort bool) {
	a := w.nodes["a"]
	var reached <-chan string
	release := func() {}
	if abort {
		reached, release = w.hold("a", "device: copy")
	}
	defer release()
	m, err := a.engine.Accept(w.t.Context(), id, migration.Request{Host: host})
	if err != nil || !abort {
		return
	}
	select {
	case <-reached:
		_ = a.engine.Abort(w.t.Context(), m.ID, "walked") // an error is the crash
	case <-a.crashed:
	case <-w.nodes["b"].crashed:
	}
}

// walk runs one migration with a crash at p and a restart, and checks how it ended.
func walk(t *testing.T, p crashPoint, host string, abort bool) {
	w := newWorld(t, "a", "b")
	data := content(8, 3<<20+512)
	v := w.nodes["a"].create(data)
	fired := w.arm(p)
	w.drive(v.ID, host, abort)
	w.settle(p, fired)
	end, accepted := w.end()
	if accepted && !abort && end.State != catalog.StateSucceeded {
		t.Errorf("ended as %s: %s", end.State, end.Reason)
	}
	owner, record := w.clean(v.ID, data)
	want := "a"
	if end.State == catalog.StateSucceeded {
		want = host[:1]
	}
	if owner.name != want {
		t.Errorf("%s, and the owner is %s", end.State, owner.name)
	}
	if end.State == catalog.StateSucceeded && record.Host != host {
		t.Errorf("the volume is at %s, not %s", record.Host, host)
	}
	if end.State == catalog.StateSucceeded && record.Name != "volume-"+v.ID {
		t.Errorf("the object's name is %s", record.Name)
	}
}

// settle waits for the crash, restarts the node, and lets all run free.
func (w *world) settle(p crashPoint, fired <-chan struct{}) {
	w.t.Helper()
	select {
	case <-fired:
	case <-time.After(patience):
		w.t.Fatalf("%s was never reached\n%s", p, w.dump())
	}
	w.owners()
	w.setHook(nil)
	w.nodes[p.node].restart()
}

// owners checks that no two nodes hold a record of the same volume at this instant.
func (w *world) owners() {
	w.t.Helper()
	owner := map[string]string{}
	for _, n := range w.nodes {
		volumes, _, _ := n.records()
		for _, v := range volumes {
			if other, taken := owner[v.ID]; taken && w.nodes[other].owns(v.ID) {
				w.t.Errorf("volume %s is owned by %s and %s", v.ID, other, n.name)
			}
			owner[v.ID] = n.name
		}
	}
}

// owns reads the node's record of a volume. owners asks a second time, for it reads one node after the other.
func (n *testNode) owns(id string) bool {
	volumes, _, _ := n.records()
	return slices.ContainsFunc(volumes, func(v catalog.Volume) bool { return v.ID == id })
}

// end waits until the migration, if one was accepted, is final at the source and nothing is left to do at the target.
func (w *world) end() (m catalog.Migration, accepted bool) {
	w.t.Helper()
	w.eventually("the migration ends", func() bool {
		w.owners()
		_, migrations, guests := w.nodes["a"].records()
		_, _, there := w.nodes["b"].records()
		if accepted = len(migrations) > 0; accepted {
			m = migrations[0]
		}
		return len(guests)+len(there) == 0 && (!accepted || m.State.Final())
	})
	return m, accepted
}

// points are the crash points of one clean run: every touch that it made, before and after.
func points(t *testing.T, host string, abort bool) (all []crashPoint) {
	w := newWorld(t, "a", "b")
	v := w.nodes["a"].create(content(8, 3<<20+512))
	seen := map[crashPoint]bool{}
	var mu sync.Mutex
	w.setHook(func(n *testNode, _ string, touch migration.Touch, after bool) error {
		mu.Lock()
		defer mu.Unlock()
		seen[crashPoint{n.name, touch, after, 1}] = true
		return nil
	})
	w.drive(v.ID, host, abort)
	w.end()
	mu.Lock()
	defer mu.Unlock()
	declared := migration.AllTouches()
	for p := range seen {
		if !declared[p.touch] {
			t.Errorf("touch %q is in no table", p.touch)
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(x, y crashPoint) int { return strings.Compare(x.String(), y.String()) })
	return all
}

// TestCampaignCrashWalk crashes either node before and after each touch of a migration's step table, restarts it, and demands
// one owner, every byte and nothing left over. The short run draws a third of the points; CVOLD_CAMPAIGN=full takes all.
func TestCampaignCrashWalk(t *testing.T) { crashWalk(t, toB, false, 70) }

// TestCampaignCrashWalkOfAbort does the same for a migration that is aborted while it copies.
func TestCampaignCrashWalkOfAbort(t *testing.T) { crashWalk(t, toB, true, 40) }

// TestCampaignCrashWalkInside does the same between two back ends of one node, where P2 and P3 are one transaction.
func TestCampaignCrashWalkInside(t *testing.T) { crashWalk(t, "a@spare#spare", false, 60) }

func crashWalk(t *testing.T, host string, abort bool, least int) {
	all := points(t, host, abort)
	if len(all) < least {
		t.Errorf("only %d crash points, not %d", len(all), least)
	}
	seed := *walkSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	drawn := all
	if os.Getenv("CVOLD_CAMPAIGN") != "full" {
		r := rand.New(rand.NewPCG(seed, 0))
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		drawn = all[:len(all)/3]
	}
	t.Logf("%d of %d points, -walk.seed=%d", len(drawn), len(all), seed)
	for _, p := range drawn {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			walk(t, p, host, abort)
		})
	}
}
