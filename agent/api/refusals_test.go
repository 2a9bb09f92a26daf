package api

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/nbd"
)

// refused is a request and how it is refused. VOL is a volume, ATT one that is attached, AID one of a migration, MIG a
// migration, and NONE an id that is none of all.
type refused struct {
	name, line, body string
	prepare          func(*rig)
	code             int
	kind, says       string
}

const migrate = `{"os-migrate_volume": {"host": "node1@slow#slow"}}`

var long = strings.Repeat("x", 256)

// accept prepares an engine that refuses to accept with err; fail a manager that fails with it.
func accept(err error) func(*rig) {
	return func(r *rig) { r.migrations.accept = func(string, migration.Request) error { return err } }
}

func fail(err error) func(*rig) { return func(r *rig) { r.volumes.fail = err } }

var refusedPaths = []refused{
	{"no such path", "GET /v2/volumes", "", nil, 404, "itemNotFound", "/v2/volumes"},
	{"nova's path", "GET /v3/servers/detail", "", nil, 404, "itemNotFound", ""},
	{"wrong method", "PUT /v3/volumes", "", nil, 405, "badMethod", "GET, HEAD, POST"},
	{"wrong method of a project", "PATCH /v3/p/volumes", "", nil, 405, "badMethod", "GET, HEAD, POST"},
}

var refusedMigrate = []refused{
	{"migrate: not JSON", "POST /v3/volumes/VOL/action", `{`, nil, 400, "badRequest", "Malformed"},
	{"migrate: two values", "POST /v3/volumes/VOL/action", migrate + migrate, nil, 400, "badRequest", "Malformed"},
	{"migrate: a list", "POST /v3/volumes/VOL/action", `[]`, nil, 400, "badRequest", "object"},
	{"migrate: empty", "POST /v3/volumes/VOL/action", `{}`, nil, 400, "badRequest", "os-migrate_volume"},
	{"migrate: no body", "POST /v3/volumes/VOL/action", "", nil, 400, "badRequest", "Malformed"},
	{"migrate: another action", "POST /v3/volumes/VOL/action", `{"os-force_delete": {}}`, nil, 400, "badRequest", "os-force_delete. A volume has os-extend, os-migrate_volume"},
	{"migrate: two actions", "POST /v3/volumes/VOL/action", `{"os-migrate_volume": {"host": "h"}, "os-reset_status": {}}`, nil, 400, "badRequest", "'os-reset_status' was unexpected"},
	{"migrate: twice", "POST /v3/volumes/VOL/action", `{"os-migrate_volume": {"host": "h"}, "os-migrate_volume": {"host": "i"}}`, nil, 400, "badRequest", "there twice"},
	{"migrate: no host", "POST /v3/volumes/VOL/action", `{"os-migrate_volume": {}}`, nil, 400, "badRequest", "'host' is a required"},
	{"migrate: null host", "POST /v3/volumes/VOL/action", `{"os-migrate_volume": {"host": null}}`, nil, 400, "badRequest", "'host' is a required"},
	{"migrate: long host", "POST /v3/volumes/VOL/action", `{"os-migrate_volume": {"host": "` + long + `"}}`, nil, 400, "badRequest", "255"},
	{"migrate: extra key", "POST /v3/volumes/VOL/action", `{"os-migrate_volume": {"host": "h", "speed": 1}}`, nil, 400, "badRequest", "'speed' was unexpected"},
	{"migrate: key in other letters", "POST /v3/volumes/VOL/action", `{"os-migrate_volume": {"Host": "h"}}`, nil, 400, "badRequest", "'Host' was unexpected"},
	{"migrate: flag no boolean", "POST /v3/volumes/VOL/action", `{"os-migrate_volume": {"host": "h", "lock_volume": "maybe"}}`, nil, 400, "badRequest", "lock_volume"},
	{"migrate: null flag", "POST /v3/volumes/VOL/action", `{"os-migrate_volume": {"host": "h", "force_host_copy": null}}`, nil, 400, "badRequest", "force_host_copy"},
	{"migrate: cluster", "POST /v3/volumes/VOL/action", `{"os-migrate_volume": {"host": "h", "cluster": "c"}}`, nil, 400, "badRequest", "cluster"},
	{"migrate: no such volume", "POST /v3/volumes/NONE/action", migrate, nil, 404, "itemNotFound", "Volume NONE could not be found."},
	{"migrate: no such service", "POST /v3/volumes/VOL/action", migrate, accept(fmt.Errorf("host: No available service named 'x': %w", migration.ErrInvalid)), 400, "badRequest", "No available service named"},
	{"migrate: the same under way", "POST /v3/volumes/VOL/action", migrate, accept(fmt.Errorf("migration M: %w", migration.ErrConflict)), 409, "conflictingRequest", "migration M"},
	{"migrate: in use", "POST /v3/volumes/VOL/action", migrate, accept(fmt.Errorf("volume: %w", volume.ErrInUse)), 400, "badRequest", "in use"},
	{"migrate: agent stops", "POST /v3/volumes/VOL/action", migrate, accept(volume.ErrClosed), 503, "serviceUnavailable", "stopping"},
	{"migrate: something else", "POST /v3/volumes/VOL/action", migrate, accept(fmt.Errorf("disk on fire")), 500, "computeFault", "request id req-"},
}

var refusedCreate = []refused{
	{"create: extra key", "POST /v3/volumes", `{"volume": {"size": 1, "colour": "red"}}`, nil, 400, "badRequest", "Additional properties are not allowed ('colour' was unexpected)"},
	{"create: no size", "POST /v3/volumes", `{"volume": {}}`, nil, 400, "badRequest", "size"},
	{"create: size 0", "POST /v3/volumes", `{"volume": {"size": 0}}`, nil, 400, "badRequest", "size"},
	{"create: size below 0", "POST /v3/volumes", `{"volume": {"size": -1}}`, nil, 400, "badRequest", "size"},
	{"create: bytes below 0", "POST /v3/volumes", `{"volume": {"cvold:size_bytes": -1}}`, nil, 400, "badRequest", "cvold:size_bytes"},
	{"create: size too large", "POST /v3/volumes", `{"volume": {"size": 9000000000}}`, nil, 400, "badRequest", "9000000000 GiB"},
	{"create: size a fraction", "POST /v3/volumes", `{"volume": {"size": 1.5}}`, nil, 400, "badRequest", "size"},
	{"create: two sizes", "POST /v3/volumes", `{"volume": {"size": 2, "cvold:size_bytes": 512}}`, nil, 400, "badRequest", "another size"},
	{"create: long name", "POST /v3/volumes", `{"volume": {"size": 1, "name": "` + long + `"}}`, nil, 400, "badRequest", "255"},
	{"create: metadata no strings", "POST /v3/volumes", `{"volume": {"size": 1, "metadata": {"a": 1}}}`, nil, 400, "badRequest", "metadata"},
	{"create: metadata null", "POST /v3/volumes", `{"volume": {"size": 1, "metadata": {"a": null}}}`, nil, 400, "badRequest", "metadata"},
	{"create: from a snapshot", "POST /v3/volumes", `{"volume": {"size": 1, "snapshot_id": "s"}}`, nil, 400, "badRequest", "snapshot_id"},
	{"create: zone", "POST /v3/volumes", `{"volume": {"size": 1, "availability_zone": "mars"}}`, nil, 400, "badRequest", "Availability zone 'mars' is invalid."},
	{"create: no back end", "POST /v3/volumes", `{"volume": {"size": 1}}`, fail(fmt.Errorf("x: %w", volume.ErrNoBackend)), 400, "badRequest", "no such back end"},
	{"create: full", "POST /v3/volumes", `{"volume": {"size": 1}}`, fail(fmt.Errorf("x: %w", dataplane.ErrNoSpace)), 413, "overLimit", "no space"},
	{"create: too long", "POST /v3/volumes", `{"volume": {"size": 1, "name": "` + strings.Repeat("y", maxBody) + `"}}`, nil, 413, "overLimit", "longer than 1048576"},
}

var refusedVolumes = []refused{
	{"manage: no host", "POST /v3/manageable_volumes", `{"volume": {"ref": {"source-name": "x"}}}`, nil, 400, "badRequest", "'host' is a required"},
	{"manage: no ref", "POST /v3/os-volume-manage", `{"volume": {"host": "node1@a#a"}}`, nil, 400, "badRequest", "invalid backend reference"},
	{"manage: another ref", "POST /v3/manageable_volumes", `{"volume": {"host": "node1@a#a", "ref": {"source-id": "x"}}}`, nil, 400, "badRequest", "source-name"},
	{"manage: ref no object", "POST /v3/manageable_volumes", `{"volume": {"host": "node1@a#a", "ref": "x"}}`, nil, 400, "badRequest", "ref"},
	{"manage: bootable", "POST /v3/manageable_volumes", `{"volume": {"host": "node1@a#a", "ref": {"source-name": "x"}, "bootable": true}}`, nil, 400, "badRequest", "bootable"},
	{"manage: zone", "POST /v3/manageable_volumes", `{"volume": {"host": "node1@a#a", "ref": {"source-name": "x"}, "availability_zone": "mars"}}`, nil, 400, "badRequest", "mars"},
	{"manage: cluster", "POST /v3/manageable_volumes", `{"volume": {"cluster": "c", "ref": {"source-name": "x"}}}`, nil, 400, "badRequest", "cluster"},
	{"manage: no such host", "POST /v3/manageable_volumes", `{"volume": {"host": "node1@a#a", "ref": {"source-name": "x"}}}`, nil, 400, "badRequest", "node1@a#a"},
	{"manageable: no host", "GET /v3/manageable_volumes", "", nil, 400, "badRequest", "'host' must be set"},
	{"manageable: no such host", "GET /v3/manageable_volumes/detail?host=node1@a", "", nil, 400, "badRequest", "node1@a"},
	{"manageable: limit", "GET /v3/manageable_volumes?host=a&limit=x", "", nil, 400, "badRequest", "limit"},
	{"manageable: filter", "GET /v3/manageable_volumes?host=a&colour=red", "", nil, 400, "badRequest", "colour"},
	{"unmanage: attached", "POST /v3/volumes/ATT/action", `{"os-unmanage": {}}`, nil, 400, "badRequest", "attached"},
	{"unmanage: of a migration", "POST /v3/volumes/AID/action", `{"os-unmanage": {}}`, nil, 400, "badRequest", "aid of migration m"},
	{"unmanage: a field", "POST /v3/volumes/VOL/action", `{"os-unmanage": {"force": true}}`, nil, 400, "badRequest", "force"},
	{"list: unknown filter", "GET /v3/volumes/detail?colour=red", "", nil, 400, "badRequest", "Invalid filters colour"},
	{"list: limit", "GET /v3/volumes?limit=0", "", nil, 400, "badRequest", "limit"},
	{"list: marker", "GET /v3/volumes?marker=nope", "", nil, 400, "badRequest", "marker"},
	{"show: no such volume", "GET /v3/volumes/NONE", "", nil, 404, "itemNotFound", "Volume NONE could not be found."},
	{"show: by name", "GET /v3/volumes/vol", "", nil, 404, "itemNotFound", "Volume vol could not be found."},
	{"delete: no such volume", "DELETE /v3/volumes/NONE", "", nil, 404, "itemNotFound", "could not be found"},
	{"delete: attached", "DELETE /v3/volumes/ATT", "", nil, 400, "badRequest", "attached"},
	{"delete: of a migration", "DELETE /v3/volumes/AID", "", nil, 400, "badRequest", "aid of migration m"},
	{"delete: wrong status", "DELETE /v3/volumes/VOL", "", fail(fmt.Errorf("x: %w", volume.ErrStatus)), 400, "badRequest", "status"},
	{"delete: a body", "DELETE /v3/volumes/VOL", `{"cascade": true}`, nil, 400, "badRequest", "cascade"},
}

var refusedAttachments = []refused{
	{"attach: no volume", "POST /v1/attachments", `{}`, nil, 400, "badRequest", "'volume' is a required"},
	{"attach: no such volume", "POST /v1/attachments", `{"volume": "NONE"}`, nil, 404, "itemNotFound", "could not be found"},
	{"attach: of a migration", "POST /v1/attachments", `{"volume": "AID"}`, nil, 400, "badRequest", "aid of migration m"},
	{"attach: in use", "POST /v1/attachments", `{"volume": "VOL"}`, fail(fmt.Errorf("x: %w", volume.ErrInUse)), 409, "conflictingRequest", "in use"},
	{"attach: no server", "POST /v1/attachments", `{"volume": "VOL"}`, fail(fmt.Errorf("x: %w", volume.ErrNoServer)), 503, "serviceUnavailable", "NBD"},
	{"attachments: filter", "GET /v1/attachments?colour=red", "", nil, 400, "badRequest", "colour"},
	{"attachments: no such volume", "GET /v1/attachments?volume=NONE", "", nil, 404, "itemNotFound", "NONE"},
	{"attach: device no boolean", "POST /v1/attachments", `{"volume": "VOL", "device": "sda"}`, nil, 400, "badRequest", "device"},
	{"attach: no kernel", "POST /v1/attachments", `{"volume": "VOL", "device": true}`, fail(fmt.Errorf("x: %w: modprobe nbd", nbd.ErrNoKernel)), 503, "serviceUnavailable", "modprobe nbd"},
	{"attach: odd size", "POST /v1/attachments", `{"volume": "VOL", "device": true}`, fail(fmt.Errorf("x: %w", nbd.ErrInvalidExport)), 400, "badRequest", "cannot be served"},
	{"detach: option", "DELETE /v1/attachments/NONE?gently=true", "", nil, 400, "badRequest", "gently"},
	{"detach: force no boolean", "DELETE /v1/attachments/NONE?force=very", "", nil, 400, "badRequest", "force"},
	{"detach: no such", "DELETE /v1/attachments/NONE", "", nil, 404, "itemNotFound", "Attachment NONE"},
	{"attachment: no such", "GET /v1/attachments/NONE", "", nil, 404, "itemNotFound", "Attachment NONE"},
}

var refusedMigrations = []refused{
	{"migration: no such", "GET /v1/migrations/NONE", "", nil, 404, "itemNotFound", "NONE"},
	{"migration: wait for none", "GET /v1/migrations/NONE/wait", "", nil, 404, "itemNotFound", "NONE"},
	{"migration: wait how long", "GET /v1/migrations/MIG/wait?timeout=soon", "", nil, 400, "badRequest", "timeout soon"},
	{"migration: events of none", "GET /v1/migrations/NONE/events", "", nil, 404, "itemNotFound", "NONE"},
	{"migrations: filter", "GET /v1/migrations?colour=red", "", nil, 400, "badRequest", "colour"},
	{"migrations: active", "GET /v1/migrations?active=perhaps", "", nil, 400, "badRequest", "active"},
	{"abort: locked", "POST /v1/migrations/MIG/abort", "", func(r *rig) { r.migrations.end = migration.ErrLocked }, 409, "conflictingRequest", "locked"},
	{"abort: too late", "POST /v1/migrations/MIG/abort", "", func(r *rig) { r.migrations.end = migration.ErrTooLate }, 409, "conflictingRequest", "any more"},
	{"abort: a body", "POST /v1/migrations/MIG/abort", `{"why": 1}`, nil, 400, "badRequest", "why"},
	{"resolve: no owner", "POST /v1/migrations/MIG/resolve", `{}`, nil, 400, "badRequest", "owner"},
	{"resolve: refused", "POST /v1/migrations/MIG/resolve", `{"owner": "node2"}`, func(r *rig) { r.migrations.end = migration.ErrInvalid }, 400, "badRequest", "invalid"},
	{"limit: no number", "PUT /v1/migrations/MIG/limit", `{"iops": "fast"}`, nil, 400, "badRequest", "whole number"},
	{"limit: no class", "PUT /v1/migrations/MIG/limit", `{"transfer_class": 3}`, nil, 400, "badRequest", "transfer_class"},
	{"limit: too late", "PUT /v1/migrations/MIG/limit", `{"iops": 3}`, func(r *rig) { r.migrations.end = migration.ErrTooLate }, 409, "conflictingRequest", "any more"},
	{"limit: the node has no class", "PUT /v1/node/limit", `{"transfer_class": "normal"}`, nil, 400, "badRequest", "transfer_class"},
	{"limit: the node's is no number", "PUT /v1/node/limit", `{"bytes_per_second": 1.5}`, nil, 400, "badRequest", "whole number"},
	{"limit: refused", "PUT /v1/node/limit", `{"bytes_per_second": -1}`, func(r *rig) { r.migrations.end = migration.ErrInvalid }, 400, "badRequest", "invalid"},
	{"limit: a back end has no class", "PUT /v1/backends/b/limit", `{"transfer_class": "normal"}`, nil, 400, "badRequest", "transfer_class"},
	{"limit: no back end", "PUT /v1/backends/b/limit", `{}`, func(r *rig) { r.migrations.end = migration.ErrNotFound }, 404, "itemNotFound", "not found"},
	{"migrate: no rate", "POST /v3/volumes/VOL/action", `{"os-migrate_volume": {"host": "h", "cvold:iops": "x"}}`, nil, 400, "badRequest", "cvold:iops"},
	{"manifest: none", "GET /v1/manifests/NONE", "", nil, 404, "itemNotFound", "NONE"},
}

// TestRefusals makes every refusal happen: its code, its kind, its sentence, and records that stay as they were.
func TestRefusals(t *testing.T) {
	for _, c := range slices.Concat(
		refusedPaths, refusedMigrate, refusedCreate, refusedVolumes, refusedAttachments, refusedMigrations,
	) {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			vol, att := newVolume(nil), newVolume(func(v *catalog.Volume) { v.Status = catalog.StatusInUse })
			aid := newVolume(func(v *catalog.Volume) { v.MigrationStatus, v.MigrationID = catalog.TargetOf(vol.ID), "m" })
			r.put(vol, att, aid, catalog.Attachment{ID: uuid.NewString(), VolumeID: att.ID, Export: "e"})
			mig := uuid.NewString()
			r.migrations.views[mig] = migration.View{Role: "source", Migration: catalog.Migration{ID: mig, State: catalog.StateCopying}}
			if c.prepare != nil {
				c.prepare(r)
			}
			before := r.dump()
			none := uuid.NewString()
			ids := strings.NewReplacer("VOL", vol.ID, "ATT", att.ID, "AID", aid.ID, "NONE", none, "MIG", mig)
			w := r.ask(root, ids.Replace(c.line), ids.Replace(c.body))
			e := refusal(t, w)
			if w.Code != c.code || e.Kind != c.kind || !strings.Contains(e.Message, ids.Replace(c.says)) {
				t.Errorf("%d %s %q, want %d %s with %q", w.Code, e.Kind, e.Message, c.code, c.kind, ids.Replace(c.says))
			}
			if r.dump() != before {
				t.Errorf("records changed:\n%s\n%s", before, r.dump())
			}
		})
	}
}

func TestInternalErrorsAreLoggedNotTold(t *testing.T) {
	r := newRig(t)
	r.volumes.fail = fmt.Errorf("secret detail")
	w := r.ask(root, "POST /v3/volumes", `{"volume": {"size": 1}}`)
	id := w.Header().Get("X-Openstack-Request-Id")
	if w.Code != 500 || strings.Contains(w.Body.String(), "secret") || !strings.Contains(w.Body.String(), id) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, line := range strings.Split(r.log.String(), "\n") {
		if strings.Contains(line, "secret detail") && strings.Contains(line, id) && strings.Contains(line, "level=ERROR") {
			return
		}
	}
	t.Errorf("log has nothing of it: %s", r.log)
}

func TestPanicIsA500(t *testing.T) {
	r := newRig(t)
	r.migrations.accept = func(string, migration.Request) error { panic("boom") }
	v := newVolume(nil)
	r.put(v)
	w := r.ask(root, "POST /v3/volumes/"+v.ID+"/action", `{"os-migrate_volume": {"host": "h"}}`)
	if w.Code != 500 || !strings.Contains(r.log.String(), "boom") {
		t.Errorf("%d %s", w.Code, r.log)
	}
	r.want(http.StatusOK, "GET /v3/volumes/"+v.ID, "", nil) // and the next one is answered
}

func TestContentTypeMustBeJSON(t *testing.T) {
	r := newRig(t)
	for _, kind := range []string{"text/plain", "application/x-www-form-urlencoded", ";;"} {
		w := r.ask(root, "POST /v3/volumes", `{"volume": {"size": 1}}`, "Content-Type", kind)
		if w.Code != 400 || !strings.Contains(w.Body.String(), "Content-Type") {
			t.Errorf("%s: %d %s", kind, w.Code, w.Body)
		}
	}
	w := r.ask(root, "POST /v3/volumes", `{"volume": {"size": 1}}`, "Content-Type", "application/json; charset=utf-8")
	if w.Code != http.StatusAccepted {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
