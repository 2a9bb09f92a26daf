package api

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// action is what a POST to a volume's action asks for.
type action interface {
	// fields are the keys under the action's name.
	fields() fields
	// check refuses what the fields together make no sense of.
	check() error
	// run does it for the volume, which exists, and answers.
	run(ctx context.Context, s *Server, x *exchange) error
}

// actions are all that can be asked, by the name in the body.
var actions = map[string]func() action{
	"os-extend":         func() action { return new(extendBody) },
	"os-migrate_volume": func() action { return new(migrateBody) },
	"os-retype":         func() action { return new(retypeBody) },
	"os-unmanage":       func() action { return new(unmanageBody) },
}

// volumeAction answers POST /v3/volumes/ID/action.
func (s *Server) volumeAction(x *exchange) error {
	body, err := x.readBody()
	if err != nil {
		return err
	}
	a, err := decodeAction(body)
	if err != nil {
		return err
	}
	if _, err := s.volume(x.id()); err != nil {
		return err
	}
	ctx, cancel := x.work()
	defer cancel()
	if err := a.run(ctx, s, x); err != nil {
		return err
	}
	return x.empty(http.StatusAccepted)
}

// decodeAction reads the one action of a body.
func decodeAction(body []byte) (action, error) {
	has := "A volume has " + strings.Join(slices.Sorted(maps.Keys(actions)), ", ") + "."
	name := actionName(body)
	newAction, ok := actions[name]
	switch {
	case name != "" && !ok:
		return nil, badRequest("There is no such action: %s. %s", show([]byte(name)), has)
	case !ok:
		if err := decodeBody(body, fields{}); err != nil {
			return nil, err
		}
		return nil, badRequest("There is no action in the body. %s", has)
	}
	a := newAction()
	decode := object(name, a.fields())
	if len(a.fields()) == 0 { // {"os-unmanage": null} is what stock clients send
		decode = orNull(decode)
	}
	if err := decodeBody(body, fields{name: decode}); err != nil {
		return nil, err
	}
	return a, a.check()
}

// orNull takes null for the empty object.
func orNull(d decoder) decoder {
	return func(raw json.RawMessage) error {
		if isNull(raw) {
			return nil
		}
		return d(raw)
	}
}

// actionName is the first key of the body; empty if that is no object with a key.
func actionName(body []byte) string {
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return ""
	}
	t, _ := d.Token()
	name, _ := t.(string)
	return name
}
