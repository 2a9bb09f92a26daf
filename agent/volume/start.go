package volume

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/cvold/cvold/agent/catalog"
)

// startParallel is how many volumes Start works on at the same time: enough that one back end that does not answer does
// not hold up the others, few enough not to flood one that does.
const startParallel = 8

// Start takes up what the last run of the agent left: volumes in creating, managing, extending, unmanaging and deleting are done again, attachments are
// served again under their names, and a status that does not fit the attachments is put right. Volumes that a migration
// holds are left to it. What goes wrong with one volume is written in its record and logged, and is not Start's error:
// that is of the store or of ctx alone. Start may be called again, and then takes up what failed before.
func (m *Manager) Start(ctx context.Context) error {
	volumes, err := m.List(Filter{Temporary: true})
	if err != nil {
		return fmt.Errorf("read the volumes: %w", err)
	}
	var group errgroup.Group
	group.SetLimit(startParallel)
	for _, v := range volumes {
		group.Go(func() error { return m.resume(ctx, v.ID) })
	}
	for _, a := range m.Attachments("") {
		group.Go(func() error { return m.dropLost(ctx, a) })
	}
	return group.Wait()
}

// resume takes up one volume.
func (m *Manager) resume(ctx context.Context, id string) error {
	t, err := m.turn(ctx, id)
	if err != nil {
		return err
	}
	defer t.end()
	v, attached, err := m.look(id)
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrMoved) {
		return nil
	}
	if err != nil {
		return err
	}
	if v.MigrationID != "" {
		return nil
	}
	switch v.Status {
	case catalog.StatusCreating:
		err = m.createAgain(t.deed, v)
	case catalog.StatusManaging:
		err = m.adoptAgain(t.deed, v)
	case catalog.StatusUnmanaging:
		err = m.disownObject(t.deed, v)
	case catalog.StatusDeleting:
		err = m.removeObject(t.deed, v)
	case catalog.StatusExtending:
		if v, err = m.growObject(t.deed, v); err == nil {
			return m.serveAgain(t.deed, v, attached)
		}
	case catalog.StatusAvailable, catalog.StatusInUse:
		return m.serveAgain(t.deed, v, attached)
	}
	if err != nil {
		m.o.Logger.Error("volume not taken up", "volume", id, "status", v.Status, "error", err)
	}
	return ofStore(err)
}

// ofStore is err if it is one of the store, which fails whatever comes next too; else nil.
func ofStore(err error) error {
	for _, is := range []error{catalog.ErrFailed, catalog.ErrClosed, catalog.ErrNoSpace, catalog.ErrCorrupt} {
		if errors.Is(err, is) {
			return err
		}
	}
	return nil
}

func (m *Manager) createAgain(ctx context.Context, v catalog.Volume) error {
	b, err := m.Backend(v.Host)
	if err != nil {
		return fmt.Errorf("create %s: %w", called(v), err)
	}
	_, err = m.makeObject(ctx, b, v)
	return err
}

// serveAgain serves what is not served of a volume's attachments, and writes why where it cannot.
func (m *Manager) serveAgain(ctx context.Context, v catalog.Volume, attached []catalog.Attachment) error {
	var errs []error
	for _, a := range attached {
		if m.isServed(a.ID) {
			continue
		}
		if err := m.serveOnceMore(ctx, v, a); err != nil {
			m.o.Logger.Error("attachment not served", "volume", v.ID, "export", a.Export, "error", err)
			errs = append(errs, err)
		}
	}
	if m.stopping.Err() != nil {
		return ErrClosed
	}
	return m.settleAgain(v, attached, errors.Join(errs...))
}

// settleAgain makes status and reason fit the attachments. It writes only what differs, for most volumes are as they
// should be.
func (m *Manager) settleAgain(v catalog.Volume, attached []catalog.Attachment, failed error) error {
	reason := v.StatusReason
	if len(attached) > 0 {
		reason = ""
	}
	if failed != nil {
		reason = failed.Error()
	}
	if reason == v.StatusReason && (len(attached) > 0) == (v.Status == catalog.StatusInUse) {
		return nil
	}
	_, err := m.change(v.ID, func(tx catalog.Tx, v *catalog.Volume) error {
		v.StatusReason = reason
		return settle(tx, v)
	})
	return err
}

func (m *Manager) isServed(attachmentID string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.served[attachmentID] != nil
}

// serveOnceMore serves an attachment of an earlier run; a writer counts anew.
func (m *Manager) serveOnceMore(ctx context.Context, v catalog.Volume, a catalog.Attachment) error {
	if m.o.NBD == nil {
		return fmt.Errorf("export %s: %w", called(v), ErrNoServer)
	}
	if !a.ReadOnly {
		if err := m.countWriter(v.ID, User{UserExport, a.Export}); err != nil {
			return err
		}
	}
	_, err := m.serve(ctx, v, a)
	return err
}

// dropLost deletes the record of an attachment whose volume has none: there is nothing that it could serve.
func (m *Manager) dropLost(ctx context.Context, a catalog.Attachment) error {
	t, err := m.turn(ctx, a.VolumeID)
	if err != nil {
		return err
	}
	defer t.end()
	_, err = m.Get(a.VolumeID)
	if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrMoved) {
		return err
	}
	m.o.Logger.Warn("attachment of no volume dropped", "volume", a.VolumeID, "attachment", a.ID, "error", err)
	return m.detach(a)
}
