package migration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cvold/cvold/agent/catalog"
)

// load reads a migration's record: ErrNotFound.
func (e *Engine) load(id string) (m catalog.Migration, err error) {
	err = e.o.Store.View(func(tx catalog.Tx) error {
		m, err = catalog.Migrations.Get(tx, id)
		return err
	})
	if errors.Is(err, catalog.ErrNotFound) {
		return m, refuse(ErrNotFound, "no migration %s", id)
	}
	return m, err
}

func (e *Engine) all() (all []catalog.Migration, err error) {
	err = e.o.Store.View(func(tx catalog.Tx) error {
		all, err = catalog.Migrations.All(tx)
		return err
	})
	return all, err
}

// update changes a migration's record in one transaction.
func (e *Engine) update(id string, fn func(tx catalog.Tx, m *catalog.Migration) error) error {
	return e.o.Store.Update(func(tx catalog.Tx) error {
		m, err := catalog.Migrations.Get(tx, id)
		if err != nil {
			return err
		}
		if err := fn(tx, &m); err != nil {
			return err
		}
		m.UpdatedAt = time.Now().UTC()
		return catalog.Migrations.Put(tx, id, m)
	})
}

// shown is the migration_status that a volume has in each state before the point of no return.
var shown = map[catalog.MigrationState]catalog.MigrationStatus{
	catalog.StateAccepted:  catalog.MigrationStarting,
	catalog.StatePreparing: catalog.MigrationMigrating,
	catalog.StateCopying:   catalog.MigrationMigrating,
	catalog.StateReadying:  catalog.MigrationCompleting,
}

// moveTo enters a state: the record's history says so, and the volume's migration_status shows it.
func moveTo(tx catalog.Tx, m *catalog.Migration, next catalog.MigrationState) error {
	if next != catalog.StateCopying && next != catalog.StateReadying {
		m.Failures = 0 // else they count until bytes were verified: a target may be prepared again and again, and no more
	}
	if next != catalog.StateFailed {
		m.Reason = ""
	}
	m.State = next
	note(m, time.Now(), "%s", said(next))
	if next.Final() {
		m.FinishedAt = time.Now().UTC()
	}
	status, ok := shown[next]
	if !ok {
		return nil
	}
	return changeVolume(tx, m.VolumeID, m.ID, func(v *catalog.Volume) { v.MigrationStatus = status })
}

// said is the line of history with which a state is entered.
func said(s catalog.MigrationState) string {
	return map[catalog.MigrationState]string{
		catalog.StateAccepted:   "accepted",
		catalog.StatePreparing:  "preparing the target",
		catalog.StateCopying:    "copying",
		catalog.StateReadying:   "all chunks verified; the target reads everything back",
		catalog.StateCommitting: "point of no return passed; the target takes the volume over",
		catalog.StateDisposing:  "the target owns the volume; deleting the source",
		catalog.StateRenaming:   "renaming the target",
		catalog.StateForgetting: "closing the records",
		catalog.StateSucceeded:  "succeeded",
		catalog.StateAborting:   "aborting; removing the target",
		catalog.StateFailed:     "failed",
	}[s]
}

// changeVolume applies fn to a volume's record if migration holds it; else it does nothing.
func changeVolume(tx catalog.Tx, id, migration string, fn func(v *catalog.Volume)) error {
	v, err := catalog.Volumes.Get(tx, id)
	if errors.Is(err, catalog.ErrNotFound) || err == nil && v.MigrationID != migration {
		return nil
	}
	if err != nil {
		return err
	}
	fn(&v)
	v.UpdatedAt = time.Now().UTC()
	return catalog.Volumes.Put(tx, id, v)
}

// abort writes the decision to abort: from here on the target can never become the owner. The volume is at once what it
// was before; the target is removed by the step of StateAborting. ErrTooLate past the point of no return; aborting
// twice is success.
func (e *Engine) abort(ctx context.Context, id, reason string) error {
	var before catalog.MigrationState
	err := e.o.touch(ctx, id, touchAbort, func() error {
		return e.update(id, func(tx catalog.Tx, m *catalog.Migration) error {
			before = m.State
			return abortRecord(tx, m, reason)
		})
	})
	if err != nil {
		return err
	}
	e.mu.Lock()
	if r := e.runs[id]; r != nil && r.interrupt != nil && before != catalog.StateAborting { // whose step does just what is asked for
		r.interrupt()
	}
	e.mu.Unlock()
	e.launch(id)
	return nil
}

func abortRecord(tx catalog.Tx, m *catalog.Migration, reason string) error {
	if m.State == catalog.StateAborting {
		return nil
	}
	if !m.State.BeforeCommit() {
		return refuse(ErrTooLate, "migration %s is %s and cannot be aborted any more", m.ID, m.State)
	}
	if err := moveTo(tx, m, catalog.StateAborting); err != nil {
		return err
	}
	m.Reason = reason
	note(m, time.Now(), "reason: %s", reason)
	err := changeVolume(tx, m.VolumeID, m.ID, func(v *catalog.Volume) {
		v.Status, v.PreviousStatus = m.PreviousStatus, ""
		v.MigrationStatus, v.MigrationID = catalog.MigrationError, ""
		v.StatusReason = reason
	})
	if err != nil {
		return err
	}
	return changeVolume(tx, m.TargetID, m.ID, func(v *catalog.Volume) { v.Status = catalog.StatusDeleting })
}

// node is the node of a node@backend#pool.
func node(host string) string {
	name, _, _ := strings.Cut(host, "@")
	return name
}

// prune drops the oldest ended migrations beyond historyMax, in the transaction in which another one ends. A success that
// the target has not confirmed stays: the target may ask after it, and no record would mean that it was aborted.
func prune(tx catalog.Tx) error {
	all, err := catalog.Migrations.All(tx)
	if err != nil {
		return err
	}
	ended := slices.DeleteFunc(all, func(m catalog.Migration) bool {
		return !m.State.Final() || m.State == catalog.StateSucceeded && m.Reason != ""
	})
	if len(ended) <= historyMax {
		return nil
	}
	slices.SortFunc(ended, func(a, b catalog.Migration) int { return a.FinishedAt.Compare(b.FinishedAt) })
	for _, m := range ended[:len(ended)-historyMax] {
		if err := catalog.Migrations.Delete(tx, m.ID); err != nil {
			return fmt.Errorf("forget migration %s: %w", m.ID, err)
		}
	}
	return nil
}

// note adds a line to a migration's history. The first lines and the last ones are kept.
func note(m *catalog.Migration, at time.Time, format string, args ...any) {
	m.Events = append(m.Events, catalog.Event{At: at.UTC(), State: string(m.State), Message: fmt.Sprintf(format, args...)})
	if len(m.Events) > eventsMax {
		m.Events = slices.Delete(m.Events, eventsMax/2, eventsMax/2+1)
	}
}

// noteNew is note unless the last line says it already.
func noteNew(m *catalog.Migration, at time.Time, line string) {
	if n := len(m.Events); n == 0 || m.Events[n-1].Message != line {
		note(m, at, "%s", line)
	}
}
