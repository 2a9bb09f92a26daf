package api

import (
	"net/http"
	"strconv"
	"strings"
)

// microversionMax is the newest of Cinder's API whose keys we answer; older ones get the same answer, which has keys that
// they do not know and ignore.
const microversionMax = 70

// microversion answers the header of Cinder's microversions: the version asked for, 3.0 without one. One that we do not
// have is answered with the nearest: clients compare, and stock ones ask for their own newest on every call.
func microversion(x *exchange) {
	minor := 0
	for _, part := range strings.Split(x.r.Header.Get("OpenStack-API-Version"), ",") {
		version, ok := strings.CutPrefix(strings.TrimSpace(part), "volume ")
		if !ok {
			continue
		}
		if version == "latest" {
			minor = microversionMax
		} else if n, err := strconv.ParseUint(strings.TrimPrefix(version, "3."), 10, 16); err == nil && strings.HasPrefix(version, "3.") {
			minor = min(int(n), microversionMax)
		}
	}
	h := x.w.Header()
	h.Set("OpenStack-API-Version", "volume 3."+strconv.Itoa(minor))
	h.Set("Vary", "OpenStack-API-Version")
	h.Set("X-Compute-Request-Id", x.requestID)
}

// versionsAnswer is Cinder's versions document (api/versions.py).
type versionsAnswer struct {
	Versions []apiVersion `json:"versions"`
}

type apiVersion struct {
	ID         string      `json:"id"`
	Status     string      `json:"status"`
	Version    string      `json:"version"`
	MinVersion string      `json:"min_version"`
	Updated    string      `json:"updated"`
	Links      []typedLink `json:"links"`
	MediaTypes []mediaType `json:"media-types"`
}

type typedLink struct {
	Rel  string `json:"rel"`
	Type string `json:"type,omitempty"`
	Href string `json:"href"`
}

type mediaType struct {
	Base string `json:"base"`
	Type string `json:"type"`
}

func (x *exchange) versions(code int) error {
	return x.json(code, versionsAnswer{[]apiVersion{{
		ID: "v3.0", Status: "CURRENT", Version: "3." + strconv.Itoa(microversionMax), MinVersion: "3.0",
		Updated: "2022-08-31T00:00:00Z",
		Links: []typedLink{
			{Rel: "describedby", Type: "text/html", Href: "https://docs.openstack.org/"},
			{Rel: "self", Href: x.base() + "/v3/"},
		},
		MediaTypes: []mediaType{{"application/json", "application/vnd.openstack.volume+json;version=3"}},
	}}})
}

// base is how the client calls the agent that it asked, as far as can be known.
func (x *exchange) base() string {
	if host := x.r.Header.Get(hostHeader); host != "" && x.caller.Forwarded {
		return "http://" + host
	}
	return "http://" + x.r.Host
}

// versionChoices answers GET /: 300, as Cinder does.
func (s *Server) versionChoices(x *exchange) error { return x.versions(http.StatusMultipleChoices) }

// versionV3 answers GET /v3.
func (s *Server) versionV3(x *exchange) error { return x.versions(http.StatusOK) }
