package api

import (
	"bytes"
	"context"
	"encoding/json"
	goflag "flag"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3gen"

	"github.com/cvold/cvold/client"
)

var updateOpenAPI = goflag.Bool("update", false, "write openapi.json anew")

// answersOf are what the routes answer with, by pattern: a value of the type, nil for an empty body. The code is 200 unless
// docs/API.md begins with another.
var answersOf = map[string]any{
	"GET /{$}": versionsAnswer{}, "GET /v3": versionsAnswer{},
	"GET /v3/volumes": map[string][]summary{}, "GET /v3/volumes/detail": client.VolumesAnswer{},
	"POST /v3/volumes": client.VolumeAnswer{}, "GET /v3/volumes/{id}": client.VolumeAnswer{}, "PUT /v3/volumes/{id}": client.VolumeAnswer{},
	"DELETE /v3/volumes/{id}": nil, "POST /v3/volumes/{id}/action": nil,
	"GET /v3/volumes/{id}/metadata": client.VolumeMetadata{}, "POST /v3/volumes/{id}/metadata": client.VolumeMetadata{},
	"PUT /v3/volumes/{id}/metadata":       client.VolumeMetadata{},
	"GET /v3/volumes/{id}/metadata/{key}": map[string]map[string]string{}, "PUT /v3/volumes/{id}/metadata/{key}": map[string]map[string]string{},
	"DELETE /v3/volumes/{id}/metadata/{key}": nil,
	"GET /v3/manageable_volumes":             client.ManageableVolumesAnswer{}, "GET /v3/manageable_volumes/detail": client.ManageableVolumesAnswer{},
	"GET /v3/os-volume-manage": client.ManageableVolumesAnswer{}, "GET /v3/os-volume-manage/detail": client.ManageableVolumesAnswer{},
	"POST /v3/manageable_volumes": client.VolumeAnswer{}, "POST /v3/os-volume-manage": client.VolumeAnswer{},
	"POST /v3/snapshots": nil, "GET /v3/snapshots": map[string][]string{}, "GET /v3/snapshots/detail": map[string][]string{},
	"GET /v3/snapshots/{id}": nil, "DELETE /v3/snapshots/{id}": nil,
	"GET /v3/os-services": client.ServicesAnswer{}, "PUT /v3/os-services/{verb}": map[string]any{},
	"GET /v3/scheduler-stats/get_pools": client.PoolsAnswer{},
	"GET /v3/types":                     client.VolumeTypesAnswer{}, "POST /v3/types": client.VolumeTypeAnswer{},
	"GET /v3/types/{id}": client.VolumeTypeAnswer{}, "PUT /v3/types/{id}": client.VolumeTypeAnswer{}, "DELETE /v3/types/{id}": nil,
	"GET /v3/types/{id}/extra_specs": client.ExtraSpecs{}, "POST /v3/types/{id}/extra_specs": client.ExtraSpecs{},
	"GET /v3/types/{id}/extra_specs/{key}": map[string]string{}, "PUT /v3/types/{id}/extra_specs/{key}": map[string]string{},
	"DELETE /v3/types/{id}/extra_specs/{key}": nil,

	"GET /v1/version": client.Version{}, "GET /v1/status": client.Status{}, "GET /v1/health": client.Health{},
	"GET /v1/openapi.json": map[string]any{},
	"GET /v1/backends":     client.BackendsAnswer{}, "GET /v1/backends/{id}": client.BackendAnswer{},
	"GET /v1/peers": client.PeersAnswer{}, "GET /v1/peers/{id}": client.PeerAnswer{}, "GET /v1/config": client.ConfigAnswer{},
	"GET /v1/migrations": client.MigrationsAnswer{}, "GET /v1/migrations/{id}": client.MigrationAnswer{},
	"GET /v1/migrations/{id}/wait": client.MigrationAnswer{}, "GET /v1/migrations/{id}/events": client.EventsAnswer{},
	"POST /v1/migrations/{id}/abort": nil, "POST /v1/migrations/{id}/resolve": nil,
	"GET /v1/limits": client.LimitsAnswer{}, "PUT /v1/node/limit": client.LimitAnswer{},
	"PUT /v1/backends/{id}/limit": client.LimitAnswer{}, "PUT /v1/migrations/{id}/limit": client.LimitAnswer{},
	"GET /v1/attachments": client.AttachmentsAnswer{}, "POST /v1/attachments": client.AttachmentAnswer{},
	"GET /v1/attachments/{id}": client.AttachmentAnswer{}, "DELETE /v1/attachments/{id}": nil,
	"GET /v1/exports": client.ServedExportsAnswer{}, "GET /v1/exports/{id}": client.ServedExportAnswer{},
	"GET /v1/transfers": client.TransfersAnswer{}, "GET /v1/transfers/{id}": client.TransferAnswer{},
	"GET /v1/manifests/{id}": client.ManifestAnswer{}, "POST /v1/catalog/rebuild": client.RebuildAnswer{},
}

// otherMedia are the answers that are no JSON.
var otherMedia = map[string]string{
	"GET /v1/events": "text/event-stream", "GET /v1/catalog/backup": "application/octet-stream", "GET /metrics": "text/plain",
}

// requestsOf are the bodies that routes take, as far as the client has types for them; the others take an object.
var requestsOf = map[string]any{
	"POST /v3/volumes": client.CreateVolumeRequest{}, "POST /v3/volumes/{id}/metadata": client.VolumeMetadata{},
	"PUT /v3/volumes/{id}/metadata": client.VolumeMetadata{}, "POST /v3/types/{id}/extra_specs": client.ExtraSpecs{},
	"POST /v1/attachments": client.ExportRequest{}, "POST /v1/migrations/{id}/resolve": client.ResolveRequest{},
	"POST /v1/catalog/rebuild": client.RebuildRequest{}, "PUT /v1/migrations/{id}/limit": client.LimitChange{},
	"PUT /v1/node/limit": client.LimitChange{}, "PUT /v1/backends/{id}/limit": client.LimitChange{},
}

// TestOpenAPI: the description is valid, and is what the route table, docs/API.md and the types come to: run with -update
// after they have changed.
func TestOpenAPI(t *testing.T) {
	made, err := json.MarshalIndent(describeRoutes(t), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	made = append(made, '\n')
	if *updateOpenAPI {
		if err := os.WriteFile("openapi.json", made, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(made, openAPI) {
		t.Error("openapi.json is not what the routes come to: run go test ./agent/api -run TestOpenAPI -update")
	}
	var served map[string]any
	newRig(t).want(http.StatusOK, "GET /v1/openapi.json", "", &served)
	if served["openapi"] == "" {
		t.Errorf("served: %v", served)
	}
	if err := described().Validate(context.Background()); err != nil {
		t.Error(err)
	}
}

// described is the description as it is served.
var described = sync.OnceValue(func() *openapi3.T {
	doc, err := openapi3.NewLoader().LoadFromData(openAPI)
	if err != nil {
		panic(err)
	}
	for _, path := range doc.Paths.Map() {
		for _, operation := range path.Operations() {
			for _, response := range operation.Responses.Map() {
				for _, media := range response.Value.Content {
					closed(media.Schema)
				}
			}
		}
	}
	return doc
})

// closed makes a key that the schema has not an error: here a new key has to be described first, while clients that are made
// of the description should take it.
func closed(s *openapi3.SchemaRef) {
	if s == nil || s.Value == nil {
		return
	}
	closed(s.Value.Items)
	closed(s.Value.AdditionalProperties.Schema)
	for _, p := range s.Value.Properties {
		closed(p)
	}
	if len(s.Value.Properties) > 0 {
		s.Value.AdditionalProperties.Has = new(bool)
	}
}

// holdDescribed holds an answer of any test against the description: its code, or an error, with what it says.
func (r *rig) holdDescribed(line string, w *httptest.ResponseRecorder) {
	r.t.Helper()
	method, target, _ := strings.Cut(line, " ")
	_, pattern := r.table.mux.Handler(httptest.NewRequest(method, target, nil))
	if pattern == "" || w.Body.Len() == 0 || w.Header().Get("Content-Type") != "application/json" || *updateOpenAPI {
		return
	}
	_, path, _ := strings.Cut(pattern, " ")
	operation := described().Paths.Value(openPath(path)).GetOperation(method)
	response := operation.Responses.Value(strconv.Itoa(w.Code))
	if response == nil {
		response = operation.Responses.Value("default")
	}
	var value any
	if err := json.Unmarshal(w.Body.Bytes(), &value); err != nil {
		r.t.Errorf("%s: %v", line, err)
		return
	}
	media := response.Value.Content.Get("application/json")
	if media == nil {
		r.t.Errorf("%s: answered %d with a body that the description has not: %s", line, w.Code, w.Body)
	} else if err := media.Schema.Value.VisitJSON(value, openapi3.VisitAsResponse()); err != nil {
		r.t.Errorf("%s: answered %d: %v", line, w.Code, err)
	}
}

// openPath is a pattern's path as the description has it.
func openPath(path string) string { return strings.TrimSuffix(path, "{$}") }

// describeRoutes makes the description.
func describeRoutes(t *testing.T) *openapi3.T {
	t.Helper()
	doc := &openapi3.T{
		OpenAPI: "3.0.3", Paths: openapi3.NewPaths(), Components: &openapi3.Components{Schemas: openapi3.Schemas{}},
		Info: &openapi3.Info{
			Title: "cvold", Version: "v1",
			Description: "The agent's HTTP, over its unix socket: OpenStack Cinder's /v3, as far as it goes, and the agent's own /v1. " +
				"Who may is what x-access says.",
			License: &openapi3.License{Name: "Apache-2.0", Identifier: ""},
		},
		Servers: openapi3.Servers{{URL: "http://cvold", Description: "the unix socket of the agent"}},
	}
	doc.Components.Schemas["Error"] = errorSchema()
	said := documentedRoutes(t)
	for _, rt := range routes() {
		method, path, _ := strings.Cut(rt.pattern, " ")
		item := doc.Paths.Value(openPath(path))
		if item == nil {
			item = &openapi3.PathItem{}
			doc.Paths.Set(openPath(path), item)
		}
		item.SetOperation(method, operationOf(t, doc, rt, said[generalised(rt.pattern)]))
	}
	return doc
}

func operationOf(t *testing.T, doc *openapi3.T, rt route, said string) *openapi3.Operation {
	t.Helper()
	o := &openapi3.Operation{Summary: said, Responses: openapi3.NewResponses()}
	o.Extensions = map[string]any{"x-access": map[access]string{anyone: "all", admins: "admins"}[rt.who]}
	for _, name := range regexp.MustCompile(`\{([a-z]+)\}`).FindAllStringSubmatch(rt.pattern, -1) {
		o.Parameters = append(o.Parameters, &openapi3.ParameterRef{Value: openapi3.NewPathParameter(name[1]).WithSchema(openapi3.NewStringSchema())})
	}
	if _, query, ok := strings.Cut(said, "Query: "); ok {
		for _, name := range regexp.MustCompile("`([a-z_]+)").FindAllStringSubmatch(query, -1) {
			o.Parameters = append(o.Parameters, &openapi3.ParameterRef{Value: openapi3.NewQueryParameter(name[1]).WithSchema(openapi3.NewStringSchema())})
		}
	}
	if method, _, _ := strings.Cut(rt.pattern, " "); method == http.MethodPost || method == http.MethodPut {
		body := openapi3.NewObjectSchema().NewRef()
		if value, ok := requestsOf[rt.pattern]; ok {
			body = schemaOf(t, doc, value, false)
		}
		o.RequestBody = &openapi3.RequestBodyRef{Value: openapi3.NewRequestBody().WithJSONSchemaRef(body)}
	}
	o.Responses.Delete("default")
	o.Responses.Set("default", &openapi3.ResponseRef{Value: openapi3.NewResponse().WithDescription("an error").
		WithJSONSchemaRef(openapi3.NewSchemaRef("#/components/schemas/Error", doc.Components.Schemas["Error"].Value))})
	for _, code := range codesOf(rt, said) {
		o.Responses.Set(code, &openapi3.ResponseRef{Value: responseOf(t, doc, rt)})
	}
	return o
}

// codesOf are the codes of success: 200, or what docs/API.md says.
func codesOf(rt route, said string) []string {
	switch code := regexp.MustCompile(`\b(201|202|204|300|400|404)\b`).FindString(said); {
	case rt.pattern == "GET /v1/health":
		return []string{"200", "503"}
	case rt.pattern == "GET /{$}":
		return []string{"300"}
	case strings.HasSuffix(said, "404") || strings.HasPrefix(said, "400"):
		return nil // never a success
	case code == "201" || code == "202" || code == "204":
		return []string{code}
	}
	return []string{"200"}
}

func responseOf(t *testing.T, doc *openapi3.T, rt route) *openapi3.Response {
	t.Helper()
	r := openapi3.NewResponse().WithDescription("done")
	if media, ok := otherMedia[rt.pattern]; ok {
		return r.WithContent(openapi3.NewContentWithSchema(openapi3.NewStringSchema(), []string{media}))
	}
	value, ok := answersOf[rt.pattern]
	if !ok {
		t.Errorf("%s: the test does not know what it answers", rt.pattern)
	}
	if value == nil {
		return r
	}
	return r.WithJSONSchemaRef(schemaOf(t, doc, value, true))
}

// schemaOf is the schema of a value as it is written, or read, in JSON.
func schemaOf(t *testing.T, doc *openapi3.T, value any, written bool) *openapi3.SchemaRef {
	t.Helper()
	s, err := openapi3gen.NewSchemaRefForValue(value, doc.Components.Schemas, openapi3gen.SchemaCustomizer(
		func(_ string, kind reflect.Type, tag reflect.StructTag, s *openapi3.Schema) error {
			customize(kind, s, written)
			return nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// customize says what reflection does not: types that write themselves, what may be null, what is always there.
func customize(kind reflect.Type, s *openapi3.Schema, written bool) {
	switch kind {
	case reflect.TypeFor[client.Time](), reflect.TypeFor[*client.Time]():
		*s = *openapi3.NewStringSchema()
		s.Nullable = true
	case reflect.TypeFor[client.Bool]():
		*s = *openapi3.NewBoolSchema()
	}
	switch kind.Kind() {
	case reflect.Pointer:
		s.Nullable = true
	case reflect.Struct:
		if written && s.Type.Is("object") {
			s.Required = alwaysThere(kind)
		}
	}
}

// alwaysThere are the keys of a struct that are written whatever their values are.
func alwaysThere(kind reflect.Type) (keys []string) {
	for i := range kind.NumField() {
		f := kind.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && f.Type.Kind() == reflect.Struct && name == "":
			keys = append(keys, alwaysThere(f.Type)...)
		case name != "" && name != "-" && !strings.HasPrefix(options, "omit"):
			keys = append(keys, name)
		}
	}
	return keys
}

// errorSchema is a refusal of either dialect: one key, which is Cinder's name for the code.
func errorSchema() *openapi3.SchemaRef {
	inner := openapi3.NewObjectSchema().WithProperty("code", openapi3.NewInt64Schema()).
		WithProperty("message", openapi3.NewStringSchema()).WithRequired([]string{"code", "message"})
	return openapi3.NewObjectSchema().WithAdditionalProperties(inner).WithMinProperties(1).WithMaxProperties(1).NewRef()
}

// documentedRoutes is what docs/API.md says of each route.
func documentedRoutes(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile("../../docs/API.md")
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z]+ /[^`]*)` \\| (?:all|admins) \\| (.*) \\|$").FindAllStringSubmatch(string(page), -1) {
		said[generalised(row[1])] = regexp.MustCompile(`\]\([^)]*\)`).ReplaceAllString(strings.ReplaceAll(row[2], "[", ""), "")
	}
	return said
}
