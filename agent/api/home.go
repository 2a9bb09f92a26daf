package api

import (
	"errors"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/client"
)

// home says at which node a request is answered.
type home int

const (
	// here: at the agent that was asked.
	here home = iota
	// ofVolume: at the owner of volume {id}.
	ofVolume
	// ofMigration: at an agent that has a half of migration {id}, this one if it has.
	ofMigration
	// ofMigrationSource: at the agent that has the source's half.
	ofMigrationSource
	// ofAttachment: at the agent that serves attachment {id}.
	ofAttachment
	// ofManifest: at the agent that has the manifest of volume {id}.
	ofManifest
)

// probes are the paths that tell whether an agent is the home.
var probes = map[home]string{
	ofVolume:          "/v3/volumes/",
	ofMigration:       "/v1/migrations/",
	ofMigrationSource: "/v1/migrations/",
	ofAttachment:      "/v1/attachments/",
	ofManifest:        "/v1/manifests/",
}

// locate is the node that is to answer; empty for this one, also when nobody else has what is asked for: the handler then
// says so.
func (s *Server) locate(h home, x *exchange) (node string, err error) {
	if h == here {
		return "", nil
	}
	return s.locateID(h, x.id(), x)
}

func (s *Server) locateID(h home, id string, x *exchange) (string, error) {
	node, known, err := s.knows(h, id)
	switch {
	case err != nil:
		return "", err
	case known && node == s.o.Node:
		return "", nil
	case node != "" && x.caller.Forwarded:
		return "", elsewhere(x, id, node)
	case node != "":
		return node, nil
	case x.caller.Forwarded || uuid.Validate(id) != nil:
		return "", nil
	}
	return s.find(x, h, id)
}

// elsewhere refuses to forward a second time: two agents that each think the other one is the owner would do so for ever.
func elsewhere(x *exchange, id, node string) error {
	code := http.StatusConflict
	if x.in.Method == http.MethodGet {
		code = http.StatusNotFound
	}
	return fault{code, "what you ask of " + id + " belongs to node " + node + ": ask there"}
}

// knows asks this agent's own records. known: node is where it is; not known: node is empty.
func (s *Server) knows(h home, id string) (node string, known bool, err error) {
	switch h {
	case ofVolume:
		_, err = s.o.Volumes.Get(id)
	case ofMigration, ofMigrationSource:
		var v migration.View
		v, err = s.o.Migrations.Get(id)
		if err == nil && h == ofMigrationSource && v.Role == client.RoleTarget {
			return nodeOf(v.SourceHost), true, nil
		}
	case ofAttachment:
		_, err = s.attachment(id)
	case ofManifest:
		_, err = s.o.Migrations.Manifest(id)
	}
	var moved *volume.MovedError
	switch {
	case err == nil:
		return s.o.Node, true, nil
	case errors.As(err, &moved):
		return moved.Node, true, nil
	case errors.Is(err, volume.ErrNotFound), errors.Is(err, migration.ErrNotFound), errors.Is(err, catalog.ErrNotFound):
		return "", false, nil
	}
	return "", false, err
}

// nodeOf is the node of node@backend#pool.
func nodeOf(host string) string {
	node, _, _ := strings.Cut(host, "@")
	return node
}
