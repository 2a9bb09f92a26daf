package api

import (
	"net/http"
	"time"
)

// statusTimeout is how long back ends and peers may take to say how they are.
const statusTimeout = 10 * time.Second

// version answers GET /v1/version.
func (s *Server) version(x *exchange) error {
	v := s.o.Version
	v.API, v.Node, v.StoreID = "v1", s.o.Node, s.o.Store.ID()
	return x.json(http.StatusOK, v)
}

// status answers GET /v1/status.
func (s *Server) status(x *exchange) error {
	return x.json(http.StatusOK, s.ownStatus(x))
}

// metrics answers GET /metrics.
func (s *Server) metrics(x *exchange) error {
	if s.o.Metrics == nil {
		return fault{http.StatusNotFound, "this agent has no metrics"}
	}
	s.o.Metrics.ServeHTTP(x.w, x.r)
	return nil
}
