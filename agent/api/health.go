package api

import (
	"net/http"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/client"
)

// health answers GET /v1/health: 200 while the agent can serve volumes, else 503. What is wrong is told to admins.
func (s *Server) health(x *exchange) error {
	checks := []client.HealthCheck{s.catalogCheck()}
	works := 0
	for _, l := range s.lookAtBackends(x) {
		c := client.HealthCheck{Name: "backend " + l.Host.Service(), OK: l.err == nil}
		if l.err != nil {
			c.Message = l.err.Error()
		} else {
			works++
		}
		checks = append(checks, c)
	}
	h := client.Health{Status: client.HealthOK, Checks: checks}
	code := http.StatusOK
	switch {
	case !checks[0].OK || works == 0:
		h.Status, code = client.HealthFailed, http.StatusServiceUnavailable
	case works < len(checks)-1:
		h.Status = client.HealthDegraded
	}
	if !x.caller.Admin {
		h.Checks = nil
	}
	return x.json(code, h)
}

// catalogCheck reads from the catalog, which answers nothing any more once a commit has failed.
func (s *Server) catalogCheck() client.HealthCheck {
	c := client.HealthCheck{Name: "catalog", OK: true}
	err := s.o.Store.View(func(tx catalog.Tx) error {
		_, err := catalog.Services.All(tx)
		return err
	})
	if err != nil {
		c.OK, c.Message = false, err.Error()
	}
	return c
}

// ownStatus is what GET /v1/status tells.
func (s *Server) ownStatus(x *exchange) client.Status {
	ctx, cancel := x.patience(statusTimeout)
	defer cancel()
	st := s.o.Status(ctx)
	st.Backends, st.Peers = orEmpty(st.Backends), orEmpty(st.Peers)
	st.Warnings, st.NBD.Addresses = orEmpty(st.Warnings), orEmpty(st.NBD.Addresses)
	return st
}

// listBackends answers GET /v1/backends.
func (s *Server) listBackends(x *exchange) error {
	return x.json(http.StatusOK, client.BackendsAnswer{Backends: s.ownStatus(x).Backends})
}

// showBackend answers GET /v1/backends/ID: a section of the configuration, or a host.
func (s *Server) showBackend(x *exchange) error {
	for _, b := range s.ownStatus(x).Backends {
		if b.Name == x.id() || b.Host == x.id() {
			return x.json(http.StatusOK, client.BackendAnswer{Backend: b})
		}
	}
	return fault{http.StatusNotFound, "Back end " + show([]byte(x.id())) + " could not be found: see GET /v1/backends."}
}

// listPeers answers GET /v1/peers.
func (s *Server) listPeers(x *exchange) error {
	return x.json(http.StatusOK, client.PeersAnswer{Peers: s.ownStatus(x).Peers})
}

// showPeer answers GET /v1/peers/NODE.
func (s *Server) showPeer(x *exchange) error {
	for _, p := range s.ownStatus(x).Peers {
		if p.Node == x.id() {
			return x.json(http.StatusOK, client.PeerAnswer{Peer: p})
		}
	}
	return fault{http.StatusNotFound, "Peer " + show([]byte(x.id())) + " could not be found: see GET /v1/peers."}
}
