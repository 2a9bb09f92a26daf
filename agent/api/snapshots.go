package api

import "net/http"

// createSnapshot answers POST /v3/snapshots.
func (s *Server) createSnapshot(*exchange) error {
	return badRequest("cvold has no snapshots: copy the volume's NBD export instead")
}

// listSnapshots answers GET /v3/snapshots and /v3/snapshots/detail, which stock clients ask for beside volumes.
func (s *Server) listSnapshots(x *exchange) error {
	return x.json(http.StatusOK, map[string][]string{"snapshots": {}})
}

// showSnapshot answers GET and DELETE /v3/snapshots/ID.
func (s *Server) showSnapshot(x *exchange) error {
	return fault{http.StatusNotFound, "Snapshot " + show([]byte(x.id())) + " could not be found."}
}
