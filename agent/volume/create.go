package volume

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
)

const (
	// sectorSize is what sizes are multiples of: the smallest block that any client of a volume works with.
	sectorSize = 512
	// metadataMax is how many metadata items a volume may have, so that a record stays far below catalog.MaxRecord: it
	// is Nova's default quota for the like (metadata_items = 128).
	metadataMax = 128
)

// CreateRequest is what a new volume shall be.
type CreateRequest struct {
	// DisplayName, Description, ProjectID and UserID have at most 255 characters; each may be empty.
	DisplayName, Description, ProjectID, UserID string
	// Type is the name or id of a volume type, or empty.
	Type string
	// Host is node@backend#pool, node@backend or the back end's own name. If it is empty, the back end with the most free
	// space of those that the type allows is taken.
	Host string
	// Size in bytes: a multiple of 512, above 0.
	Size int64
	// Metadata: at most 128 items, keys of 1 to 255 characters, values of at most 255.
	Metadata map[string]string
}

// Create makes a volume: the record (creating), the object, the record (available). It chooses the back end, and
// refuses before anything is recorded: ErrInvalid, ErrNoBackend, ErrNoSpace, catalog.ErrNoSpace. If the driver fails, the
// volume stays with the status error and the reason, until it is deleted. Once recorded it goes on when ctx ends.
func (m *Manager) Create(ctx context.Context, r CreateRequest) (catalog.Volume, error) {
	if err := r.check(); err != nil {
		return catalog.Volume{}, err
	}
	id := uuid.NewString()
	t, err := m.turn(ctx, id)
	if err != nil {
		return catalog.Volume{}, err
	}
	defer t.end()
	if err := catalog.Room(m.o.Store); err != nil {
		return catalog.Volume{}, fmt.Errorf("create a volume: %w", err)
	}
	typ, err := m.typeOf(r.Type)
	if err != nil {
		return catalog.Volume{}, err
	}
	b, err := m.choose(t.asked, r, typ)
	if err != nil {
		return catalog.Volume{}, err
	}
	v := m.newVolume(id, b, r, typ)
	if err := m.o.Store.Update(func(tx catalog.Tx) error { return recordNew(tx, v) }); err != nil {
		return catalog.Volume{}, fmt.Errorf("create a volume: %w", err)
	}
	return m.makeObject(t.deed, b, v)
}

// recordNew writes the record of a new volume, whose type may have gone meanwhile.
func recordNew(tx catalog.Tx, v catalog.Volume) error {
	if v.TypeID != "" {
		_, err := catalog.Types.Get(tx, v.TypeID)
		if errors.Is(err, catalog.ErrNotFound) {
			return fmt.Errorf("volume type %s was deleted: %w", v.TypeID, ErrInvalid)
		}
		if err != nil {
			return err
		}
	}
	return catalog.Volumes.Put(tx, v.ID, v)
}

// check refuses what is wrong whatever the node has.
func (r CreateRequest) check() error {
	if r.Size <= 0 || r.Size%sectorSize != 0 {
		return fmt.Errorf("size %d: %w: it must be above 0 and a multiple of %d bytes", r.Size, ErrInvalid, sectorSize)
	}
	texts := []struct{ what, text string }{
		{"name", r.DisplayName}, {"description", r.Description}, {"project", r.ProjectID}, {"user", r.UserID},
		{"volume type", r.Type}, {"host", r.Host},
	}
	for _, t := range texts {
		if err := checkText(t.what, t.text); err != nil {
			return err
		}
	}
	return checkMetadata(r.Metadata)
}

func checkText(what, text string) error {
	if n := utf8.RuneCountInString(text); n > nameMax {
		return fmt.Errorf("%s has %d characters: %w: %d are allowed", what, n, ErrInvalid, nameMax)
	}
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return fmt.Errorf("%s %q is no text: %w", what, text, ErrInvalid)
	}
	return nil
}

func checkMetadata(metadata map[string]string) error {
	if len(metadata) > metadataMax {
		return fmt.Errorf("%d metadata items: %w: %d are allowed", len(metadata), ErrInvalid, metadataMax)
	}
	for _, key := range sortedKeys(metadata) {
		if key == "" {
			return fmt.Errorf("a metadata key is empty: %w", ErrInvalid)
		}
		if err := errors.Join(checkText("metadata key", key), checkText("metadata "+key, metadata[key])); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) newVolume(id string, b Backend, r CreateRequest, typ catalog.Type) catalog.Volume {
	now := m.now()
	return catalog.Volume{
		Volume:      dataplane.Volume{ID: id, Name: m.ObjectName(id), Size: r.Size, Specs: maps.Clone(typ.ExtraSpecs)},
		DisplayName: r.DisplayName, Description: r.Description, ProjectID: r.ProjectID, UserID: r.UserID,
		TypeID: typ.ID, Metadata: maps.Clone(r.Metadata), Host: m.Host(b).String(),
		Status: catalog.StatusCreating, CreatedAt: now, UpdatedAt: now, UseQuota: true,
	}
}

// mark is what the object of a volume made here carries.
func (m *Manager) mark(id string) dataplane.Mark {
	return dataplane.Mark{StoreID: m.o.Store.ID(), VolumeID: id}
}

// makeObject does what the record "creating" announces, and writes how it went. It may be called again after a crash.
func (m *Manager) makeObject(ctx context.Context, b Backend, v catalog.Volume) (catalog.Volume, error) {
	made, err := b.Driver.Create(ctx, v.Volume, m.mark(v.ID))
	if err != nil {
		return m.failed(v, catalog.StatusError, fmt.Errorf("create %s: %w", called(v), err))
	}
	return m.change(v.ID, func(_ catalog.Tx, v *catalog.Volume) error {
		v.ProviderLocation, v.Identity = made.ProviderLocation, made.Identity
		v.Status, v.StatusReason = catalog.StatusAvailable, ""
		return nil
	})
}

// failed writes that a deed failed, and why, and returns why. While the manager stops nothing is judged: the record
// stays, and the next Start does the deed again.
func (m *Manager) failed(v catalog.Volume, status catalog.Status, cause error) (catalog.Volume, error) {
	if m.stopping.Err() != nil {
		return v, cause
	}
	m.o.Logger.Error("volume failed", "volume", v.ID, "status", status, "error", cause)
	now, err := m.change(v.ID, func(_ catalog.Tx, v *catalog.Volume) error {
		v.Status, v.StatusReason = status, ""
		switch status {
		case catalog.StatusError, catalog.StatusErrorExtending, catalog.StatusErrorDeleting, catalog.StatusErrorManaging:
			v.StatusReason = cause.Error()
		}
		return nil
	})
	if err != nil {
		return v, errors.Join(cause, err)
	}
	return now, cause
}
