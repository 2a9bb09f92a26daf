package api

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"

	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/client"
	"github.com/cvold/cvold/dataplane"
)

// manageBody is what POST /v3/manageable_volumes asks for (api/schemas/volume_manage.py).
type manageBody struct {
	host, name, description, volumeType, zone string

	ref      map[string]string
	metadata map[string]string
	bootable client.Bool
}

func (b *manageBody) fields() fields {
	return fields{"volume": object("volume", fields{
		"host":              text("host", &b.host),
		"ref":               b.readRef,
		"name":              text("name", &b.name),
		"description":       text("description", &b.description),
		"volume_type":       text("volume_type", &b.volumeType),
		"availability_zone": text("availability_zone", &b.zone),
		"metadata":          metadata("metadata", &b.metadata),
		"bootable":          flag("bootable", &b.bootable),
		"cluster":           notYet("cluster"),
	})}
}

// readRef takes the driver's word on an object. Ours know one by its name.
func (b *manageBody) readRef(raw json.RawMessage) error {
	if err := json.Unmarshal(raw, &b.ref); err != nil {
		return invalid("ref", raw, `It must be {"source-name": "NAME"}`)
	}
	return nil
}

// existing is the object's name.
func (b *manageBody) existing() (string, error) {
	name := b.ref["source-name"]
	if name == "" || len(b.ref) != 1 {
		return "", badRequest("Manage existing volume failed due to invalid backend reference: " +
			`it must be {"source-name": "NAME"}, the name of an object in the back end`)
	}
	return name, nil
}

// manageVolume answers POST /v3/manageable_volumes, at the node of the host.
func (s *Server) manageVolume(x *exchange) error {
	var b manageBody
	if err := x.read(b.fields()); err != nil {
		return err
	}
	if b.host == "" {
		return badRequest("Invalid input for field/attribute volume. 'host' is a required property: NODE@BACKEND#POOL")
	}
	existing, err := b.existing()
	if err != nil {
		return err
	}
	switch {
	case b.zone != "" && b.zone != availabilityZone:
		return badRequest("Availability zone '%s' is invalid.", show([]byte(b.zone)))
	case bool(b.bootable):
		return badRequest("bootable volumes are not known here: leave bootable out")
	}
	if node := s.peerOf(b.host); node != "" {
		if x.caller.Forwarded {
			return elsewhere(x, b.host, node)
		}
		return x.forward(node)
	}
	ctx, cancel := x.work()
	defer cancel()
	v, err := s.o.Manager.Manage(ctx, volume.ManageRequest{
		Existing: existing, Host: b.host, DisplayName: b.name, Description: b.description,
		ProjectID: x.projectID(), UserID: x.userID(), Type: b.volumeType, Metadata: b.metadata,
	})
	if err != nil {
		return err
	}
	return x.volume(http.StatusAccepted, v)
}

// peerOf is the peer whose host it is; empty for this node's, and for what is none.
func (s *Server) peerOf(host string) string {
	if h, err := volume.ParseHost(host); err == nil && s.isPeer(h.Node) {
		return h.Node
	}
	return ""
}

// manageableQuery is what a list of objects may be asked for.
type manageableQuery struct {
	host, marker  string
	limit, offset int
}

// readManageableQuery reads the query. The order is by name, whatever sort says: a client that wants another one sorts itself.
func readManageableQuery(q url.Values) (m manageableQuery, err error) {
	for key, values := range q {
		v := values[len(values)-1]
		switch key {
		case "host":
			m.host = v
		case "marker":
			m.marker = v
		case "limit", "offset":
			n, err := strconv.Atoi(v)
			if err != nil || n < 0 {
				return m, badRequest("%s %s is not a number of 0 or above", key, show([]byte(v)))
			}
			if key == "limit" {
				m.limit = n
			} else {
				m.offset = n
			}
		case "sort", "sort_key", "sort_dir", "detailed":
		default:
			return m, badRequest("Invalid filters %s are found in query options.", show([]byte(key)))
		}
	}
	if m.host == "" {
		return m, badRequest("'host' must be set in the query: NODE@BACKEND#POOL")
	}
	return m, nil
}

// page cuts out what was asked for; marker is a name, after which it begins.
func (m manageableQuery) page(all []dataplane.Candidate) ([]dataplane.Candidate, error) {
	slices.SortFunc(all, func(a, b dataplane.Candidate) int { return cmp.Compare(a.Name, b.Name) })
	if m.marker != "" {
		i := slices.IndexFunc(all, func(c dataplane.Candidate) bool { return c.Name == m.marker })
		if i < 0 {
			return nil, badRequest("marker %s is no object of this list", show([]byte(m.marker)))
		}
		all = all[i+1:]
	}
	all = all[min(m.offset, len(all)):]
	if m.limit > 0 {
		all = all[:min(m.limit, len(all))]
	}
	return all, nil
}

// listManageable answers GET /v3/manageable_volumes and /detail, at the node of the host.
func (s *Server) listManageable(x *exchange) error {
	q, err := readManageableQuery(x.r.URL.Query())
	if err != nil {
		return err
	}
	if node := s.peerOf(q.host); node != "" {
		if x.caller.Forwarded {
			return elsewhere(x, q.host, node)
		}
		return x.forward(node)
	}
	ctx, cancel := x.patience(statusTimeout)
	defer cancel()
	all, err := s.o.Manager.Manageable(ctx, q.host)
	if err != nil {
		return err
	}
	if all, err = q.page(all); err != nil {
		return err
	}
	detail := path.Base(x.r.URL.Path) == "detail"
	list := make([]client.ManageableVolume, len(all))
	for i, c := range all {
		list[i] = manageableView(c, detail)
	}
	return x.json(http.StatusOK, client.ManageableVolumesAnswer{Volumes: list})
}

func manageableView(c dataplane.Candidate, detail bool) client.ManageableVolume {
	v := client.ManageableVolume{
		Reference: client.VolumeReference{SourceName: c.Name}, Size: client.ToGiB(c.Size), SizeBytes: c.Size, SafeToManage: c.Unfit == "",
	}
	if detail {
		v.ManageableDetail = &client.ManageableDetail{ReasonNotSafe: nullable(c.Unfit), CinderID: nullable(c.VolumeID)}
	}
	return v
}

// unmanageBody is os-unmanage, which has no fields (api/contrib/volume_unmanage.py). An unlocked migration gives way.
type unmanageBody struct{}

func (b *unmanageBody) fields() fields { return fields{} }
func (b *unmanageBody) check() error   { return nil }

func (b *unmanageBody) run(ctx context.Context, s *Server, x *exchange) error {
	id := x.id()
	if _, err := s.usable(id); err != nil {
		return err
	}
	if len(s.o.Volumes.Attachments(id)) > 0 {
		return badRequest("Invalid volume: volume %s is attached: end its attachments first", id)
	}
	if err := s.preempt(ctx, id, "the volume is to be unmanaged"); err != nil {
		return err
	}
	return s.o.Manager.Unmanage(ctx, id)
}
