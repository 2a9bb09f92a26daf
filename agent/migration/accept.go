package migration

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/transfer"
)

// describeWait bounds how long a request waits for the target's agent to say what it has.
const describeWait = 5 * time.Second

// hostMax is the longest host of a request (api/schemas/admin_actions.py).
const hostMax = 255

// Request is what os-migrate_volume asks for.
type Request struct {
	// Host is node@backend#pool.
	Host string
	// ForceHostCopy skips the driver's own migrate_volume.
	ForceHostCopy bool
	// LockVolume puts an available volume into maintenance, and makes the migration one that is not aborted.
	LockVolume bool
	// Limit is the transfer's own from the beginning.
	Limit LimitChange
}

// Accept checks a request as Cinder's volume API does (CINDER: volume/api.py migrate_volume), records the migration in
// one transaction and starts it. On an error nothing has changed: ErrInvalid, ErrConflict, volume.ErrNotFound,
// volume.ErrMoved, volume.ErrInUse.
func (e *Engine) Accept(ctx context.Context, volumeID string, r Request) (catalog.Migration, error) {
	v, err := e.o.Volumes.Get(volumeID)
	if err != nil {
		return catalog.Migration{}, err
	}
	if err := r.Limit.check(); err != nil {
		return catalog.Migration{}, err
	}
	to, err := parseTarget(r.Host)
	if err != nil {
		return catalog.Migration{}, err
	}
	if err := e.acceptable(v, to); err != nil {
		return catalog.Migration{}, err
	}
	if err := catalog.Room(e.o.Store); err != nil {
		return catalog.Migration{}, err
	}
	service, err := e.service(ctx, to)
	if err != nil {
		return catalog.Migration{}, err
	}
	if err := e.fits(v, service); err != nil {
		return catalog.Migration{}, err
	}
	m := e.newMigration(v, to, r)
	err = e.o.touch(ctx, m.ID, touchAccept, func() error {
		return e.o.Volumes.Claim(volumeID, func(tx catalog.Tx, v catalog.Volume) error { return e.record(tx, v, m, to) })
	})
	if err != nil {
		return catalog.Migration{}, err
	}
	e.o.Logger.Info("migration accepted", "migration", m.ID, "volume", volumeID, "source", m.SourceHost, "target", m.TargetHost)
	e.launch(m.ID)
	return m, nil
}

func parseTarget(host string) (volume.Host, error) {
	if len(host) > hostMax {
		return volume.Host{}, refuse(ErrInvalid, "Invalid host: %d characters are more than %d", len(host), hostMax)
	}
	to, err := volume.ParseHost(host)
	if err != nil {
		return volume.Host{}, refuse(ErrInvalid, "Invalid host: %q is not node@backend#pool", host)
	}
	if to.Pool == "" {
		to.Pool = to.Backend
	}
	return to, nil
}

// acceptable is the guard of the acceptance (CINDER.md E-1), on the record as it is.
func (e *Engine) acceptable(v catalog.Volume, to volume.Host) error {
	target := to.String()
	if v.MigrationID != "" {
		running, err := e.load(v.MigrationID)
		if err == nil && running.TargetHost == target {
			return refuse(ErrConflict, "volume %s is already migrating to %s: migration %s", v.ID, target, running.ID)
		}
		return refuse(ErrInvalid, "volume %s is migrating: migration %s. Wait for it, or abort it first", v.ID, v.MigrationID)
	}
	switch {
	case v.Status == catalog.StatusInUse:
		return refuse(ErrInvalid, "volume %s is in use: end its exports first; a volume in use is not migrated yet", v.ID)
	case v.Status != catalog.StatusAvailable:
		return refuse(ErrInvalid, "volume %s is %s: only an available volume can be migrated", v.ID, v.Status)
	case v.Host == target:
		return refuse(ErrInvalid, "volume %s is at %s already", v.ID, target)
	}
	return nil
}

// service finds the target among what its agent says it has.
func (e *Engine) service(ctx context.Context, to volume.Host) (ServiceDescription, error) {
	unavailable := func(why string) error {
		return refuse(ErrInvalid, "Invalid host: No available service named '%s': %s", to, why)
	}
	peer, err := e.peer(to.Node)
	if err != nil {
		return ServiceDescription{}, unavailable(err.Error())
	}
	ctx, cancel := context.WithTimeout(ctx, describeWait)
	defer cancel()
	d, err := peer.Describe(ctx, DescribeRequest{})
	if err != nil {
		return ServiceDescription{}, unavailable("its agent does not answer: " + err.Error())
	}
	if why := d.Unserved[to.Backend]; why != "" {
		return ServiceDescription{}, unavailable(why)
	}
	var have []string
	for _, s := range d.Services {
		if s.Host == to.String() {
			if s.Disabled {
				return s, unavailable("it is disabled")
			}
			return s, nil
		}
		have = append(have, s.Host)
	}
	return ServiceDescription{}, unavailable("the node has " + strings.Join(have, ", "))
}

// fits refuses what could only fail later: another back end's type, or a volume larger than the whole back end.
func (e *Engine) fits(v catalog.Volume, s ServiceDescription) error {
	t, err := e.volumeType(v)
	if err != nil {
		return err
	}
	if t != nil {
		if want := t.ExtraSpecs["volume_backend_name"]; want != "" && want != s.BackendName {
			return refuse(ErrInvalid, "volume type %s asks for volume_backend_name %s, and %s has %s: retype the volume instead", t.Name, want, s.Host, s.BackendName)
		}
	}
	if s.Error == "" && v.Size > s.TotalBytes {
		return refuse(ErrInvalid, "volume %s has %d bytes, more than all of %s (%d)", v.ID, v.Size, s.Host, s.TotalBytes)
	}
	return nil
}

// volumeType is the type of a volume, or nil.
func (e *Engine) volumeType(v catalog.Volume) (*catalog.Type, error) {
	if v.TypeID == "" {
		return nil, nil
	}
	var t catalog.Type
	err := e.o.Store.View(func(tx catalog.Tx) (err error) {
		t, err = catalog.Types.Get(tx, v.TypeID)
		return err
	})
	if errors.Is(err, catalog.ErrNotFound) {
		return nil, refuse(ErrInvalid, "volume %s has the type %s, which does not exist any more", v.ID, v.TypeID)
	}
	return &t, err
}

func (e *Engine) newMigration(v catalog.Volume, to volume.Host, r Request) catalog.Migration {
	now := time.Now().UTC()
	m := catalog.Migration{
		ID: uuid.NewString(), VolumeID: v.ID, TargetID: uuid.NewString(),
		SourceHost: v.Host, TargetHost: to.String(),
		State: catalog.StateAccepted, Epoch: v.OwnerEpoch,
		ForceHostCopy: r.ForceHostCopy, LockVolume: r.LockVolume, PreviousStatus: v.Status,
		SourceObject: v.Volume,
		ChunkSize:    transfer.DefaultChunkSize, Algorithm: transfer.XXH3_128.String(),
		CreatedAt: now, UpdatedAt: now,
	}
	r.Limit.record(&m)
	note(&m, now, "accepted: from %s to %s", m.SourceHost, m.TargetHost)
	return m
}

// record writes the acceptance: the migration, the temporary volume, and the volume that is held by it now.
func (e *Engine) record(tx catalog.Tx, v catalog.Volume, m catalog.Migration, to volume.Host) error {
	if err := e.acceptable(v, to); err != nil {
		return err
	}
	if v.OwnerEpoch != m.Epoch || v.Identity != m.SourceObject.Identity {
		return refuse(ErrConflict, "volume %s changed while the request was looked at: ask again", v.ID)
	}
	if err := catalog.Migrations.Put(tx, m.ID, m); err != nil {
		return err
	}
	if err := catalog.Volumes.Put(tx, m.TargetID, e.temporary(v, m)); err != nil {
		return err
	}
	v.MigrationID, v.MigrationStatus, v.StatusReason = m.ID, catalog.MigrationStarting, ""
	v.PreviousStatus = v.Status
	if m.LockVolume && v.Status == catalog.StatusAvailable {
		v.Status = catalog.StatusMaintenance
	}
	v.UpdatedAt = m.CreatedAt
	return catalog.Volumes.Put(tx, v.ID, v)
}

// temporary is the record of the target volume: Cinder's new_volume (volume/manager.py _migrate_volume_generic).
func (e *Engine) temporary(v catalog.Volume, m catalog.Migration) catalog.Volume {
	n := v
	n.ID, n.NameID, n.ProviderLocation, n.Identity = m.TargetID, "", "", ""
	n.Name = e.o.Volumes.ObjectName(m.TargetID)
	n.Host, n.Status, n.PreviousStatus = m.TargetHost, catalog.StatusCreating, ""
	n.MigrationStatus, n.MigrationID = catalog.TargetOf(v.ID), m.ID
	n.UseQuota, n.WriteGeneration, n.Manifest, n.StatusReason = false, 0, "", ""
	n.CreatedAt, n.UpdatedAt = m.CreatedAt, m.CreatedAt
	return n
}
