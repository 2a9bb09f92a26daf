package volume

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cvold/cvold/agent/catalog"
)

// lookup is the record of a volume that is this agent's: ErrNotFound, or a *MovedError where a stub knows of a later
// owner.
func lookup(tx catalog.Tx, id string) (catalog.Volume, error) {
	v, err := catalog.Volumes.Get(tx, id)
	found := err == nil
	if err != nil && !errors.Is(err, catalog.ErrNotFound) && !errors.Is(err, catalog.ErrInvalid) {
		return v, err
	}
	stub, err := catalog.Stubs.Get(tx, id)
	switch {
	case err == nil && (!found || stub.Epoch > v.OwnerEpoch):
		return v, &MovedError{VolumeID: id, Node: stub.Node, Epoch: stub.Epoch}
	case found && (err == nil || errors.Is(err, catalog.ErrNotFound)):
		return v, nil
	case errors.Is(err, catalog.ErrNotFound) || errors.Is(err, catalog.ErrInvalid):
		return v, fmt.Errorf("volume %q: %w", id, ErrNotFound)
	}
	return v, err
}

// attachmentsOf are the attachments of a volume, oldest first.
func attachmentsOf(tx catalog.Tx, id string) ([]catalog.Attachment, error) {
	all, err := catalog.Attachments.All(tx)
	all = slices.DeleteFunc(all, func(a catalog.Attachment) bool { return a.VolumeID != id })
	slices.SortStableFunc(all, func(a, b catalog.Attachment) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return all, err
}

// settle makes the status of v say whether there are attachments. The record of a volume that a migration holds is the
// migration's, and other statuses say something else.
func settle(tx catalog.Tx, v *catalog.Volume) error {
	if v.MigrationID != "" || v.Status != catalog.StatusAvailable && v.Status != catalog.StatusInUse {
		return nil
	}
	attached, err := attachmentsOf(tx, v.ID)
	if err != nil {
		return err
	}
	v.Status = catalog.StatusAvailable
	if len(attached) > 0 {
		v.Status = catalog.StatusInUse
	}
	return nil
}

// change rewrites the record of a volume in one transaction and returns it as it is now. fn may run again.
func (m *Manager) change(id string, fn func(tx catalog.Tx, v *catalog.Volume) error) (catalog.Volume, error) {
	var now catalog.Volume
	err := m.o.Store.Update(func(tx catalog.Tx) error {
		v, err := lookup(tx, id)
		if err != nil {
			return err
		}
		if err := fn(tx, &v); err != nil {
			return err
		}
		v.UpdatedAt = m.now()
		now = v
		return catalog.Volumes.Put(tx, id, v)
	})
	return now, err
}

// Get is the record of a volume: ErrNotFound, or a *MovedError for one that was handed over.
func (m *Manager) Get(id string) (catalog.Volume, error) {
	v, _, err := m.look(id)
	return v, err
}

// look is the record of a volume with its attachments.
func (m *Manager) look(id string) (v catalog.Volume, attached []catalog.Attachment, err error) {
	err = m.o.Store.View(func(tx catalog.Tx) error {
		if v, err = lookup(tx, id); err != nil {
			return err
		}
		attached, err = attachmentsOf(tx, id)
		return err
	})
	return v, attached, err
}

// Filter selects volumes; an empty field selects all.
type Filter struct {
	Name, ProjectID, TypeID, Host string
	Status                        catalog.Status
	// Temporary: the temporary volumes of migrations too, which are no one's volumes.
	Temporary bool
}

func (f Filter) matches(v catalog.Volume) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	return is(f.Name, v.DisplayName) && is(f.ProjectID, v.ProjectID) && is(f.TypeID, v.TypeID) && is(f.Host, v.Host) &&
		is(string(f.Status), string(v.Status)) && (f.Temporary || v.UseQuota)
}

// List is the records that f selects, oldest first. Volumes that were handed over are not among them.
func (m *Manager) List(f Filter) ([]catalog.Volume, error) {
	var all []catalog.Volume
	err := m.o.Store.View(func(tx catalog.Tx) (err error) {
		all, err = m.volumes.All(tx)
		return err
	})
	all = slices.DeleteFunc(all, func(v catalog.Volume) bool { return !f.matches(v) })
	slices.SortStableFunc(all, func(a, b catalog.Volume) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return all, err
}

// cloneRecord shares nothing with v that can be changed.
func cloneRecord(v catalog.Volume) catalog.Volume {
	v.Metadata, v.Specs = maps.Clone(v.Metadata), maps.Clone(v.Specs)
	return v
}

// Adopt writes the record of a volume that another agent hands over, in the transaction of the caller, who has the turn
// of the migration. It may be done twice. A stub of an earlier owner goes. ErrMoved, ErrStatus: this agent knows of a
// later owner, or of another volume with that id at that epoch.
func Adopt(tx catalog.Tx, v catalog.Volume) error {
	stub, err := catalog.Stubs.Get(tx, v.ID)
	switch {
	case err == nil && stub.Epoch >= v.OwnerEpoch:
		return &MovedError{VolumeID: v.ID, Node: stub.Node, Epoch: stub.Epoch}
	case err != nil && !errors.Is(err, catalog.ErrNotFound):
		return err
	}
	have, err := catalog.Volumes.Get(tx, v.ID)
	switch {
	case err == nil && have.OwnerEpoch == v.OwnerEpoch && have.Identity == v.Identity:
		return nil // done before; what happened to the volume since stays
	case err == nil && have.OwnerEpoch >= v.OwnerEpoch:
		return fmt.Errorf("adopt %s at epoch %d: this agent has it at epoch %d: %w",
			called(v), v.OwnerEpoch, have.OwnerEpoch, ErrStatus)
	case err != nil && !errors.Is(err, catalog.ErrNotFound):
		return err
	}
	if err := catalog.Stubs.Delete(tx, v.ID); err != nil {
		return err
	}
	return catalog.Volumes.Put(tx, v.ID, v)
}

// Release replaces the record of a volume by a stub that says who owns it since which epoch, in the transaction of the
// caller (within Claim). It may be done twice. ErrInUse while the volume has attachments; ErrStatus if the epoch is not
// a later one.
func Release(tx catalog.Tx, id, node string, epoch uint64, at time.Time) error {
	v, err := lookup(tx, id)
	var moved *MovedError
	if errors.As(err, &moved) && moved.Node == node && moved.Epoch == epoch {
		return catalog.Volumes.Delete(tx, id)
	}
	if err != nil {
		return err
	}
	if epoch <= v.OwnerEpoch {
		return fmt.Errorf("release %s to epoch %d: it has epoch %d: %w", called(v), epoch, v.OwnerEpoch, ErrStatus)
	}
	attached, err := attachmentsOf(tx, id)
	if err != nil {
		return err
	}
	if len(attached) > 0 {
		return fmt.Errorf("%s %w by export %s: remove it first", called(v), ErrInUse, attached[0].Export)
	}
	if err := catalog.Stubs.Put(tx, id, catalog.Stub{VolumeID: id, Node: node, Epoch: epoch, At: at}); err != nil {
		return err
	}
	return catalog.Volumes.Delete(tx, id)
}
