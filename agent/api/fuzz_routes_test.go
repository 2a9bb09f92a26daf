package api

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/client"
)

// FuzzRoutes asks anything of the whole table, as an admin and as another: no answer is a 500, every refusal is a sentence
// in Cinder's form, and who is no admin changes nothing.
func FuzzRoutes(f *testing.F) {
	for _, rt := range routes() {
		method, target, _ := strings.Cut(rt.pattern, " ")
		target = strings.NewReplacer("{$}", "", "{id}", "VOL", "{key}", "k", "{verb}", "enable").Replace(target)
		f.Add(method, target, "", `{"volume": {"size": 1, "name": "n"}}`)
		f.Add(method, target, "limit=1&name=x&detail=True", `{}`)
	}
	f.Add("POST", "/v3/p/volumes/VOL/action", "", `{"os-retype": {"new_type": "gold", "migration_policy": "never"}}`)
	f.Add("POST", "/v3/volumes/VOL/action", "", `{"os-extend": {"new_size": 2}}`)
	f.Add("PUT", "/v3/types/gold-id/extra_specs/k", "", `{"k": "v"}`)
	f.Add("GET", "/v3/../v1/%2e%2e/status", "\x00=%zz", "")
	r, v := newRig(f), newVolume(nil)
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		if !token(method) || strings.ContainsFunc(query, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			t.Skip("no request of HTTP")
		}
		r.t = t
		r.put(v, catalog.Type{ID: "gold-id", Name: "gold"}, catalog.Service{Host: "node1@fast", UUID: "u"})
		target := url.URL{Path: "/" + strings.TrimPrefix(strings.ReplaceAll(path, "VOL", v.ID), "/"), RawQuery: query}
		if _, err := http.NewRequest(method, target.String(), nil); err != nil || strings.HasPrefix(target.Path, "//") {
			t.Skip("no address")
		}
		before := r.dump()
		for _, caller := range []Caller{nobody, root} {
			w := r.ask(caller, method+" "+target.String(), body)
			if w.Code == http.StatusInternalServerError {
				t.Fatalf("%s %s %s: %s", method, target.String(), body, w.Body)
			}
			if e := client.ParseError(w.Code, w.Body.Bytes()); w.Code >= 400 && method != http.MethodHead &&
				target.Path != "/metrics" && strings.HasPrefix(e.Message, "HTTP ") && !strings.Contains(w.Body.String(), `"status"`) {
				t.Fatalf("%s %s: %d %s", method, target.String(), w.Code, w.Body)
			}
			if !caller.Admin && r.dump() != before {
				t.Fatalf("%s %s %s: a stranger changed the records", method, target.String(), body)
			}
		}
	})
}

// token says that a word can be a method of HTTP.
func token(word string) bool {
	return word != "" && len(word) < 32 && !strings.ContainsFunc(word, func(r rune) bool { return r < 'A' || r > 'Z' })
}
