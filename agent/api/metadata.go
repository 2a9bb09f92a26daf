package api

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/volume"
)

// metadataAnswer is Cinder's answer with the metadata of a volume.
type metadataAnswer struct {
	Metadata map[string]string `json:"metadata"`
}

func (x *exchange) metadata(v catalog.Volume) error {
	if v.Metadata == nil {
		v.Metadata = map[string]string{}
	}
	return x.json(http.StatusOK, metadataAnswer{v.Metadata})
}

// metaAnswer is Cinder's answer with one item.
func (x *exchange) metaItem(key, value string) error {
	return x.json(http.StatusOK, map[string]map[string]string{"meta": {key: value}})
}

func noMetadata(id, key string) error {
	return fault{http.StatusNotFound, fmt.Sprintf("Volume %s has no metadata with key %s.", id, show([]byte(key)))}
}

// updateVolume answers PUT /v3/volumes/ID (api/schemas/volumes.py update).
func (s *Server) updateVolume(x *exchange) error {
	var e volume.Edit
	err := x.read(fields{"volume": object("volume", fields{
		"name": textOrNull("name", &e.DisplayName), "display_name": textOrNull("display_name", &e.DisplayName),
		"description":         textOrNull("description", &e.Description),
		"display_description": textOrNull("display_description", &e.Description),
		"metadata":            metadata("metadata", &e.Set),
	})})
	if err != nil {
		return err
	}
	if e.DisplayName == nil && e.Description == nil && e.Set == nil {
		return badRequest("At least one of the following parameters must be in the body: name, description, metadata")
	}
	e.Replace = e.Set != nil
	v, err := s.edit(x, e)
	if err != nil {
		return err
	}
	return x.volume(http.StatusOK, v)
}

// edit changes a volume that is no aid of a migration.
func (s *Server) edit(x *exchange, e volume.Edit) (catalog.Volume, error) {
	if v, err := s.usable(x.id()); err != nil {
		return v, err
	}
	ctx, cancel := x.work()
	defer cancel()
	return s.o.Volumes.Edit(ctx, x.id(), e)
}

// visible is a volume that the caller may see.
func (s *Server) visible(x *exchange) (catalog.Volume, error) {
	v, err := s.volume(x.id())
	if err == nil && hidden(v) && !x.caller.Admin {
		return v, noVolume(v.ID)
	}
	return v, err
}

// listMetadata answers GET /v3/volumes/ID/metadata.
func (s *Server) listMetadata(x *exchange) error {
	v, err := s.visible(x)
	if err != nil {
		return err
	}
	return x.metadata(v)
}

// addMetadata answers POST /v3/volumes/ID/metadata: items are added or changed.
func (s *Server) addMetadata(x *exchange) error { return s.changeMetadata(x, false) }

// replaceMetadata answers PUT /v3/volumes/ID/metadata: what is not in the body is gone.
func (s *Server) replaceMetadata(x *exchange) error { return s.changeMetadata(x, true) }

func (s *Server) changeMetadata(x *exchange, replace bool) error {
	e := volume.Edit{Replace: replace}
	if err := x.read(fields{"metadata": metadata("metadata", &e.Set)}); err != nil {
		return err
	}
	if e.Set == nil {
		return badRequest("Invalid input for field/attribute metadata. 'metadata' is a required property")
	}
	v, err := s.edit(x, e)
	if err != nil {
		return err
	}
	return x.metadata(v)
}

// showMetadataItem answers GET /v3/volumes/ID/metadata/KEY.
func (s *Server) showMetadataItem(x *exchange) error {
	v, err := s.visible(x)
	if err != nil {
		return err
	}
	key := x.r.PathValue("key")
	value, ok := v.Metadata[key]
	if !ok {
		return noMetadata(v.ID, key)
	}
	return x.metaItem(key, value)
}

// setMetadataItem answers PUT /v3/volumes/ID/metadata/KEY.
func (s *Server) setMetadataItem(x *exchange) error {
	key := x.r.PathValue("key")
	var item *string
	if err := x.read(fields{"meta": object("meta", fields{key: textOrNull(key, &item)})}); err != nil {
		return err
	}
	if item == nil {
		return badRequest(`Invalid input for field/attribute meta. The body must be {"meta": {"%s": "VALUE"}}`, show([]byte(key)))
	}
	if _, err := s.edit(x, volume.Edit{Set: map[string]string{key: *item}}); err != nil {
		return err
	}
	return x.metaItem(key, *item)
}

// deleteMetadataItem answers DELETE /v3/volumes/ID/metadata/KEY.
func (s *Server) deleteMetadataItem(x *exchange) error {
	if err := x.noBody(); err != nil {
		return err
	}
	key := x.r.PathValue("key")
	_, err := s.edit(x, volume.Edit{Unset: []string{key}})
	if errors.Is(err, volume.ErrNotFound) {
		return noMetadata(x.id(), key)
	}
	if err != nil {
		return err
	}
	return x.empty(http.StatusOK)
}
