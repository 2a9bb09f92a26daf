package client

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/pagination"
)

// Volume is a volume in the Cinder dialect: the keys of Cinder's answer at microversion 3.70, in its order. Pointers are
// null where Cinder answers null.
type Volume struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	// Size in GiB, rounded up; SizeBytes is exact.
	Size             GiB               `json:"size"`
	AvailabilityZone *string           `json:"availability_zone"`
	CreatedAt        Time              `json:"created_at"`
	UpdatedAt        Time              `json:"updated_at"`
	Name             *string           `json:"name"`
	Description      *string           `json:"description"`
	VolumeType       *string           `json:"volume_type"`
	SnapshotID       *string           `json:"snapshot_id"`
	SourceVolID      *string           `json:"source_volid"`
	Metadata         map[string]string `json:"metadata"`
	Links            []Link            `json:"links"`
	UserID           *string           `json:"user_id"`
	// Bootable is the string "true" or "false".
	Bootable           string             `json:"bootable"`
	Encrypted          bool               `json:"encrypted"`
	ReplicationStatus  *string            `json:"replication_status"`
	ConsistencyGroupID *string            `json:"consistencygroup_id"`
	MultiAttach        bool               `json:"multiattach"`
	Attachments        []VolumeAttachment `json:"attachments"`
	GroupID            *string            `json:"group_id"`
	ProviderID         *string            `json:"provider_id"`
	SharedTargets      bool               `json:"shared_targets"`
	ServiceUUID        *string            `json:"service_uuid"`
	ClusterName        *string            `json:"cluster_name"`
	VolumeTypeID       *string            `json:"volume_type_id"`
	ConsumesQuota      bool               `json:"consumes_quota"`

	// VolumeAdmin is nil in answers to those who are not admin: its keys are then absent, not null.
	*VolumeAdmin

	// SizeBytes is the exact size. Ours.
	SizeBytes int64 `json:"cvold:size_bytes,omitzero"`
	// StatusReason is a sentence on why the status or the migration status says error. Ours.
	StatusReason string `json:"cvold:status_reason,omitzero"`
	// Owner is the node that serves the volume. Ours.
	Owner string `json:"cvold:owner,omitzero"`
}

// VolumeAdmin is what only an admin sees of a volume.
type VolumeAdmin struct {
	MigrationStatus *string `json:"migration_status"`
	TenantID        *string `json:"os-vol-tenant-attr:tenant_id"`
	// MigStat is MigrationStatus again, under the key of the extension.
	MigStat *string `json:"os-vol-mig-status-attr:migstat"`
	// NameID is the id that the object's name is made of when it is not the volume's own.
	NameID *string `json:"os-vol-mig-status-attr:name_id"`
	// Host is node@backend#pool.
	Host *string `json:"os-vol-host-attr:host"`
}

// Link is one of Cinder's links of an object.
type Link struct {
	Rel  string `json:"rel"`
	Href string `json:"href"`
}

// VolumeAttachment is an attachment as Cinder shows it within a volume.
type VolumeAttachment struct {
	ID           string  `json:"id"`
	AttachmentID string  `json:"attachment_id"`
	VolumeID     string  `json:"volume_id"`
	ServerID     *string `json:"server_id"`
	HostName     *string `json:"host_name"`
	Device       *string `json:"device"`
	AttachedAt   Time    `json:"attached_at"`
}

// DisplayName is the volume's name; empty if it has none.
func (v Volume) DisplayName() string { return text(v.Name) }

// Migration is the volume's migration_status; empty if it is null or not shown.
func (v Volume) Migration() string {
	if v.VolumeAdmin == nil {
		return ""
	}
	return text(v.MigrationStatus)
}

// Location is node@backend#pool of the volume; empty if it is null or not shown.
func (v Volume) Location() string {
	if v.VolumeAdmin == nil {
		return ""
	}
	return text(v.Host)
}

// Bytes is the exact size if the agent says it, else the GiB of Cinder's size.
func (v Volume) Bytes() int64 {
	if v.SizeBytes > 0 {
		return v.SizeBytes
	}
	n, _ := v.Size.Bytes()
	return n
}

// text is what a nullable string says, empty for null.
func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// VolumeAnswer answers POST /v3/volumes (202) and GET /v3/volumes/ID.
type VolumeAnswer struct {
	Volume Volume `json:"volume"`
}

// VolumesAnswer answers GET /v3/volumes/detail.
type VolumesAnswer struct {
	Volumes []Volume `json:"volumes"`
}

// CreateVolumeRequest is the body of POST /v3/volumes.
type CreateVolumeRequest struct {
	Volume CreateVolume `json:"volume"`
}

// CreateVolume describes a volume to make. One of Size and SizeBytes is needed; SizeBytes wins.
type CreateVolume struct {
	Name             *string `json:"name"`
	Description      *string `json:"description"`
	Size             GiB     `json:"size"`
	VolumeType       *string `json:"volume_type"`
	AvailabilityZone *string `json:"availability_zone"`
	// Metadata must be strings.
	Metadata map[string]string `json:"metadata,omitempty"`
	// SizeBytes is the exact size in bytes. Ours.
	SizeBytes int64 `json:"cvold:size_bytes,omitzero"`
	// Host is where to make it, node@backend#pool; empty leaves the choice to the agent. Ours.
	Host string `json:"cvold:host,omitzero"`
}

// MigrateVolumeRequest is the body of POST /v3/volumes/ID/action for a migration.
type MigrateVolumeRequest struct {
	Migrate MigrateVolume `json:"os-migrate_volume"`
}

// MigrateVolume is Cinder's os-migrate_volume (api/contrib/admin_actions.py).
type MigrateVolume struct {
	// Host is the target, node@backend#pool.
	Host string `json:"host"`
	// ForceHostCopy skips the driver's own migration.
	ForceHostCopy Bool `json:"force_host_copy"`
	// LockVolume keeps every other command away from the volume while it migrates.
	LockVolume Bool `json:"lock_volume"`
	// BytesPerSecond, IOPS and TransferClass are the migration's own limit and class, as in LimitChange. Cinder has none.
	BytesPerSecond *int64 `json:"cvold:bytes_per_second,omitempty"`
	IOPS           *int64 `json:"cvold:iops,omitempty"`
	TransferClass  string `json:"cvold:transfer_class,omitempty"`
}

// VolumeFilter chooses volumes; empty fields choose all.
type VolumeFilter struct {
	// Name is the exact display name.
	Name string
	// Status is Cinder's volume status.
	Status string
}

// matches is asked of every answer too: a server may ignore a filter that it does not know.
func (f VolumeFilter) matches(v Volume) bool {
	return (f.Name == "" || f.Name == v.DisplayName()) && (f.Status == "" || f.Status == v.Status)
}

// Volumes lists the volumes that the filter chooses, of this agent and its peers, in the agent's order. If peers did not
// answer it returns what there is, and a *PartialError.
func (c *Client) Volumes(ctx context.Context, f VolumeFilter) ([]Volume, error) {
	var answer VolumesAnswer
	err := c.cinderList(ctx, &answer, func(s *gophercloud.ServiceClient) pagination.Pager {
		return volumes.List(s, volumes.ListOpts{Name: f.Name, Status: f.Status})
	})
	return slices.DeleteFunc(answer.Volumes, func(v Volume) bool { return !f.matches(v) }), err
}

// Volume finds a volume by its id, or by its name if just one volume has it (ErrAmbiguous otherwise, with the ids). The
// temporary volume of a migration, which carries the name of the volume that migrates, is found by its id alone. While
// peers do not answer, a volume that was found counts, and one that was not is a *PartialError.
func (c *Client) Volume(ctx context.Context, idOrName string) (Volume, error) {
	if uuid.Validate(idOrName) == nil {
		v, err := c.volumeByID(ctx, idOrName)
		if err == nil || !IsNotFound(err) {
			return v, err
		}
	}
	return c.volumeByName(ctx, idOrName)
}

func (c *Client) volumeByID(ctx context.Context, id string) (Volume, error) {
	id, err := segment(id)
	if err != nil {
		return Volume{}, err
	}
	var answer VolumeAnswer
	_, err = c.cinder(ctx, &answer, func(ctx context.Context, s *gophercloud.ServiceClient) gophercloud.Result {
		return volumes.Get(ctx, s, id).Result
	})
	return answer.Volume, err
}

func (c *Client) volumeByName(ctx context.Context, name string) (Volume, error) {
	if name == "" {
		return Volume{}, NewError(http.StatusNotFound, "The empty name names no volume.")
	}
	named, err := c.Volumes(ctx, VolumeFilter{Name: name})
	named = slices.DeleteFunc(named, Volume.Temporary)
	if err != nil && len(named) == 0 {
		return Volume{}, err
	}
	switch len(named) {
	case 0:
		return Volume{}, NewError(http.StatusNotFound, fmt.Sprintf("Volume %s could not be found.", name))
	case 1:
		return named[0], nil
	}
	ids := make([]string, len(named))
	for i, v := range named {
		ids[i] = v.ID
	}
	return Volume{}, fmt.Errorf("%w: %s", ErrAmbiguous, strings.Join(ids, ", "))
}

// Temporary says that the record belongs to a migration: the target of one, or the source that one left behind.
func (v Volume) Temporary() bool {
	status := v.Migration()
	return strings.HasPrefix(status, "target:") || status == "deleting" || v.Status == "kept"
}

// CreateVolume asks for a volume and answers with its record, whose status may still be creating.
func (c *Client) CreateVolume(ctx context.Context, v CreateVolume) (Volume, error) {
	if v.Size == 0 {
		v.Size = ToGiB(v.SizeBytes)
	}
	var answer VolumeAnswer
	_, err := c.cinder(ctx, &answer, func(ctx context.Context, s *gophercloud.ServiceClient) gophercloud.Result {
		return volumes.Create(ctx, s, body{"volume": v}, nil).Result
	})
	return answer.Volume, err
}

// DeleteVolume deletes a volume. The agent answers when it is done.
func (c *Client) DeleteVolume(ctx context.Context, id string) error {
	id, err := segment(id)
	if err != nil {
		return err
	}
	_, err = c.cinder(ctx, nil, func(ctx context.Context, s *gophercloud.ServiceClient) gophercloud.Result {
		return volumes.Delete(ctx, s, id, nil).Result
	})
	return err
}

// MigrateVolume asks for a migration of the volume with this id. The agent answers when it is accepted: see Migration, with
// the id that is returned, for how it goes. That is empty if what answers is no agent but a plain Cinder.
func (c *Client) MigrateVolume(ctx context.Context, volumeID string, m MigrateVolume) (id string, err error) {
	var header http.Header
	err = c.do(ctx, call{
		method: http.MethodPost, path: []string{"v3", "volumes", volumeID, "action"},
		in: MigrateVolumeRequest{Migrate: m}, header: &header,
	})
	return header.Get(MigrationHeader), err
}

// UpdateVolume says what to change of a volume; nil leaves what is there. Metadata replaces all that there is.
type UpdateVolume struct {
	Name        *string           `json:"name,omitempty"`
	Description *string           `json:"description,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
}

// UpdateVolume renames or describes the volume with this id, or replaces its metadata.
func (c *Client) UpdateVolume(ctx context.Context, id string, u UpdateVolume) (Volume, error) {
	id, err := segment(id)
	if err != nil {
		return Volume{}, err
	}
	var answer VolumeAnswer
	_, err = c.cinder(ctx, &answer, func(ctx context.Context, s *gophercloud.ServiceClient) gophercloud.Result {
		return volumes.Update(ctx, s, id, body{"volume": u}).Result
	})
	return answer.Volume, err
}

// ExtendVolume makes the volume with this id larger; size is in bytes, a multiple of 512. The agent answers when it is done.
func (c *Client) ExtendVolume(ctx context.Context, id string, size int64) error {
	id, err := segment(id)
	if err != nil {
		return err
	}
	_, err = c.cinder(ctx, nil, func(ctx context.Context, s *gophercloud.ServiceClient) gophercloud.Result {
		return volumes.ExtendSize(ctx, s, id, body{"os-extend": map[string]int64{
			"new_size": int64(ToGiB(size)), "cvold:size_bytes": size,
		}}).Result
	})
	return err
}

// VolumeMetadata is the body of POST /v3/volumes/ID/metadata, and the answer to it.
type VolumeMetadata struct {
	Metadata map[string]string `json:"metadata"`
}

// SetMetadata adds or changes metadata of the volume with this id, and returns all that it has then.
func (c *Client) SetMetadata(ctx context.Context, id string, items map[string]string) (map[string]string, error) {
	var answer VolumeMetadata
	err := c.do(ctx, call{
		method: http.MethodPost, path: []string{"v3", "volumes", id, "metadata"}, in: VolumeMetadata{items}, out: &answer,
	})
	return answer.Metadata, err
}

// UnsetMetadata removes an item of the metadata of the volume with this id.
func (c *Client) UnsetMetadata(ctx context.Context, id, key string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: []string{"v3", "volumes", id, "metadata", key}})
}
