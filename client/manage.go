package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/manageablevolumes"
)

// ManageableVolume is an object of a back end that could be a volume, as Cinder shows it.
type ManageableVolume struct {
	Reference VolumeReference `json:"reference"`
	// Size in GiB, rounded up; SizeBytes is exact.
	Size      GiB   `json:"size"`
	SizeBytes int64 `json:"cvold:size_bytes"`
	// SafeToManage is false for one that is a volume's already, or that cannot be one.
	SafeToManage bool `json:"safe_to_manage"`
	// ManageableDetail is nil in the list without details: its keys are then absent.
	*ManageableDetail
}

// VolumeReference is a driver's word on an object.
type VolumeReference struct {
	// SourceName is its name in the back end.
	SourceName string `json:"source-name"`
}

// ManageableDetail says more of a ManageableVolume.
type ManageableDetail struct {
	// ReasonNotSafe says why it cannot be managed; null if it can.
	ReasonNotSafe *string `json:"reason_not_safe"`
	// CinderID is the volume that it is the object of; null if it is none's.
	CinderID *string `json:"cinder_id"`
	// ExtraInfo is always null.
	ExtraInfo *string `json:"extra_info"`
}

// ManageableVolumesAnswer answers GET /v3/manageable_volumes.
type ManageableVolumesAnswer struct {
	Volumes []ManageableVolume `json:"manageable-volumes"`
}

// ManageVolume is an object that shall become a volume. Host and Existing are needed.
type ManageVolume struct {
	// Host is node@backend#pool; Existing is the object's name there.
	Host, Existing string
	// Name, Description and VolumeType may be empty.
	Name, Description, VolumeType string
	Metadata                      map[string]string
}

// ManageVolume makes a volume of an object that is in a back end and belongs to nobody, with the bytes that it has. The
// object gets the volume's own name. The agent answers when it is done.
func (c *Client) ManageVolume(ctx context.Context, v ManageVolume) (Volume, error) {
	var answer VolumeAnswer
	_, err := c.cinder(ctx, &answer, func(ctx context.Context, s *gophercloud.ServiceClient) gophercloud.Result {
		return manageablevolumes.ManageExisting(ctx, s, manageablevolumes.ManageExistingOpts{
			Host: v.Host, Ref: map[string]string{"source-name": v.Existing},
			Name: v.Name, Description: v.Description, VolumeType: v.VolumeType, Metadata: v.Metadata,
		}).Result
	})
	return answer.Volume, err
}

// ManageableVolumes lists the objects of a back end that could be volumes, by name, with their details.
func (c *Client) ManageableVolumes(ctx context.Context, host string) ([]ManageableVolume, error) {
	var answer ManageableVolumesAnswer
	err := c.do(ctx, call{
		method: http.MethodGet, path: []string{"v3", "manageable_volumes", "detail"}, query: url.Values{"host": {host}}, out: &answer,
	})
	return answer.Volumes, err
}

// UnmanageVolume makes the volume with this id an object of its back end again, with the name and the bytes that it has.
func (c *Client) UnmanageVolume(ctx context.Context, id string) error {
	return c.do(ctx, call{
		method: http.MethodPost, path: []string{"v3", "volumes", id, "action"}, in: map[string]any{"os-unmanage": map[string]any{}},
	})
}
