package api

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"

	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/client"
)

// createBody is what POST /v3/volumes asks for.
type createBody struct {
	name, description, volumeType, zone, host string

	size      client.GiB
	sizeBytes int64
	metadata  map[string]string
}

// fields are the keys of Cinder's schema (api/schemas/volumes.py) and ours.
func (b *createBody) fields() fields {
	return fields{"volume": object("volume", fields{
		"name":              text("name", &b.name),
		"display_name":      text("display_name", &b.name),
		"description":       text("description", &b.description),
		"volume_type":       text("volume_type", &b.volumeType),
		"availability_zone": text("availability_zone", &b.zone),
		"metadata":          metadata("metadata", &b.metadata),
		"size":              value("size", &b.size, "It must be a whole number of GiB above 0"),
		"cvold:size_bytes":  value("cvold:size_bytes", &b.sizeBytes, "It must be a number of bytes above 0"),
		"cvold:host":        text("cvold:host", &b.host),
		// What stock clients send as null.
		"consistencygroup_id": notYet("consistencygroup_id"),
		"group_id":            notYet("group_id"),
		"snapshot_id":         notYet("snapshot_id"),
		"source_volid":        notYet("source_volid"),
		"backup_id":           notYet("backup_id"),
		"imageRef":            notYet("imageRef"),
		"multiattach":         notYet("multiattach"),
	})}
}

// bytes is the size asked for. The exact one wins, if it says the same as Cinder's.
func (b *createBody) bytes() (int64, error) {
	n, fits := b.size.Bytes()
	switch {
	case b.sizeBytes < 0:
		return 0, invalid("cvold:size_bytes", []byte(strconv.FormatInt(b.sizeBytes, 10)), "It must be a number of bytes above 0")
	case b.sizeBytes > 0 && b.size != 0 && client.ToGiB(b.sizeBytes) != b.size:
		return 0, badRequest("size says %d GiB, cvold:size_bytes says %d bytes: that is another size", b.size, b.sizeBytes)
	case b.sizeBytes > 0:
		return b.sizeBytes, nil
	case b.size == 0:
		return 0, badRequest("Invalid input received: 'size' or 'cvold:size_bytes' is needed, above 0")
	case !fits:
		return 0, badRequest("Invalid input received: size of %d GiB is more than %d bytes", b.size, int64(math.MaxInt64))
	}
	return n, nil
}

// createVolume answers POST /v3/volumes. A volume for another node's back end is made there.
func (s *Server) createVolume(x *exchange) error {
	var b createBody
	if err := x.read(b.fields()); err != nil {
		return err
	}
	size, err := b.bytes()
	if err != nil {
		return err
	}
	if b.zone != "" && b.zone != availabilityZone {
		return badRequest("Availability zone '%s' is invalid.", show([]byte(b.zone)))
	}
	if host, err := volume.ParseHost(b.host); err == nil && s.isPeer(host.Node) {
		if x.caller.Forwarded {
			return elsewhere(x, b.host, host.Node)
		}
		return x.forward(host.Node)
	}
	ctx, cancel := x.work()
	defer cancel()
	v, err := s.o.Volumes.Create(ctx, volume.CreateRequest{
		DisplayName: b.name, Description: b.description, ProjectID: x.projectID(), UserID: x.userID(),
		Type: b.volumeType, Host: b.host, Size: size, Metadata: b.metadata,
	})
	if noHome(err) && b.host == "" && !x.caller.Forwarded {
		return s.createElsewhere(x, err)
	}
	if err != nil {
		return err
	}
	return x.volume(http.StatusAccepted, v)
}

// noHome says that no back end of this node can take a volume; nothing was made.
func noHome(err error) bool {
	return errors.Is(err, volume.ErrNoBackend) || errors.Is(err, volume.ErrNoSpace)
}

// createElsewhere lets a peer make a volume that no back end here can take, for the reason cause: the one with the most
// free space first. One that refuses has made nothing, and the next is asked; whatever else a peer says is the answer.
func (s *Server) createElsewhere(x *exchange, cause error) error {
	code, reasons := answerTo(cause, true, x.requestID).Code, cause.Error()
	for _, node := range s.peersByRoom(x) {
		a, err := x.send(node)
		if err != nil {
			return err
		}
		if a.code != http.StatusBadRequest && a.code != http.StatusRequestEntityTooLarge {
			x.relay(a)
			return nil
		}
		reasons += fmt.Sprintf("; node %s: %s", node, client.ParseError(a.code, a.body).Message)
	}
	return fault{code, "No valid backend was found. " + reasons}
}

// peersByRoom are the peers that answer, the one with the most free space in a back end first.
func (s *Server) peersByRoom(x *exchange) []string {
	free := map[string]int64{}
	for _, a := range x.ask("/v1/status") {
		var status client.Status
		if a.err != nil || a.code != http.StatusOK || json.Unmarshal(a.body, &status) != nil {
			continue
		}
		free[a.node] = 0
		for _, b := range status.Backends {
			free[a.node] = max(free[a.node], b.FreeBytes)
		}
	}
	nodes := slices.Sorted(maps.Keys(free))
	slices.SortStableFunc(nodes, func(a, b string) int { return cmp.Compare(free[b], free[a]) })
	return nodes
}

func (s *Server) isPeer(node string) bool {
	if s.o.Peers == nil || node == s.o.Node {
		return false
	}
	for _, n := range s.o.Peers.Nodes() {
		if n == node {
			return true
		}
	}
	return false
}

// projectID is the project that a volume is made for, as the client says: the path's, or the header's of clients without
// authentication.
func (x *exchange) projectID() string {
	if x.project != "" {
		return clip(x.project)
	}
	return clip(x.r.Header.Get("X-Project-Id"))
}

// userID is the user that a volume is made by: as the client says, or its uid.
func (x *exchange) userID() string {
	if id := x.r.Header.Get("X-User-Id"); id != "" {
		return clip(id)
	}
	return strconv.FormatUint(uint64(x.caller.UID), 10)
}

// clip bounds an id from outside.
func clip(s string) string { return show([]byte(s)) }
