package client

import (
	"context"
	"fmt"
	"net/http"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumetypes"
	"github.com/gophercloud/gophercloud/v2/pagination"
)

// VolumeType is a volume type in the Cinder dialect.
type VolumeType struct {
	ID          string  `json:"id"`
	Name        string  `json:"name"`
	IsPublic    bool    `json:"is_public"`
	Description *string `json:"description"`
	// AccessIsPublic is IsPublic again, under the key of the extension.
	AccessIsPublic bool `json:"os-volume-type-access:is_public"`
	// VolumeTypeAdmin is nil in answers to those who are not admin: its keys are then absent.
	*VolumeTypeAdmin
}

// VolumeTypeAdmin is what only an admin sees of a type.
type VolumeTypeAdmin struct {
	ExtraSpecs map[string]string `json:"extra_specs"`
	QosSpecsID *string           `json:"qos_specs_id"`
}

// Specs are the extra specs; nil if they are not shown.
func (t VolumeType) Specs() map[string]string {
	if t.VolumeTypeAdmin == nil {
		return nil
	}
	return t.ExtraSpecs
}

// VolumeTypeAnswer answers POST /v3/types (200), and GET and PUT /v3/types/ID.
type VolumeTypeAnswer struct {
	VolumeType VolumeType `json:"volume_type"`
}

func (a *VolumeTypeAnswer) id() string { return a.VolumeType.ID }

// VolumeTypesAnswer answers GET /v3/types.
type VolumeTypesAnswer struct {
	VolumeTypes []VolumeType `json:"volume_types"`
}

// ExtraSpecs is the body of POST /v3/types/ID/extra_specs, and the answer to it and to GET.
type ExtraSpecs struct {
	ExtraSpecs map[string]string `json:"extra_specs"`
}

// CreateVolumeType describes a type to make.
type CreateVolumeType struct {
	Name        string            `json:"name"`
	Description *string           `json:"description,omitempty"`
	ExtraSpecs  map[string]string `json:"extra_specs,omitempty"`
}

// UpdateVolumeType says what to change of a type; nil leaves what is there.
type UpdateVolumeType struct {
	Name        *string `json:"name,omitempty"`
	Description *string `json:"description,omitempty"`
}

// The retype policies of Cinder.
const (
	// RetypeNever changes the type only where the volume is.
	RetypeNever = "never"
	// RetypeOnDemand migrates the volume if the new type asks for it.
	RetypeOnDemand = "on-demand"
)

// VolumeTypes lists the types of this agent, the newest first.
func (c *Client) VolumeTypes(ctx context.Context) ([]VolumeType, error) {
	var answer VolumeTypesAnswer
	err := c.cinderList(ctx, &answer, func(s *gophercloud.ServiceClient) pagination.Pager { return volumetypes.List(s, nil) })
	return answer.VolumeTypes, err
}

// VolumeType finds a type by its id or its name.
func (c *Client) VolumeType(ctx context.Context, idOrName string) (VolumeType, error) {
	if uuid.Validate(idOrName) == nil {
		var answer VolumeTypeAnswer
		_, err := c.cinder(ctx, &answer, func(ctx context.Context, s *gophercloud.ServiceClient) gophercloud.Result {
			return volumetypes.Get(ctx, s, idOrName).Result
		})
		if err == nil || !IsNotFound(err) {
			return answer.VolumeType, err
		}
	}
	all, err := c.VolumeTypes(ctx)
	if err != nil {
		return VolumeType{}, err
	}
	for _, t := range all {
		if t.Name == idOrName {
			return t, nil
		}
	}
	return VolumeType{}, NewError(http.StatusNotFound, fmt.Sprintf("Volume type %s could not be found.", idOrName))
}

// CreateVolumeType makes a type.
func (c *Client) CreateVolumeType(ctx context.Context, t CreateVolumeType) (VolumeType, error) {
	var answer VolumeTypeAnswer
	_, err := c.cinder(ctx, &answer, func(ctx context.Context, s *gophercloud.ServiceClient) gophercloud.Result {
		return volumetypes.Create(ctx, s, body{"volume_type": t}).Result
	})
	return answer.VolumeType, err
}

// UpdateVolumeType renames or describes the type with this id.
func (c *Client) UpdateVolumeType(ctx context.Context, id string, t UpdateVolumeType) (VolumeType, error) {
	id, err := segment(id)
	if err != nil {
		return VolumeType{}, err
	}
	var answer VolumeTypeAnswer
	_, err = c.cinder(ctx, &answer, func(ctx context.Context, s *gophercloud.ServiceClient) gophercloud.Result {
		return volumetypes.Update(ctx, s, id, body{"volume_type": t}).Result
	})
	return answer.VolumeType, err
}

// DeleteVolumeType deletes the type with this id, which no volume may have.
func (c *Client) DeleteVolumeType(ctx context.Context, id string) error {
	id, err := segment(id)
	if err != nil {
		return err
	}
	_, err = c.cinder(ctx, nil, func(ctx context.Context, s *gophercloud.ServiceClient) gophercloud.Result {
		return volumetypes.Delete(ctx, s, id).Result
	})
	return err
}

// SetExtraSpecs sets extra specs of the type with this id, beside those that it has.
func (c *Client) SetExtraSpecs(ctx context.Context, id string, specs map[string]string) error {
	id, err := segment(id)
	if err != nil {
		return err
	}
	_, err = c.cinder(ctx, nil, func(ctx context.Context, s *gophercloud.ServiceClient) gophercloud.Result {
		return volumetypes.CreateExtraSpecs(ctx, s, id, volumetypes.ExtraSpecsOpts(specs)).Result
	})
	return err
}

// UnsetExtraSpec removes an extra spec of the type with this id.
func (c *Client) UnsetExtraSpec(ctx context.Context, id, key string) error {
	id, err := segment(id)
	if err != nil {
		return err
	}
	if key, err = segment(key); err != nil {
		return err
	}
	_, err = c.cinder(ctx, nil, func(ctx context.Context, s *gophercloud.ServiceClient) gophercloud.Result {
		return volumetypes.DeleteExtraSpec(ctx, s, id, key).Result
	})
	return err
}

// RetypeVolume gives the volume with this id another type, by name or id. policy is RetypeNever or RetypeOnDemand.
func (c *Client) RetypeVolume(ctx context.Context, volumeID, newType, policy string) error {
	id, err := segment(volumeID)
	if err != nil {
		return err
	}
	_, err = c.cinder(ctx, nil, func(ctx context.Context, s *gophercloud.ServiceClient) gophercloud.Result {
		return volumes.ChangeType(ctx, s, id, volumes.ChangeTypeOpts{
			NewType: newType, MigrationPolicy: volumes.MigrationPolicy(policy),
		}).Result
	})
	return err
}
