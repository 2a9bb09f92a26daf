package api

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cvold/cvold/client"
)

func TestConfig(t *testing.T) {
	r := newNode(t, "A")
	for query, want := range map[string]string{
		"":                 "[{DEFAULT host A c:1} {peer:B address b:1 default}]",
		"?section=DEFAULT": "[{DEFAULT host A c:1}]",
		"?section=Peer:b":  "[{peer:B address b:1 default}]",
	} {
		var all client.ConfigAnswer
		r.want(200, "GET /v1/config"+query, "", &all)
		if got := fmt.Sprint(all.Settings); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	for query, want := range map[string]struct {
		code int
		text string
	}{
		"?section=default":  {404, "no section default: there are DEFAULT, peer:B"},
		"?section=database": {404, "no section database: there are DEFAULT, peer:B"},
		"?key=host":         {400, "Invalid filters key"},
	} {
		if body := r.want(want.code, "GET /v1/config"+query, "", nil).Body.String(); !strings.Contains(body, want.text) {
			t.Errorf("%s: %s, want %q", query, body, want.text)
		}
	}
}
