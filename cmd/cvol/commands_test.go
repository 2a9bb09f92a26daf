package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cvold/cvold/client"
)

// commands are runs of every command: their output stands in testdata/commands, what they ask the agent to change here.
var commands = []struct {
	name string
	args string
	asks []string
}{
	{"create", "create --name db --description main --type fast --metadata os=debian --metadata app=pg 20", []string{
		`POST /v3/volumes {"volume":{"name":"db","description":"main","size":20,"volume_type":"fast","availability_zone":null,` +
			`"metadata":{"app":"pg","os":"debian"},"cvold:size_bytes":21474836480}}`}},
	{"create-json", "create --json --host nodeA@ssd#ssd 512M", []string{
		`POST /v3/volumes {"volume":{"name":null,"description":null,"size":1,"volume_type":null,"availability_zone":null,` +
			`"cvold:size_bytes":536870912,"cvold:host":"nodeA@ssd#ssd"}}`}},
	{"create-bad-size", "create 10X", nil},
	{"create-bad-metadata", "create --metadata os 10", nil},
	{"list", "list", nil},
	{"list-status", "list --status error", nil},
	{"list-json", "list --json --name db", nil},
	{"show", "show db", nil},
	{"show-by-id", "show " + volumeB, nil},
	{"show-json", "show --json db", nil},
	{"show-missing", "show nope", nil},
	{"delete", "delete db " + volumeB, []string{"DELETE /v3/volumes/" + volumeA, "DELETE /v3/volumes/" + volumeB}},
	{"delete-one-missing", "delete nope db", []string{"DELETE /v3/volumes/" + volumeA}},
	{"migrate", "migrate db nodeB@ssd#ssd", []string{migrates("nodeB@ssd#ssd", false, false)}},
	{"migrate-flags", "migrate --force-host-copy --lock-volume True db nodeB@ssd#ssd", []string{migrates("nodeB@ssd#ssd", true, true)}},
	{"migrate-limits", "migrate --rate 50M --iops 0 --class background db nodeB@ssd#ssd", []string{
		strings.Replace(migrates("nodeB@ssd#ssd", false, false), `false}}`,
			`false,"cvold:bytes_per_second":52428800,"cvold:iops":0,"cvold:transfer_class":"background"}}`, 1)}},
	{"migrate-bad-class", "migrate --class idle db nodeB@ssd#ssd", nil},
	{"migrate-json", "migrate --json db nodeB@ssd#ssd", []string{migrates("nodeB@ssd#ssd", false, false)}},
	{"migrate-missing", "migrate nope nodeB@ssd#ssd", nil},
	{"migrate-timeout-alone", "migrate --timeout 5s db nodeB@ssd#ssd", nil},
	{"migration", "migration", nil},
	{"migration-list", "migration list", nil},
	{"migration-list-active", "migration list --active", nil},
	{"migration-list-json", "migration list --active --json", nil},
	{"migration-show", "migration show " + migration1, nil},
	{"migration-show-by-volume", "migration show db", nil},
	{"migration-show-failed", "migration show " + migration2, nil},
	{"migration-show-json", "migration show --json db", nil},
	{"migration-show-none", "migration show " + volumeB, nil},
	{"migration-show-missing", "migration show nope", nil},
	{"migration-abort", "migration abort db", []string{"POST /v1/migrations/" + migration1 + "/abort"}},
	{"migration-resolve", "migration resolve " + migration1 + " --owner nodeB", []string{
		"POST /v1/migrations/" + migration1 + `/resolve {"owner":"nodeB"}`}},
	{"migration-resolve-without-owner", "migration resolve " + migration1, nil},
	{"export", "export db", []string{`POST /v1/attachments {"volume":"` + volumeA + `","read_only":false}`}},
	{"export-read-only-json", "export --read-only --json db", []string{`POST /v1/attachments {"volume":"` + volumeA + `","read_only":true}`}},
	{"unexport", "unexport db", []string{"DELETE /v1/attachments/a1"}},
	{"unexport-attachment", "unexport a2", []string{"DELETE /v1/attachments/a2"}},
	{"unexport-several", "unexport " + volumeB, nil},
	{"unexport-none", "unexport " + volumeC, nil},
	{"unexport-missing", "unexport nope", nil},
	{"attach", "attach db", []string{`POST /v1/attachments {"volume":"` + volumeA + `","read_only":false,"device":true}`}},
	{"attach-read-only-json", "attach --read-only --json db", []string{`POST /v1/attachments {"volume":"` + volumeA + `","read_only":true,"device":true}`}},
	{"attach-missing", "attach nope", nil},
	{"detach", "detach a3", []string{"DELETE /v1/attachments/a3"}},
	{"detach-force", "detach --force a3", []string{"DELETE /v1/attachments/a3?force=true"}},
	{"detach-path", "detach /dev/nbd3", []string{"DELETE /v1/attachments/a3"}},
	{"detach-path-missing", "detach /dev/nbd4", nil},
	{"detach-export", "detach db", nil},
	{"detach-several", "detach " + volumeB, nil},
	{"attachments", "attachments", nil},
	{"attachments-of-volume", "attachments db", nil},
	{"attachments-json", "attachments --json db", nil},
	{"catalog", "catalog", nil},
	{"catalog-rebuild", "catalog rebuild", []string{`POST /v1/catalog/rebuild {"dry_run":true}`}},
	{"catalog-rebuild-yes", "catalog rebuild --yes", []string{`POST /v1/catalog/rebuild {"dry_run":false}`}},
	{"catalog-rebuild-json", "catalog rebuild --dry-run --json", []string{`POST /v1/catalog/rebuild {"dry_run":true}`}},
	{"catalog-rebuild-both", "catalog rebuild --dry-run --yes", nil},
	{"catalog-backup-too-few", "catalog backup", nil},
	{"exports", "exports", nil},
	{"exports-json", "exports --json", nil},
	{"transfers", "transfers", nil},
	{"transfers-json", "transfers --json", nil},
	{"throttle", "throttle", nil},
	{"throttle-json", "throttle --json", nil},
	{"throttle-unknown", "throttle nodes", nil},
	{"throttle-node", "throttle node --rate 400M --iops 500", []string{`PUT /v1/node/limit {"bytes_per_second":419430400,"iops":500}`}},
	{"throttle-node-none", "throttle node --rate 0", []string{`PUT /v1/node/limit {"bytes_per_second":0}`}},
	{"throttle-node-nothing", "throttle node", nil},
	{"throttle-node-bad-rate", "throttle node --rate 5MB", nil},
	{"throttle-node-bad-iops", "throttle node --iops -1", nil},
	{"throttle-backend-json", "throttle backend --json ssd --iops 7", []string{`PUT /v1/backends/ssd/limit {"iops":7}`}},
	{"throttle-migration", "throttle migration db --rate 1.5G --class background", []string{
		"PUT /v1/migrations/" + migration1 + `/limit {"bytes_per_second":1610612736,"transfer_class":"background"}`}},
	{"throttle-migration-bad-class", "throttle migration db --class idle", nil},
	{"throttle-migration-missing", "throttle migration nope --rate 1", nil},
	{"events-json", "events --json --volume db", nil},
	{"events-missing", "events --volume nope", nil},
	{"manifest", "manifest db", nil},
	{"manifest-json", "manifest --json db", nil},
	{"type-list", "type list", nil},
	{"type-list-json", "type list --json", nil},
	{"type-show", "type show fast", nil},
	{"type-show-by-id", "type show " + typeA, nil},
	{"type-show-missing", "type show nope", nil},
	{"type-create", "type create --description best gold volume_backend_name=ssd", []string{
		`POST /v3/types {"volume_type":{"name":"gold","description":"best","extra_specs":{"volume_backend_name":"ssd"}}}`}},
	{"type-create-bad-spec", "type create gold ssd", nil},
	{"type-set", "type set fast --name faster a=b", []string{
		"POST /v3/types/" + typeA + `/extra_specs {"extra_specs":{"a":"b"}}`,
		"PUT /v3/types/" + typeA + ` {"volume_type":{"name":"faster"}}`}},
	{"type-set-nothing", "type set fast", nil},
	{"type-unset", "type unset fast a b", []string{
		"DELETE /v3/types/" + typeA + "/extra_specs/a", "DELETE /v3/types/" + typeA + "/extra_specs/b"}},
	{"type-delete", "type delete fast", []string{"DELETE /v3/types/" + typeA}},
	{"retype", "retype db fast", []string{
		"POST /v3/volumes/" + volumeA + `/action {"os-retype":{"migration_policy":"never","new_type":"fast"}}`}},
	{"retype-bad-policy", "retype --migration-policy always db fast", nil},
	{"retype-missing", "retype nope fast", nil},
	{"extend", "extend db 40", []string{
		"POST /v3/volumes/" + volumeA + `/action {"os-extend":{"cvold:size_bytes":42949672960,"new_size":40}}`}},
	{"extend-by", "extend db +512M", []string{
		"POST /v3/volumes/" + volumeA + `/action {"os-extend":{"cvold:size_bytes":22011707392,"new_size":21}}`}},
	{"extend-bad-size", "extend db 1X", nil},
	{"extend-too-far", "extend db +8589934591", nil},
	{"rename", "rename db postgres", []string{"PUT /v3/volumes/" + volumeA + ` {"volume":{"name":"postgres"}}`}},
	{"rename-description", "rename db --description old", []string{"PUT /v3/volumes/" + volumeA + ` {"volume":{"description":"old"}}`}},
	{"rename-nothing", "rename db", nil},
	{"manage", "manage --name db --type fast --metadata a=b nodeA@ssd#ssd old.img", []string{
		`POST /v3/manageable_volumes {"volume":{"host":"nodeA@ssd#ssd","metadata":{"a":"b"},"name":"db","ref":{"source-name":"old.img"},"volume_type":"fast"}}`}},
	{"manage-bad-metadata", "manage --metadata a nodeA@ssd#ssd old.img", nil},
	{"manageable", "manageable nodeA@ssd#ssd", nil},
	{"manageable-json", "manageable --json nodeA@ssd#ssd", nil},
	{"unmanage", "unmanage db", []string{"POST /v3/volumes/" + volumeA + `/action {"os-unmanage":{}}`}},
	{"unmanage-missing", "unmanage nope", nil},
	{"metadata-show", "metadata show db", nil},
	{"metadata-show-json", "metadata show --json db", nil},
	{"metadata-set", "metadata set db a=b", []string{"POST /v3/volumes/" + volumeA + `/metadata {"metadata":{"a":"b"}}`}},
	{"metadata-set-bad", "metadata set db a", nil},
	{"metadata-unset", "metadata unset db os app os", []string{
		"DELETE /v3/volumes/" + volumeA + "/metadata/app", "DELETE /v3/volumes/" + volumeA + "/metadata/os"}},
	{"metadata-unset-missing", "metadata unset db os nope", nil},
	{"services", "services", nil},
	{"services-json", "services --json", nil},
	{"services-enable", "services enable nodeA@ssd", []string{`PUT /v3/os-services/enable {"host":"nodeA@ssd","binary":"cinder-volume"}`}},
	{"services-disable", "services disable nodeA@ssd --reason disks", []string{
		`PUT /v3/os-services/disable-log-reason {"host":"nodeA@ssd","binary":"cinder-volume","disabled_reason":"disks"}`}},
	{"health", "health", nil},
	{"health-json", "health --json", nil},
	{"pools", "pools", nil},
	{"pools-detail", "pools --detail", nil},
	{"config", "config", nil},
	{"config-show", "config show", nil},
	{"config-show-json", "config show --json cvold", nil},
	{"config-show-missing", "config show nope", nil},
	{"status", "status", nil},
	{"status-json", "status --json", nil},
	{"unknown-command", "lst", nil},
	{"unknown-word", "frobnicate", nil},
	{"unknown-migration-command", "migration abrt x", nil},
	{"unknown-flag", "list --all-tenants", nil},
	{"bad-flag-value", "migrate --lock-volume=perhaps db h", nil},
	{"too-few", "migrate db", nil},
	{"too-many", "show a b", nil},
	{"help-unknown", "help frobnicate", nil},
}

func migrates(host string, force, lock bool) string {
	word := map[bool]string{true: "true", false: "false"}
	return "POST /v3/volumes/" + volumeA + `/action {"os-migrate_volume":{"host":"` + host + `","force_host_copy":` +
		word[force] + `,"lock_volume":` + word[lock] + `}}`
}

func TestCommands(t *testing.T) {
	for _, command := range commands {
		t.Run(command.name, func(t *testing.T) {
			f := newFake(t)
			args := strings.Fields(command.args)
			got := f.cvol(t.Context(), args...)
			golden(t, filepath.Join("commands", command.name), f.transcript(args, got))
			if asked := f.changes(); !slices.Equal(asked, command.asks) {
				t.Errorf("asked %q\nwant  %q", asked, command.asks)
			}
		})
	}
}

// refused are commands, each with a call of it.
var refused = []struct{ path, args string }{
	{"POST /v3/volumes", "create 1"},
	{"GET /v3/volumes/detail", "list"},
	{"GET /v3/volumes/" + volumeA, "show " + volumeA},
	{"DELETE /v3/volumes", "delete db"},
	{"/action", "migrate db x@y#z"},
	{"GET /v1/migrations", "migrate db x@y#z"},
	{"GET /v3/volumes/", "migration show db"},
	{"GET /v1/migrations", "migration list"},
	{"/events", "migration show db"},
	{"GET /v1/migrations/" + migration1, "migration show " + migration1},
	{"GET /v1/migrations", "migration wait db"},
	{"/abort", "migration abort db"},
	{"/resolve", "migration resolve m --owner nodeB"},
	{"POST /v1/attachments", "export db"},
	{"GET /v3/volumes/", "export db"},
	{"DELETE /v1/attachments/a1", "unexport db"},
	{"POST /v1/attachments", "attach db"},
	{"GET /v3/volumes/", "attach db"},
	{"DELETE /v1/attachments/a3", "detach a3"},
	{"GET /v1/attachments", "detach /dev/nbd3"},
	{"/v1/version", "detach /dev/nbd3"},
	{"GET /v3/volumes/", "unexport db"},
	{"GET /v1/attachments", "unexport db"},
	{"GET /v1/attachments", "attachments"},
	{"GET /v3/volumes/", "attachments db"},
	{"/v1/manifests/", "manifest db"},
	{"GET /v3/volumes/", "manifest db"},
	{"/v1/status", "status"},
	{"/v1/config", "config show"},
	{"GET /v3/types", "type list"},
	{"GET /v3/types", "type show fast"},
	{"POST /v3/types", "type create x"},
	{"/extra_specs", "type set fast a=b"},
	{"PUT /v3/types", "type set fast --name x"},
	{"DELETE /v3/types", "type unset fast a"},
	{"DELETE /v3/types", "type delete fast"},
	{"/action", "retype db fast"},
	{"/action", "unmanage db"},
	{"/manageable_volumes", "manage h o"},
	{"/manageable_volumes", "manageable h"},
	{"/v1/catalog/rebuild", "catalog rebuild"},
	{"/v1/exports", "exports"},
	{"/v1/catalog/backup", "catalog backup -"},
	{"/v1/transfers", "transfers"},
	{"/v1/limits", "throttle"},
	{"/v1/node/limit", "throttle node --iops 1"},
	{"/v1/backends/ssd/limit", "throttle backend ssd --iops 1"},
	{"/limit", "throttle migration db --iops 1"},
	{"GET /v3/volumes/", "throttle migration db --iops 1"},
	{"/v1/events", "events"},
	{"/action", "extend db 40"},
	{"PUT /v3/volumes", "rename db x"},
	{"GET /v3/volumes/", "metadata show db"},
	{"/metadata", "metadata set db a=b"},
	{"/metadata", "metadata unset db os"},
	{"/os-services", "services"},
	{"/os-services", "services enable a@b"},
	{"/os-services", "services disable a@b"},
	{"/get_pools", "pools"},
	{"/v1/health", "health"},
}

// Each command passes a refusal of each of its calls on, with the exit code of the refusal.
func TestRefusals(t *testing.T) {
	refusals := []struct {
		refusal *client.Error
		code    int
	}{
		{client.NewError(400, "Invalid host: No available service named 'x@y#z'"), exitRefused},
		{client.NewError(409, "It is migrating."), exitRefused},
		{client.NewError(413, "Too much."), exitRefused},
		{client.NewError(403, "Policy does not allow it."), exitForbidden},
		{client.NewError(401, "Who are you?"), exitForbidden},
		{client.NewError(500, "The server has erred."), exitOther},
		{client.NewError(503, "The agent is stopping."), exitUnreachable},
	}
	for _, test := range refused {
		t.Run(test.path+" "+test.args, func(t *testing.T) {
			f := newFake(t)
			for _, r := range refusals {
				f.refuse[test.path] = r.refusal
				got := f.cvol(t.Context(), strings.Fields(test.args)...)
				got.stderr, _, _ = strings.Cut(got.stderr, "cvol: the volume is exported, to end that: ")
				if got.code != r.code || !strings.HasPrefix(got.stderr, "cvol: cannot ") ||
					!strings.HasSuffix(got.stderr, ": "+r.refusal.Message+"\n") || strings.Count(got.stderr, "\n") != 1 {
					t.Errorf("%d: got %+v", r.refusal.Code, got)
				}
				if got.stdout != "" {
					t.Errorf("%d: stdout %q", r.refusal.Code, got.stdout)
				}
			}
		})
	}
}

func TestAgentIsNotThere(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "missing")
	t.Setenv(socketVariable, socket)
	got := cvol(t.Context(), "list")
	want := "cvol: cannot list volumes: no socket " + socket + ": the agent may not be running (systemctl status cvold)\n"
	if got.code != exitUnreachable || got.stderr != want || got.stdout != "" {
		t.Errorf("got %+v", got)
	}
}

// While a peer is silent, the list is shown as far as it goes, and is no success.
func TestPartialList(t *testing.T) {
	f := newFake(t)
	whole := f.cvol(t.Context(), "list").stdout
	f.silent = "nodeB"
	got := f.cvol(t.Context(), "list")
	if got.code != exitUnreachable || got.stdout != whole ||
		got.stderr != "cvol: cannot list all volumes: the list is incomplete, no answer from nodeB\n" {
		t.Errorf("got %+v", got)
	}
	if got := f.cvol(t.Context(), "show", "db"); got.code != exitOK {
		t.Errorf("what is there is found: got %+v", got)
	}
	if got := f.cvol(t.Context(), "show", "nope"); got.code != exitUnreachable {
		t.Errorf("what is not there may be at nodeB: got %+v", got)
	}
}

// The flag wins over the environment.
func TestSocketFlag(t *testing.T) {
	t.Setenv(socketVariable, "/nowhere")
	if got := newFake(t).cvol(t.Context(), "show", "db"); got.code != exitOK {
		t.Errorf("got %+v", got)
	}
}

func TestVersion(t *testing.T) {
	f := newFake(t)
	own := versionLine()
	if got := f.cvol(t.Context(), "version"); got.stdout != own+"\ncvold v1.2.3 (abc) on node nodeA, API v1\n" || got.code != exitOK {
		t.Errorf("got %+v", got)
	}
	if got := f.cvol(t.Context(), "version", "--json"); got.code != exitOK ||
		!strings.Contains(got.stdout, `"client": {`) || !strings.Contains(got.stdout, `"node": "nodeA"`) {
		t.Errorf("got %+v", got)
	}
	if got := cvol(t.Context(), "--version"); got.stdout != own+"\n" || got.code != exitOK {
		t.Errorf("got %+v", got)
	}
	f.server.Close()
	if got := f.cvol(t.Context(), "version"); got.stdout != own+"\n" || got.code != exitUnreachable {
		t.Errorf("got %+v", got)
	}
	if got := f.cvol(t.Context(), "version", "--json"); !strings.Contains(got.stdout, `"agent": null`) || got.code != exitUnreachable {
		t.Errorf("got %+v", got)
	}
}

// fullDisk takes nothing.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestLostOutputIsAnError(t *testing.T) {
	f := newFake(t)
	for _, args := range []string{"list", "list --json", "show db", "delete db", "export db", "version", "migration"} {
		var stderr strings.Builder
		code := run(t.Context(), append([]string{"--socket", f.socket}, strings.Fields(args)...), nil, fullDisk{}, &stderr)
		if code != exitOther || !strings.Contains(stderr.String(), "cannot write the result: no space left on device") {
			t.Errorf("%s: got %d, %s", args, code, stderr.String())
		}
	}
}

func TestPKI(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	run := func(want int, args ...string) result {
		t.Helper()
		got := cvol(t.Context(), append([]string{"pki"}, args...)...)
		if got.code != want {
			t.Errorf("%v: got %+v", args, got)
		}
		return got
	}
	if got := run(exitOther, "issue", dir, "nodeA"); !strings.HasPrefix(got.stderr, "cvol: cannot open authority: ") {
		t.Errorf("got %+v", got)
	}
	if got := run(exitOK, "init", dir); got.stdout != filepath.Join(dir, "ca.pem")+"\n" {
		t.Errorf("got %+v", got)
	}
	if got := run(exitOther, "init", dir); !strings.HasPrefix(got.stderr, "cvol: cannot make authority: ") {
		t.Errorf("got %+v", got)
	}
	wrote := filepath.Join(dir, "nodeA.pem") + "\n" + filepath.Join(dir, "nodeA.key") + "\n"
	if got := run(exitOK, "issue", dir, "nodeA", "--host", "nodeA.example.org", "--host", "192.0.2.10"); got.stdout != wrote {
		t.Errorf("got %+v", got)
	}
	run(exitOther, "issue", dir, "nodeA")
	run(exitOther, "issue", dir, "../x")
	run(exitOK, "issue", "--client", dir, "backup")
	before, _ := os.ReadFile(filepath.Join(dir, "nodeA.pem"))
	if got := run(exitOK, "renew", dir, "nodeA"); got.stdout != wrote {
		t.Errorf("got %+v", got)
	}
	if after, _ := os.ReadFile(filepath.Join(dir, "nodeA.pem")); string(after) == string(before) {
		t.Error("renew left the certificate")
	}
	run(exitOther, "renew", dir, "nodeB")
}

func TestCompletion(t *testing.T) {
	f := newFake(t)
	f.volumes = append(f.volumes, client.Volume{ID: "t", Name: ptr("db"), VolumeAdmin: &client.VolumeAdmin{MigrationStatus: ptr("target:" + volumeA)}})
	got := f.cvol(t.Context(), "__complete", "show", "")
	want := "db\tin-use, 20 GiB\n" + volumeB + "\terror, 512 B\nevil\ufffd[31m name\tavailable, 2 GiB\n:4\n"
	if got.stdout != want {
		t.Errorf("got %q\nwant %q", got.stdout, want)
	}
	if got := f.cvol(t.Context(), "__complete", "show", "db", ""); got.stdout != ":4\n" {
		t.Errorf("after the volume: got %q", got.stdout)
	}
	if got := f.cvol(t.Context(), "__complete", "delete", "x", ""); got.stdout != want {
		t.Errorf("delete takes several: got %q", got.stdout)
	}
	if got := f.cvol(t.Context(), "__complete", "config", "show", ""); got.stdout != "DEFAULT\nssd\ncvold\n:4\n" {
		t.Errorf("sections: got %q", got.stdout)
	}
	if got := f.cvol(t.Context(), "__complete", "config", "show", "ssd", ""); got.stdout != ":4\n" {
		t.Errorf("after the section: got %q", got.stdout)
	}
	if got := f.cvol(t.Context(), "__complete", "throttle", "backend", ""); got.stdout != "ssd\tfile\nhdd\tlvm\n:4\n" {
		t.Errorf("back ends: got %q", got.stdout)
	}
	if got := f.cvol(t.Context(), "__complete", "throttle", "backend", "ssd", ""); got.stdout != ":4\n" {
		t.Errorf("after the back end: got %q", got.stdout)
	}
	if got := f.cvol(t.Context(), "__complete", "throttle", "migration", "db", "--class", ""); got.stdout != "normal\nbackground\n:4\n" {
		t.Errorf("classes: got %q", got.stdout)
	}
	f.server.Close()
	t.Setenv(socketVariable, f.socket)
	if got := cvol(t.Context(), "__complete", "show", ""); got.stdout != ":4\n" {
		t.Errorf("without an agent: got %q", got.stdout)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if got := cvol(t.Context(), "completion", shell); got.code != exitOK || !strings.Contains(got.stdout, "cvol") {
			t.Errorf("%s: got %d", shell, got.code)
		}
	}
}
