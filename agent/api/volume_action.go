package api

import (
	"bytes"
	"encoding/json"
	"net/http"

	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/client"
)

// migrateBody is os-migrate_volume (api/contrib/admin_actions.py, schemas/admin_actions.py).
type migrateBody struct {
	host        string
	force, lock client.Bool
}

func (b *migrateBody) fields() fields {
	return fields{
		"host":            text("host", &b.host),
		"force_host_copy": flag("force_host_copy", &b.force),
		"lock_volume":     flag("lock_volume", &b.lock),
		"cluster":         notYet("cluster"),
	}
}

// volumeAction answers POST /v3/volumes/ID/action.
func (s *Server) volumeAction(x *exchange) error {
	body, err := x.readBody()
	if err != nil {
		return err
	}
	m, err := decodeAction(body)
	if err != nil {
		return err
	}
	if _, err := s.volume(x.id()); err != nil {
		return err
	}
	ctx, cancel := x.work()
	defer cancel()
	accepted, err := s.o.Migrations.Accept(ctx, x.id(), migration.Request{
		Host: m.host, ForceHostCopy: bool(m.force), LockVolume: bool(m.lock),
	})
	if err != nil {
		return err
	}
	x.w.Header().Set(client.MigrationHeader, accepted.ID)
	return x.empty(http.StatusAccepted)
}

// decodeAction reads the one action that there is.
func decodeAction(body []byte) (m migrateBody, err error) {
	if name := actionName(body); name != "" && name != "os-migrate_volume" {
		return m, badRequest("There is no such action: %s. A volume has os-migrate_volume.", show([]byte(name)))
	}
	found := false
	inner := object("os-migrate_volume", m.fields())
	err = decodeBody(body, fields{"os-migrate_volume": func(raw json.RawMessage) error {
		found = true
		return inner(raw)
	}})
	switch {
	case err != nil:
		return m, err
	case !found:
		return m, badRequest("There is no action in the body. A volume has os-migrate_volume.")
	case m.host == "":
		return m, badRequest("Invalid input for field/attribute os-migrate_volume. 'host' is a required property")
	}
	return m, nil
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
