package migration

import (
	"cmp"
	"slices"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/transfer"
)

// Limits slow down the transfers of the migrations from this agent. The zero value has none.
type Limits struct {
	// Each and Class are what a migration's own transfer has that was asked for without a limit or class; no class is normal.
	Each  transfer.Rate
	Class catalog.TransferClass
	// Node is for all transfers together, Backends (by name) for those from and to a back end of this agent, Background for
	// those of that class. The engine makes what is missing.
	Node, Background *transfer.Limit
	Backends         map[string]*transfer.Limit
}

// complete is l with every limit in it that the back ends need.
func (l Limits) complete(backends []volume.Backend) Limits {
	l.Class = cmp.Or(l.Class, catalog.TransferNormal)
	l.Node, l.Background = orNone(l.Node), orNone(l.Background)
	all := make(map[string]*transfer.Limit, len(backends))
	for _, b := range backends {
		all[b.Name] = orNone(l.Backends[b.Name])
	}
	l.Backends = all
	return l
}

func orNone(l *transfer.Limit) *transfer.Limit {
	if l == nil {
		return transfer.NewLimit(transfer.Rate{})
	}
	return l
}

// own are the rate and the class of a migration's own transfer.
func (l *Limits) own(m catalog.Migration) (transfer.Rate, catalog.TransferClass) {
	return changed(l.Each, LimitChange{BytesPerSecond: m.BytesPerSecond, OperationsPerSecond: m.OperationsPerSecond}),
		cmp.Or(m.TransferClass, l.Class)
}

// LimitChange asks for other limits; what is nil or empty stays as it is.
type LimitChange struct {
	// BytesPerSecond and OperationsPerSecond: 0 is no limit.
	BytesPerSecond, OperationsPerSecond *int64
	// Class is for a migration alone.
	Class catalog.TransferClass
}

// check refuses what cannot be: ErrInvalid.
func (c LimitChange) check() error {
	for what, n := range map[string]*int64{"bytes": c.BytesPerSecond, "operations": c.OperationsPerSecond} {
		if n != nil && *n < 0 {
			return refuse(ErrInvalid, "%d %s a second are no limit: 0 is none", *n, what)
		}
	}
	if c.Class != "" && !c.Class.Valid() {
		return refuse(ErrInvalid, "there is no transfer class %q: use %s or %s", c.Class, catalog.TransferNormal, catalog.TransferBackground)
	}
	return nil
}

// changed is r after c.
func changed(r transfer.Rate, c LimitChange) transfer.Rate {
	if c.BytesPerSecond != nil {
		r.Bytes = *c.BytesPerSecond
	}
	if c.OperationsPerSecond != nil {
		r.Operations = *c.OperationsPerSecond
	}
	return r
}

// record notes the change in the migration's record.
func (c LimitChange) record(m *catalog.Migration) {
	m.BytesPerSecond, m.OperationsPerSecond = cmp.Or(c.BytesPerSecond, m.BytesPerSecond), cmp.Or(c.OperationsPerSecond, m.OperationsPerSecond)
	m.TransferClass = cmp.Or(c.Class, m.TransferClass)
}

// LimitKind says what a limit is for.
type LimitKind string

// The kinds of limits.
const (
	LimitOfNode       LimitKind = "node"
	LimitOfBackend    LimitKind = "backend"
	LimitOfBackground LimitKind = "background"
	LimitOfMigration  LimitKind = "migration"
)

// Limit is a limit as it is shown.
type Limit struct {
	Kind LimitKind
	// Name is the back end's or the node's, the class, or the migration's id.
	Name string
	Rate transfer.Rate
	// Stats are since the agent's start; a migration's since then or since it was accepted.
	Stats transfer.LimitStats
	// Migration and Class are that of a migration's limit.
	Migration catalog.Migration
	Class     catalog.TransferClass
}

func shownLimit(kind LimitKind, name string, l *transfer.Limit) Limit {
	return Limit{Kind: kind, Name: name, Rate: l.Rate(), Stats: l.Stats()}
}

// sharedLimits are those that are nobody's own: the node's, the back ends' by name, the background's.
func (e *Engine) sharedLimits() []Limit {
	l := e.o.Limits
	all := []Limit{shownLimit(LimitOfNode, e.o.Node, l.Node)}
	for name, b := range l.Backends {
		all = append(all, shownLimit(LimitOfBackend, name, b))
	}
	slices.SortFunc(all[1:], func(a, b Limit) int { return cmp.Compare(a.Name, b.Name) })
	return append(all, shownLimit(LimitOfBackground, string(catalog.TransferBackground), l.Background))
}

// AllLimits are all limits in force: the shared ones, and those of the migrations from this agent that may yet copy, in
// the order of their acceptance.
func (e *Engine) AllLimits() ([]Limit, error) {
	migrations, err := e.all()
	if err != nil {
		return nil, err
	}
	slices.SortFunc(migrations, func(a, b catalog.Migration) int { return a.CreatedAt.Compare(b.CreatedAt) })
	all := e.sharedLimits()
	for _, m := range migrations {
		if m.State.BeforeCommit() {
			all = append(all, e.limitOf(m))
		}
	}
	return all, nil
}

// limitOf is a migration's own limit.
func (e *Engine) limitOf(m catalog.Migration) Limit {
	l := Limit{Kind: LimitOfMigration, Name: m.ID, Migration: m}
	l.Rate, l.Class = e.o.Limits.own(m)
	if r := e.running(m.ID); r != nil {
		l.Stats = r.limit.Stats()
	}
	return l
}

// LimitNode changes the limit of all transfers together, until the agent's restart: ErrInvalid.
func (e *Engine) LimitNode(c LimitChange) (Limit, error) {
	if err := e.setShared(e.o.Limits.Node, c); err != nil {
		return Limit{}, err
	}
	return shownLimit(LimitOfNode, e.o.Node, e.o.Limits.Node), nil
}

// LimitBackend changes the limit of a back end, until the agent's restart: ErrInvalid, ErrNotFound.
func (e *Engine) LimitBackend(name string, c LimitChange) (Limit, error) {
	l := e.o.Limits.Backends[name]
	if l == nil {
		return Limit{}, refuse(ErrNotFound, "no back end %s", name)
	}
	if err := e.setShared(l, c); err != nil {
		return Limit{}, err
	}
	return shownLimit(LimitOfBackend, name, l), nil
}

func (e *Engine) setShared(l *transfer.Limit, c LimitChange) error {
	if err := c.check(); err != nil {
		return err
	}
	if c.Class != "" {
		return refuse(ErrInvalid, "only a migration has a transfer class")
	}
	e.limiting.Lock()
	defer e.limiting.Unlock()
	l.Set(changed(l.Rate(), c))
	return nil
}

// LimitMigration changes a migration's own limit and class, for good: ErrInvalid, ErrNotFound, and ErrTooLate once it
// copies nothing any more.
func (e *Engine) LimitMigration(id string, c LimitChange) (Limit, error) {
	if err := c.check(); err != nil {
		return Limit{}, err
	}
	if _, err := e.load(id); err != nil {
		return Limit{}, err
	}
	var now catalog.Migration
	err := e.update(id, func(_ catalog.Tx, m *catalog.Migration) error {
		if !m.State.BeforeCommit() {
			return refuse(ErrTooLate, "migration %s is %s and copies nothing any more", m.ID, m.State)
		}
		c.record(m)
		rate, class := e.o.Limits.own(*m)
		note(m, time.Now(), "limits: %d bytes and %d operations a second (0 is none), class %s", rate.Bytes, rate.Operations, class)
		now = *m
		return nil
	})
	if err != nil {
		return Limit{}, err
	}
	if r := e.running(id); r != nil {
		if err := r.obey(); err != nil {
			return Limit{}, err
		}
	}
	return e.limitOf(now), nil
}

// obey sets what slows the run's transfer down to what its record says now.
func (r *run) obey() error {
	r.e.limiting.Lock()
	defer r.e.limiting.Unlock()
	m, err := r.e.load(r.id)
	if err != nil {
		return err
	}
	l := &r.e.o.Limits
	rate, class := l.own(m)
	r.limit.Set(rate)
	limits := []*transfer.Limit{r.limit}
	if class == catalog.TransferBackground {
		limits = append(limits, l.Background)
	}
	for _, host := range []string{m.SourceHost, m.TargetHost} {
		if at, err := volume.ParseHost(host); err == nil && at.Node == r.e.o.Node {
			limits = append(limits, l.Backends[at.Backend])
		}
	}
	r.share.Use(append(limits, l.Node)...)
	return nil
}
