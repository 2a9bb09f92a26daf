package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/client"
)

// noType is Cinder's 404 of a volume type, unless err is something else.
func noType(err error, id string) error {
	if errors.Is(err, volume.ErrNotFound) {
		return fault{http.StatusNotFound, fmt.Sprintf("Volume type %s could not be found.", show([]byte(id)))}
	}
	return err
}

// typeView is a type as the caller may see it.
func (x *exchange) typeView(t catalog.Type) client.VolumeType {
	w := client.VolumeType{
		ID: t.ID, Name: t.Name, IsPublic: true, AccessIsPublic: true, Description: nullable(t.Description),
	}
	if x.caller.Admin {
		w.VolumeTypeAdmin = &client.VolumeTypeAdmin{ExtraSpecs: t.ExtraSpecs}
		if t.ExtraSpecs == nil {
			w.ExtraSpecs = map[string]string{}
		}
	}
	return w
}

func (x *exchange) volumeType(t catalog.Type) error {
	return x.json(http.StatusOK, client.VolumeTypeAnswer{VolumeType: x.typeView(t)})
}

// typeQuery is what a list of types may be asked for.
type typeQuery struct {
	name, marker string
	// private: only types that are not public, of which there is none.
	private       bool
	limit, offset int
}

// readTypeQuery reads the query of GET /v3/types (api/v2/types.py, api/v3/types.py).
func readTypeQuery(q url.Values) (l typeQuery, err error) {
	number := func(key, v string, least int, p *int) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < least {
			return badRequest("%s %s is not a number from %d on", key, show([]byte(v)), least)
		}
		*p = n
		return nil
	}
	for key, values := range q {
		v := values[len(values)-1]
		switch key {
		case "name":
			l.name = v
		case "marker":
			l.marker = v
		case "is_public":
			if l.private, err = private(v); err != nil {
				return l, err
			}
		case "limit":
			err = number(key, v, 1, &l.limit)
		case "offset":
			err = number(key, v, 0, &l.offset)
		case "sort", "all_tenants":
		default:
			return l, badRequest("Invalid filters %s are found in query options.", show([]byte(key)))
		}
		if err != nil {
			return l, err
		}
	}
	return l, nil
}

// private reads is_public: None is all types, true the public ones, which are all too.
func private(word string) (bool, error) {
	if word == "None" || word == "none" || word == "" {
		return false, nil
	}
	public, err := client.ParseBool(word)
	if err != nil {
		return false, badRequest("Invalid is_public filter [%s]", show([]byte(word)))
	}
	return !public, nil
}

// choose is the part of all types that the query asks for.
func (l typeQuery) choose(all []catalog.Type) ([]catalog.Type, error) {
	all = slices.DeleteFunc(all, func(t catalog.Type) bool { return l.private || l.name != "" && l.name != t.Name })
	if l.marker != "" {
		i := slices.IndexFunc(all, func(t catalog.Type) bool { return t.ID == l.marker })
		if i < 0 {
			return nil, badRequest("marker %s is no volume type of this list", show([]byte(l.marker)))
		}
		all = all[i+1:]
	}
	all = all[min(l.offset, len(all)):]
	if l.limit > 0 {
		all = all[:min(l.limit, len(all))]
	}
	return all, nil
}

// listTypes answers GET /v3/types.
func (s *Server) listTypes(x *exchange) error {
	l, err := readTypeQuery(x.r.URL.Query())
	if err != nil {
		return err
	}
	all, err := s.o.Types.Types()
	if err != nil {
		return err
	}
	if all, err = l.choose(all); err != nil {
		return err
	}
	answer := client.VolumeTypesAnswer{VolumeTypes: make([]client.VolumeType, len(all))}
	for i, t := range all {
		answer.VolumeTypes[i] = x.typeView(t)
	}
	return x.json(http.StatusOK, answer)
}

// showType answers GET /v3/types/ID.
func (s *Server) showType(x *exchange) error {
	t, err := s.o.Types.Type(x.id())
	if err != nil {
		return noType(err, x.id())
	}
	return x.volumeType(t)
}

// typeBody is what POST /v3/types and PUT /v3/types/ID ask for (api/schemas/volume_types.py).
type typeBody struct {
	name, description *string
	specs             map[string]string
}

// fields: none of our types is private.
func (b *typeBody) fields(create bool) fields {
	f := fields{
		"name": textOrNull("name", &b.name), "description": textOrNull("description", &b.description),
		"os-volume-type-access:is_public": public, "is_public": public,
	}
	if create {
		f["extra_specs"] = metadata("extra_specs", &b.specs)
	}
	return fields{"volume_type": object("volume_type", f)}
}

// public takes that a type is public.
func public(raw json.RawMessage) error {
	var b client.Bool
	if !isNull(raw) && (b.UnmarshalJSON(raw) != nil || !bool(b)) {
		return invalid("is_public", raw, "Every volume type is public here: leave it out")
	}
	return nil
}

// createType answers POST /v3/types.
func (s *Server) createType(x *exchange) error {
	var b typeBody
	if err := x.read(b.fields(true)); err != nil {
		return err
	}
	if b.name == nil {
		return badRequest("Invalid input for field/attribute volume_type. 'name' is a required property")
	}
	t, err := s.o.Types.CreateType(*b.name, deref(b.description), b.specs)
	if err != nil {
		return err
	}
	return x.volumeType(t)
}

// updateType answers PUT /v3/types/ID.
func (s *Server) updateType(x *exchange) error {
	var b typeBody
	if err := x.read(b.fields(false)); err != nil {
		return err
	}
	if b.name == nil && b.description == nil {
		return badRequest("Specify volume type name, description or is_public.")
	}
	t, err := s.o.Types.UpdateType(x.id(), b.name, b.description)
	if err != nil {
		return noType(err, x.id())
	}
	return x.volumeType(t)
}

// deleteType answers DELETE /v3/types/ID.
func (s *Server) deleteType(x *exchange) error {
	if err := x.noBody(); err != nil {
		return err
	}
	if err := s.o.Types.DeleteType(x.id()); err != nil {
		return noType(err, x.id())
	}
	return x.empty(http.StatusAccepted)
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
