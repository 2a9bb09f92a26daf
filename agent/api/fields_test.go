package api

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
)

// cinderAnswer is an answer of Cinder 21.3.1.
type cinderAnswer struct {
	Request string `json:"request"`
	Code    int    `json:"code"`
	Answer  any    `json:"answer"`
}

// bodies are what the recorded requests sent.
var bodies = map[string]string{
	"POST /v3/volumes":                `{"volume": {"size": 1, "name": "v", "volume_type": "gold", "metadata": {"a": "b"}}}`,
	"POST /v3/types":                  `{"volume_type": {"name": "x", "description": null, "os-volume-type-access:is_public": true}}`,
	"POST /v3/types/TYPE/extra_specs": `{"extra_specs": {"volume_backend_name": "x"}}`,
}

// TestFieldsAreCinders: the keys of the answers, and the JSON types of their values, are those that Cinder answered, but for
// the differences that docs/API.md lists, all of which there must be.
func TestFieldsAreCinders(t *testing.T) {
	files, err := filepath.Glob("testdata/fields/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	found := map[string]bool{}
	for _, file := range files {
		p, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var was cinderAnswer
		if err := json.Unmarshal(p, &was); err != nil {
			t.Fatal(file, err)
		}
		for _, path := range differences(was.Answer, ourAnswer(t, was)) {
			found[was.Request+" "+path] = true
		}
	}
	listed := listedDifferences(t)
	for _, one := range slices.Sorted(maps.Keys(found)) {
		if !listed[one] {
			t.Errorf("a difference that docs/API.md does not list: %s", one)
		}
	}
	for _, one := range slices.Sorted(maps.Keys(listed)) {
		if !found[one] {
			t.Errorf("docs/API.md lists a difference that there is not: %s", one)
		}
	}
}

// ourAnswer asks the same of an agent.
func ourAnswer(t *testing.T, was cinderAnswer) (answer any) {
	t.Helper()
	r := withManager(t)
	gold := catalog.Type{ID: "gold-id", Name: "gold"}
	r.put(gold, catalog.Service{Host: "node1@fast", UUID: "u"})
	if !strings.HasPrefix(was.Request, "POST") {
		r.want(202, "POST /v3/volumes", bodies["POST /v3/volumes"], nil)
	}
	r.want(was.Code, strings.Replace(was.Request, "TYPE", gold.ID, 1), bodies[was.Request], &answer)
	return answer
}

// differences are the paths that one of two values has alone, or with another type of JSON.
func differences(cinders, ours any) (paths []string) {
	a, b := kinds(cinders), kinds(ours)
	for path, kind := range a {
		switch other, ok := b[path]; {
		case !ok:
			paths = append(paths, path+" (Cinder's only)")
		case kind != other && kind != "null" && other != "null":
			paths = append(paths, path+" ("+kind+", here "+other+")")
		}
	}
	for path := range b {
		if _, ok := a[path]; !ok {
			paths = append(paths, path+" (here only)")
		}
	}
	return paths
}

// free are keys whose values have the keys that users give them.
var free = []string{"metadata", "extra_specs"}

// kinds is the JSON type of every path in v; of a list only its first element counts.
func kinds(v any) map[string]string {
	all := map[string]string{}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			all[path] = "object"
			for key, value := range v {
				next := strings.TrimPrefix(path+"."+key, ".")
				if _, isObject := value.(map[string]any); isObject && slices.Contains(free, key) {
					all[next] = "object"
					continue
				}
				walk(next, value)
			}
		case []any:
			all[path] = "array"
			if len(v) > 0 {
				walk(path+"[]", v[0])
			}
		case string:
			all[path] = "string"
		case float64:
			all[path] = "number"
		case bool:
			all[path] = "boolean"
		case nil:
			all[path] = "null"
		}
	}
	walk("", v)
	return all
}

var differenceRow = regexp.MustCompile("(?m)^\\| `([A-Z]+ /[^`]*)` \\| `([^`]+)` \\| ([^|]*) \\|$")

// listedDifferences are the rows of the table of fields in docs/API.md.
func listedDifferences(t *testing.T) map[string]bool {
	t.Helper()
	page, err := os.ReadFile("../../docs/API.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, row := range differenceRow.FindAllStringSubmatch(string(page), -1) {
		listed[row[1]+" "+row[2]+" ("+row[3]+")"] = true
	}
	return listed
}
