package api

import (
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/client"
)

// TestLifeOfAType as stock clients lead it: made, found by name, given extra specs, deleted.
func TestLifeOfAType(t *testing.T) {
	r := withManager(t)
	var made client.VolumeTypeAnswer
	r.want(200, "POST /v3/p/types", `{"volume_type": {"name": "gold", "description": null, "os-volume-type-access:is_public": true}}`, &made)
	id := made.VolumeType.ID
	r.want(404, "GET /v3/p/types/gold", "", nil)
	var all client.VolumeTypesAnswer
	r.want(200, "GET /v3/types?name=gold&is_public=None", "", &all)
	if len(all.VolumeTypes) != 1 || all.VolumeTypes[0].ID != id || len(all.VolumeTypes[0].Specs()) != 0 {
		t.Fatalf("%+v", all)
	}
	var specs client.ExtraSpecs
	r.want(200, "POST /v3/types/"+id+"/extra_specs", `{"extra_specs": {"volume_backend_name": "slow", "a b": "c"}}`, &specs)
	if len(specs.ExtraSpecs) != 2 {
		t.Errorf("%v", specs)
	}
	r.want(200, "PUT /v3/types/"+id+"/extra_specs/x", `{"x": "y"}`, nil)
	if w := r.want(200, "GET /v3/types/"+id+"/extra_specs/x", "", nil); strings.TrimSpace(w.Body.String()) != `{"x":"y"}` {
		t.Error(w.Body)
	}
	r.want(202, "DELETE /v3/types/"+id+"/extra_specs/x", "", nil)
	r.want(202, "DELETE /v3/types/"+id+"/extra_specs/a%20b", "", nil)
	r.want(200, "GET /v3/types/"+id+"/extra_specs", "", &specs)
	r.want(200, "PUT /v3/types/"+id, `{"volume_type": {"name": "silver", "description": "d"}}`, &made)
	if made.VolumeType.Name != "silver" || *made.VolumeType.Description != "d" || made.VolumeType.Specs()["volume_backend_name"] != "slow" {
		t.Errorf("%+v", made.VolumeType)
	}

	var v client.VolumeAnswer
	r.want(202, "POST /v3/volumes", `{"volume": {"cvold:size_bytes": 4096, "volume_type": "silver"}}`, &v)
	if e := refusal(t, r.want(400, "DELETE /v3/types/"+id, "", nil)); !strings.Contains(e.Message, "in use") {
		t.Error(e)
	}
	r.want(202, "DELETE /v3/volumes/"+v.Volume.ID, "", nil)
	r.want(202, "DELETE /v3/types/"+id, "", nil)
	r.want(404, "GET /v3/types/"+id, "", nil)
}

// TestTypesForOthers: who is no admin sees types without their extra specs.
func TestTypesForOthers(t *testing.T) {
	r := newRig(t)
	r.put(catalog.Type{ID: "gold-id", Name: "gold", ExtraSpecs: map[string]string{"volume_backend_name": "secret"}})
	for _, line := range []string{"GET /v3/types", "GET /v3/types/gold-id"} {
		w := r.ask(nobody, line, "")
		if w.Code != 200 || strings.Contains(w.Body.String(), "secret") || strings.Contains(w.Body.String(), "qos") || !strings.Contains(w.Body.String(), "gold") {
			t.Errorf("%s: %d %s", line, w.Code, w.Body)
		}
	}
}

func TestListTypes(t *testing.T) {
	r := newRig(t)
	r.put(catalog.Type{ID: "a", Name: "a"}, catalog.Type{ID: "b", Name: "b"}, catalog.Type{ID: "c", Name: "c"})
	for query, want := range map[string]string{
		"": "abc", "?is_public=None": "abc", "?is_public=true": "abc", "?is_public=False": "", "?name=b": "b", "?name=x": "",
		"?limit=2": "ab", "?marker=a": "bc", "?marker=a&limit=1": "b", "?offset=2": "c", "?offset=9": "", "?sort=name:asc": "abc",
	} {
		var all client.VolumeTypesAnswer
		r.want(200, "GET /v3/types"+query, "", &all)
		got := ""
		for _, one := range all.VolumeTypes {
			got += one.Name
		}
		if got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
}

// refusedTypes: TYPE is a type that there is.
var refusedTypes = []struct {
	line, body string
	code       int
	says       string
}{
	{"GET /v3/types?colour=red", "", 400, "Invalid filters colour"},
	{"GET /v3/types?is_public=maybe", "", 400, "is_public"},
	{"GET /v3/types?limit=0", "", 400, "limit"},
	{"GET /v3/types?offset=-1", "", 400, "offset"},
	{"GET /v3/types?marker=none", "", 400, "marker none"},
	{"GET /v3/types/none", "", 404, "Volume type none could not be found."},
	{"POST /v3/types", `{}`, 400, "'name' is a required property"},
	{"POST /v3/types", `{"volume_type": {}}`, 400, "'name' is a required property"},
	{"POST /v3/types", `{"volume_type": {"name": "  "}}`, 400, "empty"},
	{"POST /v3/types", `{"volume_type": {"name": "` + long + `"}}`, 400, "255"},
	{"POST /v3/types", `{"volume_type": {"name": 1}}`, 400, "name"},
	{"POST /v3/types", `{"volume_type": {"name": "x", "os-volume-type-access:is_public": false}}`, 400, "Every volume type is public"},
	{"POST /v3/types", `{"volume_type": {"name": "x", "colour": "red"}}`, 400, "'colour' was unexpected"},
	{"POST /v3/types", `{"volume_type": {"name": "x", "extra_specs": {"a/b": "c"}}}`, 400, "a/b"},
	{"POST /v3/types", `{"volume_type": {"name": "gold"}}`, 409, "gold exists already"},
	{"PUT /v3/types/TYPE", `{"volume_type": {}}`, 400, "Specify"},
	{"PUT /v3/types/TYPE", `{"volume_type": {"name": ""}}`, 400, "empty"},
	{"PUT /v3/types/TYPE", `{"volume_type": {"extra_specs": {}}}`, 400, "'extra_specs' was unexpected"},
	{"PUT /v3/types/none", `{"volume_type": {"name": "x"}}`, 404, "Volume type none could not be found."},
	{"DELETE /v3/types/none", "", 404, "Volume type none could not be found."},
	{"DELETE /v3/types/TYPE", `{"cascade": true}`, 400, "cascade"},
	{"GET /v3/types/none/extra_specs", "", 404, "Volume type none could not be found."},
	{"GET /v3/types/TYPE/extra_specs/none", "", 404, "no extra specs with key none"},
	{"POST /v3/types/TYPE/extra_specs", `{"extra_specs": {}}`, 400, "at least one"},
	{"POST /v3/types/TYPE/extra_specs", `{"extra_specs": {"a": 1}}`, 400, "extra_specs"},
	{"POST /v3/types/TYPE/extra_specs", `{"extra_specs": {"a%": "1"}}`, 400, "letters"},
	{"POST /v3/types/none/extra_specs", `{"extra_specs": {"a": "1"}}`, 404, "Volume type none could not be found."},
	{"PUT /v3/types/TYPE/extra_specs/a", `{"b": "1"}`, 400, "'b' was unexpected"},
	{"PUT /v3/types/TYPE/extra_specs/a", `{}`, 400, "VALUE"},
	{"DELETE /v3/types/TYPE/extra_specs/none", "", 404, "no extra specs with key none"},
	{"DELETE /v3/types/none/extra_specs/a", "", 404, "Volume type none could not be found."},
}

func TestRefusedTypes(t *testing.T) {
	r := newRig(t)
	r.put(catalog.Type{ID: "gold-id", Name: "gold", ExtraSpecs: map[string]string{"a": "b"}})
	before := r.dump()
	for _, c := range refusedTypes {
		e := refusal(t, r.want(c.code, strings.Replace(c.line, "TYPE", "gold-id", 1), c.body, nil))
		if !strings.Contains(e.Message, c.says) {
			t.Errorf("%s %s: %q does not say %q", c.line, c.body, e.Message, c.says)
		}
	}
	if r.dump() != before {
		t.Error("a refusal changed the records")
	}
}

func TestRetype(t *testing.T) {
	r := withManager(t)
	r.put(
		catalog.Type{ID: "fast-id", Name: "fast", ExtraSpecs: map[string]string{"volume_backend_name": "fast"}},
		catalog.Type{ID: "slow-id", Name: "slow", ExtraSpecs: map[string]string{"volume_backend_name": "slow"}},
	)
	var v client.VolumeAnswer
	r.want(202, "POST /v3/volumes", `{"volume": {"cvold:size_bytes": 4096, "cvold:host": "node1@fast#fast"}}`, &v)
	act := "POST /v3/volumes/" + v.Volume.ID + "/action"
	before := r.dump()
	for body, says := range map[string]string{
		`{"os-retype": {}}`:                   "'new_type' is a required",
		`{"os-retype": {"new_type": "lead"}}`: "there is",
		`{"os-retype": {"new_type": "fast", "migration_policy": "sometimes"}}`:       "never or on-demand",
		`{"os-retype": {"new_type": "slow", "migration_policy": "never"}}`:           "policy is never",
		`{"os-retype": {"new_type": "slow-id"}}`:                                     `its volume_backend_name is fast, and "slow" is asked for`,
		`{"os-retype": {"new_type": "slow", "migration_policy": "on-demand"}}`:       "does not migrate",
		`{"os-retype": {"new_type": "fast", "migration_policy": "never", "x": "y"}}`: "'x' was unexpected",
	} {
		if e := refusal(t, r.want(400, act, body, nil)); !strings.Contains(e.Message, says) {
			t.Errorf("%s: %q does not say %q", body, e.Message, says)
		}
	}
	if r.dump() != before {
		t.Error("a refusal changed the records")
	}
	r.want(202, act, `{"os-retype": {"new_type": "fast", "migration_policy": "never"}}`, nil)
	r.want(200, "GET /v3/volumes/"+v.Volume.ID, "", &v)
	if *v.Volume.VolumeType != "fast" || *v.Volume.VolumeTypeID != "fast-id" || v.Volume.Status != "available" {
		t.Errorf("%+v", v.Volume)
	}
	r.want(404, "POST /v3/volumes/none/action", `{"os-retype": {"new_type": "fast"}}`, nil)
}

func FuzzTypeBodies(f *testing.F) {
	f.Add([]byte(`{"volume_type": {"name": "n", "description": null, "os-volume-type-access:is_public": "True", "extra_specs": {"a": "b"}}}`))
	f.Add([]byte(`{"extra_specs": {"a": "b"}}`))
	f.Add([]byte(`{"a": "b"}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		var create, update typeBody
		var specs map[string]string
		var value *string
		harmless(t, decodeBody(p, create.fields(true)))
		harmless(t, decodeBody(p, update.fields(false)))
		harmless(t, decodeBody(p, fields{"extra_specs": metadata("extra_specs", &specs)}))
		harmless(t, decodeBody(p, fields{"a": textOrNull("a", &value)}))
		if create.name != nil && utf8.RuneCountInString(*create.name) > maxText || len(specs) > maxMetadata {
			t.Fatalf("%+v %v", create, specs)
		}
	})
}

func FuzzTypeQuery(f *testing.F) {
	f.Add("name=a&is_public=None&limit=1&offset=2&marker=x")
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		l, err := readTypeQuery(q)
		harmless(t, err)
		if err == nil {
			_, err = l.choose([]catalog.Type{{ID: "a", Name: "a"}, {ID: "b", Name: "b"}})
			harmless(t, err)
		}
	})
}
