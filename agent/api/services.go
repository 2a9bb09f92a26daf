package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/client"
)

// backendTimeout is how long a back end may take to say how full it is: less than peerTimeout, so that an agent with one
// that hangs still answers its peers.
const backendTimeout = 2 * time.Second

// The words of Cinder for services and back ends.
const (
	up       = "up"
	down     = "down"
	enabled  = "enabled"
	disabled = "disabled"
)

// lookedAt is a back end with what it answered.
type lookedAt struct {
	volume.Capabilities
	err error
}

func (l lookedAt) state() string {
	if l.err != nil {
		return down
	}
	return up
}

// lookAtBackends asks all back ends of this node at the same time.
func (s *Server) lookAtBackends(x *exchange) []lookedAt {
	ctx, cancel := x.patience(backendTimeout)
	defer cancel()
	backends := s.o.Pools.Backends()
	all := make([]lookedAt, len(backends))
	var wg sync.WaitGroup
	for i, b := range backends {
		wg.Go(func() { all[i] = s.lookAt(ctx, b) })
	}
	wg.Wait()
	return all
}

func (s *Server) lookAt(ctx context.Context, b volume.Backend) lookedAt {
	c, err := s.o.Pools.Capabilities(ctx, b)
	return lookedAt{c, err}
}

// listServices answers GET /v3/os-services: the back ends of all nodes, and the nodes that do not answer.
func (s *Server) listServices(x *exchange) error {
	var host, binary string
	for key, values := range x.r.URL.Query() {
		switch v := values[len(values)-1]; key {
		case "host":
			host = v
		case "binary":
			binary = v
		default:
			return badRequest("Invalid filters %s are found in query options.", show([]byte(key)))
		}
	}
	all, err := s.localServices(x)
	if err != nil {
		return err
	}
	all = append(all, s.peerServices(x)...)
	all = slices.DeleteFunc(all, func(v client.Service) bool {
		return binary != "" && binary != v.Binary || host != "" && host != v.Host && host != nodeOf(v.Host)
	})
	slices.SortFunc(all, func(a, b client.Service) int { return cmp.Compare(a.Host, b.Host) })
	return x.json(http.StatusOK, client.ServicesAnswer{Services: orEmpty(all)})
}

// localServices are the back ends of this node; one whose record is left but that is not configured any more is down.
func (s *Server) localServices(x *exchange) (all []client.Service, err error) {
	states := map[string]string{}
	for _, l := range s.lookAtBackends(x) {
		states[l.Host.Service()] = l.state()
	}
	err = s.o.Store.View(func(tx catalog.Tx) error {
		records, err := catalog.Services.All(tx)
		all = nil
		for _, r := range records {
			state := cmp.Or(states[r.Host], down)
			v := service(r.Host, state)
			v.BackendState, v.DisabledReason, v.UpdatedAt = &state, nullable(r.DisabledReason), client.Time{Time: r.UpdatedAt}
			if state == up {
				v.UpdatedAt = client.Time{Time: time.Now()}
			}
			if r.Disabled {
				v.Status = disabled
			}
			all = append(all, v)
		}
		return err
	})
	return all, err
}

func service(host, state string) client.Service {
	return client.Service{
		Binary: client.BinaryVolume, Host: host, Zone: availabilityZone, Status: enabled, State: state,
		ReplicationStatus: "disabled",
	}
}

// peerServices are the services of the peers. One that does not answer is down, under its node's name.
func (s *Server) peerServices(x *exchange) (all []client.Service) {
	for _, a := range x.ask("/v3/os-services") {
		var list client.ServicesAnswer
		if a.err != nil || a.code != http.StatusOK || json.Unmarshal(a.body, &list) != nil {
			list.Services = []client.Service{service(a.node, down)}
		}
		all = append(all, list.Services...)
	}
	return all
}

// setService answers PUT /v3/os-services/enable, disable and disable-log-reason (api/contrib/services.py), at the node of
// the host.
func (s *Server) setService(x *exchange) error {
	verb := x.r.PathValue("verb")
	withReason := verb == "disable-log-reason"
	if !withReason && verb != "enable" && verb != "disable" {
		return fault{http.StatusNotFound, "Unknown action " + show([]byte(verb)) + ": there are enable, disable and disable-log-reason"}
	}
	var host, binary, reason string
	f := fields{"host": text("host", &host), "binary": text("binary", &binary), "service": text("service", &binary)}
	if withReason {
		f["disabled_reason"] = text("disabled_reason", &reason)
	}
	if err := x.read(f); err != nil {
		return err
	}
	switch {
	case host == "":
		return badRequest("Invalid input for field/attribute host. 'host' is a required property")
	case binary != "" && binary != client.BinaryVolume:
		return fault{http.StatusNotFound, "there is no " + show([]byte(binary)) + ": services are " + client.BinaryVolume}
	case withReason && strings.TrimSpace(reason) == "":
		return badRequest("Disabled reason contains invalid characters or is too long: it is empty")
	case s.isPeer(nodeOf(host)) && !x.caller.Forwarded:
		return x.forward(nodeOf(host))
	}
	record, err := s.o.Pools.SetService(host, verb != "enable", reason)
	if errors.Is(err, volume.ErrNotFound) {
		return fault{http.StatusNotFound, "Service " + show([]byte(host)) + " could not be found."}
	}
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, serviceSet(record))
}

// serviceSet is Cinder's answer to a change of a service.
func serviceSet(r catalog.Service) map[string]any {
	answer := map[string]any{
		"host": r.Host, "service": client.BinaryVolume, "binary": client.BinaryVolume, "disabled": r.Disabled, "status": enabled,
	}
	if r.Disabled {
		answer["status"] = disabled
	}
	if r.DisabledReason != "" {
		answer["disabled_reason"] = r.DisabledReason
	}
	return answer
}
