package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/google/uuid"
)

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

// Volumes lists the volumes that the filter chooses, in the agent's order.
func (c *Client) Volumes(ctx context.Context, f VolumeFilter) ([]Volume, error) {
	query := url.Values{}
	if f.Name != "" {
		query.Set("name", f.Name)
	}
	if f.Status != "" {
		query.Set("status", f.Status)
	}
	var answer VolumesAnswer
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v3", "volumes", "detail"}, query: query, out: &answer})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(answer.Volumes, func(v Volume) bool { return !f.matches(v) }), nil
}

// Volume finds a volume by its id, or by its name if just one volume has it (ErrAmbiguous otherwise, with the ids). The
// temporary volume of a migration, which carries the name of the volume that migrates, is found by its id alone.
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
	var answer VolumeAnswer
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v3", "volumes", id}, out: &answer})
	return answer.Volume, err
}

func (c *Client) volumeByName(ctx context.Context, name string) (Volume, error) {
	if name == "" {
		return Volume{}, NewError(http.StatusNotFound, "The empty name names no volume.")
	}
	volumes, err := c.Volumes(ctx, VolumeFilter{Name: name})
	if err != nil {
		return Volume{}, err
	}
	volumes = slices.DeleteFunc(volumes, Volume.Temporary)
	switch len(volumes) {
	case 0:
		return Volume{}, NewError(http.StatusNotFound, fmt.Sprintf("Volume %s could not be found.", name))
	case 1:
		return volumes[0], nil
	}
	ids := make([]string, len(volumes))
	for i, v := range volumes {
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
	err := c.do(ctx, call{
		method: http.MethodPost, path: []string{"v3", "volumes"},
		in: CreateVolumeRequest{Volume: v}, out: &answer,
	})
	return answer.Volume, err
}

// DeleteVolume asks for the end of a volume. The agent answers before it is done.
func (c *Client) DeleteVolume(ctx context.Context, id string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: []string{"v3", "volumes", id}})
}

// MigrateVolume asks for a migration. The agent answers when it is accepted: see Migrations for how it goes.
func (c *Client) MigrateVolume(ctx context.Context, id string, m MigrateVolume) error {
	return c.do(ctx, call{
		method: http.MethodPost, path: []string{"v3", "volumes", id, "action"},
		in: MigrateVolumeRequest{Migrate: m},
	})
}
