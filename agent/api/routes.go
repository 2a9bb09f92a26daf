package api

import (
	"net/http"
	"path"
	"strings"
)

// route is one line of the table.
type route struct {
	// pattern is that of http.ServeMux. Every path under /v3 may also have a project: /v3/PROJECT/volumes.
	pattern string
	// who may.
	who access
	// home is whose request it is: it is answered there, by the handler of the same route.
	home home
	// handle answers, or returns the error that is to be answered.
	handle func(*Server, *exchange) error
}

// routes is everything that can be asked.
func routes() []route { return append(cinderRoutes(), ownRoutes()...) }

// cinderRoutes are Cinder's dialect.
func cinderRoutes() []route {
	return []route{
		{"GET /{$}", anyone, here, (*Server).versionChoices},
		{"GET /v3", anyone, here, (*Server).versionV3},
		{"GET /v3/volumes", anyone, here, (*Server).listVolumes},
		{"GET /v3/volumes/detail", anyone, here, (*Server).listVolumesDetail},
		{"POST /v3/volumes", admins, here, (*Server).createVolume},
		{"GET /v3/volumes/{id}", anyone, ofVolume, (*Server).showVolume},
		{"DELETE /v3/volumes/{id}", admins, ofVolume, (*Server).deleteVolume},
		{"POST /v3/volumes/{id}/action", admins, ofVolume, (*Server).volumeAction},

		{"PUT /v3/volumes/{id}", admins, ofVolume, (*Server).updateVolume},
		{"GET /v3/volumes/{id}/metadata", anyone, ofVolume, (*Server).listMetadata},
		{"POST /v3/volumes/{id}/metadata", admins, ofVolume, (*Server).addMetadata},
		{"PUT /v3/volumes/{id}/metadata", admins, ofVolume, (*Server).replaceMetadata},
		{"GET /v3/volumes/{id}/metadata/{key}", anyone, ofVolume, (*Server).showMetadataItem},
		{"PUT /v3/volumes/{id}/metadata/{key}", admins, ofVolume, (*Server).setMetadataItem},
		{"DELETE /v3/volumes/{id}/metadata/{key}", admins, ofVolume, (*Server).deleteMetadataItem},
		{"GET /v3/manageable_volumes", admins, here, (*Server).listManageable},
		{"GET /v3/manageable_volumes/detail", admins, here, (*Server).listManageable},
		{"POST /v3/manageable_volumes", admins, here, (*Server).manageVolume},
		{"GET /v3/os-volume-manage", admins, here, (*Server).listManageable},
		{"GET /v3/os-volume-manage/detail", admins, here, (*Server).listManageable},
		{"POST /v3/os-volume-manage", admins, here, (*Server).manageVolume},
		{"POST /v3/snapshots", admins, here, (*Server).createSnapshot},
		{"GET /v3/snapshots", anyone, here, (*Server).listSnapshots},
		{"GET /v3/snapshots/detail", anyone, here, (*Server).listSnapshots},
		{"GET /v3/snapshots/{id}", anyone, here, (*Server).showSnapshot},
		{"DELETE /v3/snapshots/{id}", admins, here, (*Server).showSnapshot},
		{"GET /v3/os-services", admins, here, (*Server).listServices},
		{"PUT /v3/os-services/{verb}", admins, here, (*Server).setService},
		{"GET /v3/scheduler-stats/get_pools", admins, here, (*Server).listPools},
		{"GET /v3/types", anyone, here, (*Server).listTypes},
		{"POST /v3/types", admins, here, (*Server).createType},
		{"GET /v3/types/{id}", anyone, here, (*Server).showType},
		{"PUT /v3/types/{id}", admins, here, (*Server).updateType},
		{"DELETE /v3/types/{id}", admins, here, (*Server).deleteType},
		{"GET /v3/types/{id}/extra_specs", admins, here, (*Server).listExtraSpecs},
		{"POST /v3/types/{id}/extra_specs", admins, here, (*Server).setExtraSpecs},
		{"GET /v3/types/{id}/extra_specs/{key}", admins, here, (*Server).showExtraSpec},
		{"PUT /v3/types/{id}/extra_specs/{key}", admins, here, (*Server).setExtraSpec},
		{"DELETE /v3/types/{id}/extra_specs/{key}", admins, here, (*Server).deleteExtraSpec},
	}
}

// ownRoutes are the agent's own dialect.
func ownRoutes() []route {
	return []route{
		{"GET /v1/version", anyone, here, (*Server).version},
		{"GET /v1/status", admins, here, (*Server).status},
		{"GET /v1/openapi.json", anyone, here, (*Server).describe},
		{"GET /v1/health", anyone, here, (*Server).health},
		{"GET /v1/backends", admins, here, (*Server).listBackends},
		{"GET /v1/backends/{id}", admins, here, (*Server).showBackend},
		{"GET /v1/peers", admins, here, (*Server).listPeers},
		{"GET /v1/peers/{id}", admins, here, (*Server).showPeer},
		{"GET /v1/config", admins, here, (*Server).config},
		{"GET /v1/migrations", admins, here, (*Server).listMigrations},
		{"GET /v1/migrations/{id}", admins, ofMigration, (*Server).showMigration},
		{"GET /v1/migrations/{id}/wait", admins, ofMigration, (*Server).waitMigration},
		{"GET /v1/migrations/{id}/events", admins, ofMigration, (*Server).migrationEvents},
		{"POST /v1/migrations/{id}/abort", admins, ofMigrationSource, (*Server).abortMigration},
		{"POST /v1/migrations/{id}/resolve", admins, ofMigration, (*Server).resolveMigration},
		{"GET /v1/limits", admins, here, (*Server).listLimits},
		{"PUT /v1/node/limit", admins, here, (*Server).limitNode},
		{"PUT /v1/backends/{id}/limit", admins, here, (*Server).limitBackend},
		{"PUT /v1/migrations/{id}/limit", admins, ofMigrationSource, (*Server).limitMigration},
		{"GET /v1/attachments", admins, here, (*Server).listAttachments},
		{"POST /v1/attachments", admins, here, (*Server).createAttachment},
		{"GET /v1/attachments/{id}", admins, ofAttachment, (*Server).showAttachment},
		{"DELETE /v1/attachments/{id}", admins, ofAttachment, (*Server).deleteAttachment},
		{"GET /v1/catalog/backup", admins, here, (*Server).backupCatalog},
		{"POST /v1/catalog/rebuild", admins, here, (*Server).rebuildCatalog},
		{"GET /v1/exports", admins, here, (*Server).listExports},
		{"GET /v1/exports/{id}", admins, here, (*Server).showExport},
		{"GET /v1/transfers", admins, here, (*Server).listTransfers},
		{"GET /v1/transfers/{id}", admins, here, (*Server).showTransfer},
		{"GET /v1/events", admins, here, (*Server).streamEvents},
		{"GET /v1/manifests/{id}", admins, ofManifest, (*Server).showManifest},

		{"GET /metrics", admins, here, (*Server).metrics},
	}
}

// table finds the route of a request.
type table struct {
	mux *http.ServeMux
	// nouns are the first segments under /v3: what is none of them is a project.
	nouns map[string]bool
}

// newTable builds the table; answer is called with the route that a request matched.
func newTable(all []route, answer func(route, *http.Request)) table {
	t := table{mux: http.NewServeMux(), nouns: map[string]bool{}}
	for _, rt := range all {
		_, p, _ := strings.Cut(rt.pattern, " ")
		if rest, ok := strings.CutPrefix(p, "/v3/"); ok {
			noun, _, _ := strings.Cut(rest, "/")
			t.nouns[noun] = true
		}
		t.mux.HandleFunc(rt.pattern, func(_ http.ResponseWriter, r *http.Request) { answer(rt, r) })
	}
	return t
}

// clean is the request's path as the table has it: no dots, no double or trailing slashes, no project, which is returned
// beside it.
func (t table) clean(p string) (cleaned, project string) {
	cleaned = path.Clean("/" + p)
	rest, ok := strings.CutPrefix(cleaned, "/v3/")
	if !ok {
		return cleaned, ""
	}
	first, others, _ := strings.Cut(rest, "/")
	noun, _, _ := strings.Cut(others, "/")
	if t.nouns[first] || !t.nouns[noun] {
		return cleaned, ""
	}
	return "/v3/" + others, first
}

// serve answers r by its route; refuse is told of a path that there is not (404), or a method that it has not (405, with
// those that it has).
func (t table) serve(w http.ResponseWriter, r *http.Request, refuse func(error)) {
	if _, pattern := t.mux.Handler(r); pattern != "" {
		t.mux.ServeHTTP(w, r)
		return
	}
	probe := probeWriter{header: http.Header{}}
	t.mux.ServeHTTP(&probe, r)
	if allow := probe.header.Get("Allow"); probe.code == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", allow)
		refuse(fault{probe.code, r.Method + " is no method of " + r.URL.Path + ", which has " + allow})
		return
	}
	refuse(fault{http.StatusNotFound, "there is no " + r.URL.Path})
}

// probeWriter takes ServeMux's own answer to what matches no route.
type probeWriter struct {
	header http.Header
	code   int
}

func (p *probeWriter) Header() http.Header         { return p.header }
func (p *probeWriter) Write(b []byte) (int, error) { return len(b), nil }
func (p *probeWriter) WriteHeader(code int)        { p.code = code }
