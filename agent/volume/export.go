package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/live"
	"github.com/cvold/cvold/nbd"
)

// Export serves a volume over NBD until Unexport, across restarts: the attachment and the status in-use are recorded,
// then the volume is opened and served as Attachment.Export. That name is "volume-ID"; while another attachment of the
// volume has it, the attachment's id is part of it. There may be several read-only attachments, and one that writes
// beside them; a second one is ErrInUse. ErrNotFound, ErrMoved, ErrMigrating, ErrMaintenance, ErrStatus, ErrNoBackend,
// ErrNoServer, dataplane.ErrAbandoned, and what the driver says: then nothing has changed but the write generation.
func (m *Manager) Export(ctx context.Context, id string, readOnly bool) (catalog.Attachment, error) {
	return m.expose(ctx, id, catalog.Attachment{ReadOnly: readOnly})
}

// expose records and serves an attachment that is of the shape of a.
func (m *Manager) expose(ctx context.Context, id string, a catalog.Attachment) (catalog.Attachment, error) {
	if m.o.NBD == nil {
		return catalog.Attachment{}, fmt.Errorf("export volume %s: %w", id, ErrNoServer)
	}
	t, err := m.turn(ctx, id)
	if err != nil {
		return catalog.Attachment{}, err
	}
	defer t.end()
	a.ID, a.VolumeID, a.CreatedAt = uuid.NewString(), id, m.now()
	v, err := m.change(id, func(tx catalog.Tx, v *catalog.Volume) error { return m.attach(tx, v, &a) })
	if err != nil {
		return catalog.Attachment{}, err
	}
	if a, err = m.serve(t.deed, v, a); err != nil {
		return catalog.Attachment{}, errors.Join(err, m.detach(a))
	}
	return a, nil
}

// attach is the guard and the record of an export: it names it, and counts its writer.
func (m *Manager) attach(tx catalog.Tx, v *catalog.Volume, a *catalog.Attachment) error {
	if err := usable(*v, User{Kind: UserExport}); err != nil {
		return err
	}
	attached, err := attachmentsOf(tx, v.ID)
	if err != nil {
		return err
	}
	for _, other := range attached {
		if !a.ReadOnly && !other.ReadOnly {
			return fmt.Errorf("%s %w by %s, which writes: remove it first, or export read-only",
				called(*v), ErrInUse, m.describeExport(other.Export))
		}
	}
	a.Export = exportName(v.ID, a.ID, attached)
	if err := catalog.Attachments.Put(tx, a.ID, *a); err != nil {
		return err
	}
	if !a.ReadOnly {
		v.WriteGeneration++
	}
	return settle(tx, v)
}

// exportName is the volume's own name for the export if that is free, so that clients need not ask for it.
func exportName(volumeID, attachmentID string, attached []catalog.Attachment) string {
	name := "volume-" + volumeID
	if slices.ContainsFunc(attached, func(a catalog.Attachment) bool { return a.Export == name }) {
		name += "." + attachmentID
	}
	return name
}

// detach takes back what attach recorded. While the manager stops nothing is taken back: the next Start serves it.
func (m *Manager) detach(a catalog.Attachment) error {
	if m.stopping.Err() != nil {
		return nil
	}
	return m.o.Store.Update(func(tx catalog.Tx) error {
		if err := catalog.Attachments.Delete(tx, a.ID); err != nil {
			return err
		}
		v, err := catalog.Volumes.Get(tx, a.VolumeID)
		if errors.Is(err, catalog.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		before := v.Status
		if err := settle(tx, &v); err != nil || v.Status == before {
			return err
		}
		v.UpdatedAt = m.now()
		return catalog.Volumes.Put(tx, v.ID, v)
	})
}

// serving is what serves an attachment.
type serving struct {
	handle *Handle
	device KernelDevice // nil for an export alone
}

// serve opens the volume of an attachment, adds the export, and gives it to the kernel where it is a block device; it returns
// the attachment with what that is called now. The caller has the turn. It undoes what it did if it fails.
func (m *Manager) serve(ctx context.Context, v catalog.Volume, a catalog.Attachment) (catalog.Attachment, error) {
	if err := m.addExport(ctx, v, a); err != nil {
		return a, err
	}
	if a.Connections == 0 {
		return a, nil
	}
	named, err := m.addDevice(ctx, a)
	if err != nil {
		return a, errors.Join(err, m.unserve(ctx, a.ID))
	}
	return named, nil
}

func (m *Manager) addExport(ctx context.Context, v catalog.Volume, a catalog.Attachment) error {
	b, err := m.Backend(v.Host)
	if err != nil {
		return fmt.Errorf("export %s: %w", called(v), err)
	}
	h, err := m.open(ctx, opening{
		backend: b, volume: v.Volume, called: called(v),
		user: User{UserExport, a.Export}, mode: dataplane.Mode{ReadOnly: a.ReadOnly},
		wrap: func(d dataplane.Device) dataplane.Device { return live.New(d) },
	})
	if err != nil {
		return err
	}
	e := nbd.NewExport(a.Export, v.DisplayName, h)
	e.ReadOnly, e.Attachable, e.DeviceSeconds = a.ReadOnly, a.Connections > 0, m.o.Foreground
	if err := m.o.NBD.Add(e); err != nil {
		return errors.Join(fmt.Errorf("export %s: %w", called(v), err), h.Close())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.served[a.ID] = &serving{handle: h}
	return nil
}

// unserve drains and removes the export of an attachment and closes its device, each in a bounded time; nothing if it
// is not served.
func (m *Manager) unserve(ctx context.Context, attachmentID string) error {
	m.mu.Lock()
	s := m.served[attachmentID]
	delete(m.served, attachmentID)
	m.mu.Unlock()
	if s == nil {
		return nil
	}
	h := s.handle
	drain, cancel := context.WithTimeout(ctx, m.o.CloseTimeout)
	defer cancel()
	if s.device != nil {
		if err := s.device.Leave(drain); err != nil {
			m.o.Logger.Warn("kernel's device not drained", "volume", h.use.volumeID, "device", s.device.Path(), "error", err)
		}
	}
	err := m.o.NBD.Remove(drain, h.use.user.Name)
	if err != nil {
		m.o.Logger.Warn("export not drained", "volume", h.use.volumeID, "export", h.use.user.Name, "error", err)
	}
	return h.finish(ctx)
}

// Unexport ends an attachment: it drains and removes the export, closes the volume, and deletes the record; the status
// is available again after the last one. The volume's device is given up with dataplane.ErrAbandoned if it does not
// close in its time; the attachment is gone all the same. ErrNotFound for an unknown attachment. One that is a block device
// is detached first, see Detach.
func (m *Manager) Unexport(ctx context.Context, attachmentID string) error {
	return m.Detach(ctx, attachmentID, false)
}

// Detach is Unexport for what Attach has made: the kernel's device is flushed and taken away first. While that is mounted, or
// an exclusive user has it, nothing changes and the error is dataplane.ErrBusy; with force it is not asked, nothing is
// flushed, and who uses it gets errors.
func (m *Manager) Detach(ctx context.Context, attachmentID string, force bool) error {
	a, err := m.attachment(attachmentID)
	if err != nil {
		return err
	}
	t, err := m.turn(ctx, a.VolumeID)
	if err != nil {
		return err
	}
	defer t.end()
	if _, err := m.attachment(attachmentID); err != nil {
		return err // someone else was faster
	}
	if err := m.removeDevice(t.deed, a, force); err != nil {
		return err
	}
	return errors.Join(m.unserve(t.deed, a.ID), m.detach(a))
}

func (m *Manager) attachment(id string) (a catalog.Attachment, err error) {
	err = m.o.Store.View(func(tx catalog.Tx) error {
		a, err = catalog.Attachments.Get(tx, id)
		return err
	})
	if errors.Is(err, catalog.ErrNotFound) || errors.Is(err, catalog.ErrInvalid) {
		err = fmt.Errorf("attachment %q: %w", id, ErrNotFound)
	}
	return a, err
}

// Attachments are those of volume id, or all for an empty id, oldest first. A store that cannot be read has none, which
// is logged.
func (m *Manager) Attachments(id string) (all []catalog.Attachment) {
	err := m.o.Store.View(func(tx catalog.Tx) (err error) {
		all, err = catalog.Attachments.All(tx)
		return err
	})
	if err != nil {
		m.o.Logger.Error("attachments not read", "error", err)
	}
	all = slices.DeleteFunc(all, func(a catalog.Attachment) bool { return id != "" && a.VolumeID != id })
	slices.SortStableFunc(all, func(a, b catalog.Attachment) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return all
}

// connections counts the clients of an export; served is false if there is none of that name.
func (m *Manager) connections(name string) (n int, served bool) {
	if m.o.NBD == nil {
		return 0, false
	}
	for _, e := range m.o.NBD.Stats().Exports {
		if e.Name == name {
			return len(e.Clients), true
		}
	}
	return 0, false
}
