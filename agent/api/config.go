package api

import (
	"net/http"
	"slices"
	"strings"

	"github.com/cvold/cvold/client"
)

// config answers GET /v1/config: all options that count for this agent, or with ?section= those of a section. As in the files,
// a section's name has no case, but for DEFAULT.
func (s *Server) config(x *exchange) error {
	q := x.r.URL.Query()
	for key := range q {
		if key != "section" {
			return badRequest("Invalid filters %s are found in query options.", show([]byte(key)))
		}
	}
	settings := orEmpty(s.o.Config())
	name := q.Get("section")
	if name == "" {
		return x.json(http.StatusOK, client.ConfigAnswer{Settings: settings})
	}
	var sections []string
	found := []client.Setting{}
	for _, one := range settings {
		if one.Section == name || strings.EqualFold(one.Section, name) && one.Section != "DEFAULT" {
			found = append(found, one)
		}
		if !slices.Contains(sections, one.Section) {
			sections = append(sections, one.Section)
		}
	}
	if len(found) == 0 {
		return fault{http.StatusNotFound, "this agent reads no section " + show([]byte(name)) + ": there are " + strings.Join(sections, ", ")}
	}
	return x.json(http.StatusOK, client.ConfigAnswer{Settings: found})
}
