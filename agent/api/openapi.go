package api

import (
	_ "embed"
	"net/http"
)

// openAPI describes every route, for clients that are made from such descriptions. A test makes it of the route table, of
// docs/API.md and of the types of package client, and holds the answers of all other tests against it.
//
//go:embed openapi.json
var openAPI []byte

// describe answers GET /v1/openapi.json.
func (s *Server) describe(x *exchange) error {
	x.w.Header().Set("Content-Type", "application/json")
	x.w.WriteHeader(http.StatusOK)
	_, _ = x.w.Write(openAPI) // a client that left is no error of the request
	return nil
}
