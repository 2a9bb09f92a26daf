package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/client"
)

// noSpec is Cinder's 404 of an extra spec.
func noSpec(id, key string) error {
	return fault{http.StatusNotFound, fmt.Sprintf("Volume Type %s has no extra specs with key %s.", id, show([]byte(key)))}
}

// specType is the type that a path under extra_specs is about.
func (s *Server) specType(x *exchange) (catalog.Type, error) {
	t, err := s.o.Types.Type(x.id())
	return t, noType(err, x.id())
}

// listExtraSpecs answers GET /v3/types/ID/extra_specs.
func (s *Server) listExtraSpecs(x *exchange) error {
	t, err := s.specType(x)
	if err != nil {
		return err
	}
	if t.ExtraSpecs == nil {
		t.ExtraSpecs = map[string]string{}
	}
	return x.json(http.StatusOK, client.ExtraSpecs{ExtraSpecs: t.ExtraSpecs})
}

// setExtraSpecs answers POST /v3/types/ID/extra_specs, with what was asked for, as Cinder does.
func (s *Server) setExtraSpecs(x *exchange) error {
	var specs map[string]string
	if err := x.read(fields{"extra_specs": metadata("extra_specs", &specs)}); err != nil {
		return err
	}
	if len(specs) == 0 {
		return badRequest("Invalid input for field/attribute extra_specs. It must have at least one key")
	}
	if _, err := s.o.Types.ChangeExtraSpecs(x.id(), specs); err != nil {
		return noType(err, x.id())
	}
	return x.json(http.StatusOK, client.ExtraSpecs{ExtraSpecs: specs})
}

// showExtraSpec answers GET /v3/types/ID/extra_specs/KEY.
func (s *Server) showExtraSpec(x *exchange) error {
	t, err := s.specType(x)
	if err != nil {
		return err
	}
	key := x.r.PathValue("key")
	value, ok := t.ExtraSpecs[key]
	if !ok {
		return noSpec(x.id(), key)
	}
	return x.json(http.StatusOK, map[string]string{key: value})
}

// setExtraSpec answers PUT /v3/types/ID/extra_specs/KEY.
func (s *Server) setExtraSpec(x *exchange) error {
	key := x.r.PathValue("key")
	var value *string
	if err := x.read(fields{key: textOrNull(key, &value)}); err != nil {
		return err
	}
	if value == nil {
		return badRequest("Invalid input for field/attribute %s. The body must be {\"%s\": \"VALUE\"}", show([]byte(key)), show([]byte(key)))
	}
	if _, err := s.o.Types.ChangeExtraSpecs(x.id(), map[string]string{key: *value}); err != nil {
		return noType(err, x.id())
	}
	return x.json(http.StatusOK, map[string]string{key: *value})
}

// deleteExtraSpec answers DELETE /v3/types/ID/extra_specs/KEY.
func (s *Server) deleteExtraSpec(x *exchange) error {
	if err := x.noBody(); err != nil {
		return err
	}
	if _, err := s.specType(x); err != nil {
		return err
	}
	key := x.r.PathValue("key")
	_, err := s.o.Types.ChangeExtraSpecs(x.id(), nil, key)
	if errors.Is(err, volume.ErrNotFound) {
		return noSpec(x.id(), key)
	}
	if err != nil {
		return err
	}
	return x.empty(http.StatusAccepted)
}

// textOrNull decodes a string of at most maxText characters; null is none.
func textOrNull(name string, p **string) decoder {
	return func(raw json.RawMessage) error {
		if isNull(raw) {
			return nil
		}
		var s string
		if err := text(name, &s)(raw); err != nil {
			return err
		}
		*p = &s
		return nil
	}
}
