package volume

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
)

// excuses are what a call may answer when others are at the same volume.
var excuses = []error{ErrInUse, ErrMigrating, ErrNotFound, ErrStatus, dataplane.ErrBusy}

// TestEverybodyAtOnce: views, exports, migrations and deletes of the same volumes from many goroutines. At no time does
// a migration share a volume, or do two exports write; at the end nothing is left over.
func TestEverybodyAtOnce(t *testing.T) {
	r := newRig(t)
	const volumes, workers, rounds = 3, 12, 15
	crowds := make([]*crowd, volumes)
	for i := range crowds {
		crowds[i] = &crowd{rig: r, t: t, id: r.create(fmt.Sprint(i)).ID}
	}
	var group sync.WaitGroup
	for w := range workers {
		rng := rand.New(rand.NewPCG(1, uint64(w)))
		group.Go(func() {
			for range rounds {
				c := crowds[rng.IntN(volumes)]
				[]func(string){c.view, c.export, c.exportReadOnly, c.migrate}[rng.IntN(4)](fmt.Sprint(w))
			}
			if w < volumes {
				c := crowds[w]
				c.excused(r.Delete(t.Context(), c.id))
			}
		})
	}
	group.Wait()
	whole(t, r)
	if s := r.Stats(); s.Devices != 0 || s.Attachments != 0 || len(s.Users) != 0 || len(r.locks.keys) != 0 {
		t.Errorf("left over: %+v, %d locks", s, len(r.locks.keys))
	}
	all, err := r.List(Filter{Temporary: true})
	check(t, err)
	for _, v := range all {
		check(t, r.Delete(t.Context(), v.ID))
	}
}

// crowd counts who has one volume.
type crowd struct {
	*rig
	t                           *testing.T
	id                          string
	all, writers, migrationOpen atomic.Int32
}

func (c *crowd) excused(err error) bool {
	if err == nil {
		return true
	}
	for _, excuse := range excuses {
		if errors.Is(err, excuse) {
			return false
		}
	}
	c.t.Error(err)
	return false
}

func (c *crowd) view(name string) {
	h, err := c.Open(c.t.Context(), c.id, User{UserView, name}, dataplane.Mode{ReadOnly: true})
	if !c.excused(err) {
		return
	}
	c.all.Add(1)
	if c.migrationOpen.Load() > 0 {
		c.t.Error("a view beside a migration")
	}
	c.all.Add(-1)
	c.closes(h)
}

func (c *crowd) closes(h *Handle) {
	if err := h.Close(); err != nil {
		c.t.Error(err)
	}
}

func (c *crowd) export(string) { c.exportAs(false) }

func (c *crowd) exportReadOnly(string) { c.exportAs(true) }

func (c *crowd) exportAs(readOnly bool) {
	a, err := c.Export(c.t.Context(), c.id, readOnly)
	if !c.excused(err) {
		return
	}
	c.all.Add(1)
	if !readOnly && c.writers.Add(1) > 1 {
		c.t.Error("two exports write")
	}
	if c.migrationOpen.Load() > 0 {
		c.t.Error("an export beside a migration")
	}
	c.all.Add(-1)
	if !readOnly {
		c.writers.Add(-1)
	}
	if err := c.Unexport(c.t.Context(), a.ID); err != nil {
		c.t.Error(err)
	}
}

func (c *crowd) migrate(name string) {
	if !c.excused(c.Claim(c.id, func(tx catalog.Tx, v catalog.Volume) error {
		if v.MigrationID != "" {
			return ErrMigrating
		}
		return hold(name)(tx, v)
	})) {
		return
	}
	h, err := c.Open(c.t.Context(), c.id, User{UserMigration, name}, dataplane.Mode{ReadOnly: true})
	if c.excused(err) {
		if c.migrationOpen.Add(1) > 1 || c.all.Load() > 0 {
			c.t.Error("a migration is not alone")
		}
		c.migrationOpen.Add(-1)
		c.closes(h)
	}
	c.excused(c.Claim(c.id, hold("")))
}
