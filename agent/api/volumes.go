package api

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/client"
)

// preemptTimeout is how long a command waits for an unlocked migration to give way.
const preemptTimeout = 30 * time.Second

// listQuery is what a list of volumes may be asked for.
type listQuery struct {
	name, status, migrationStatus string
	limit                         int // 0: all
	marker                        string
}

// readListQuery reads the query. A filter that we do not have is refused: who believes in it would act on the wrong
// volumes.
func readListQuery(q url.Values, admin bool) (l listQuery, err error) {
	for key, values := range q {
		v := values[len(values)-1]
		switch {
		case key == "name":
			l.name = v
		case key == "status":
			l.status = v
		case key == "migration_status" && admin:
			l.migrationStatus = v
		case key == "marker":
			l.marker = v
		case key == "limit":
			l.limit, err = strconv.Atoi(v)
			if err != nil || l.limit < 1 {
				return l, badRequest("limit %s is not a number above 0", show([]byte(v)))
			}
		case key == "all_tenants":
		default:
			return l, badRequest("Invalid filters %s are found in query options.", show([]byte(key)))
		}
	}
	return l, nil
}

// choose keeps what the query asks for. It is asked of merged lists: a stale record of a volume must not come in because
// the right one does not match.
func (l listQuery) choose(all []*client.Volume) []*client.Volume {
	return slices.DeleteFunc(all, func(v *client.Volume) bool {
		return l.name != "" && l.name != v.DisplayName() || l.status != "" && l.status != v.Status ||
			l.migrationStatus != "" && l.migrationStatus != v.Migration()
	})
}

// page sorts as Cinder does, the newest first, and cuts out what was asked for.
func (l listQuery) page(all []*client.Volume) ([]*client.Volume, error) {
	slices.SortFunc(all, func(a, b *client.Volume) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt.Time), cmp.Compare(b.ID, a.ID))
	})
	if l.marker != "" {
		i := slices.IndexFunc(all, func(v *client.Volume) bool { return v.ID == l.marker })
		if i < 0 {
			return nil, badRequest("marker %s is no volume of this list", show([]byte(l.marker)))
		}
		all = all[i+1:]
	}
	if l.limit > 0 {
		all = all[:min(l.limit, len(all))]
	}
	return all, nil
}

// localVolumes are the volumes of this agent that the caller may see.
func (s *Server) localVolumes(x *exchange) (list peerVolumes, err error) {
	records, err := s.o.Volumes.List(volume.Filter{Temporary: true})
	if err != nil {
		return list, err
	}
	n, err := s.names()
	if err != nil {
		return list, err
	}
	list = peerVolumes{Volumes: make([]client.Volume, 0, len(records)), Epochs: make(map[string]uint64, len(records))}
	for _, v := range records {
		if hidden(v) && !x.caller.Admin {
			continue
		}
		list.Volumes = append(list.Volumes, x.view(v, n))
		list.Epochs[v.ID] = v.OwnerEpoch
	}
	return list, nil
}

// allVolumes are those of all agents. A missing agent is told in the header.
func (s *Server) allVolumes(x *exchange, l listQuery) ([]*client.Volume, error) {
	local, err := s.localVolumes(x)
	if err != nil {
		return nil, err
	}
	return l.page(l.choose(x.merge(local)))
}

// listVolumesDetail answers GET /v3/volumes/detail. A peer gets all of this agent's own volumes, with their
// epochs.
func (s *Server) listVolumesDetail(x *exchange) error {
	l, err := readListQuery(x.r.URL.Query(), x.caller.Admin)
	if err != nil {
		return err
	}
	if x.caller.Forwarded {
		list, err := s.localVolumes(x)
		if err != nil {
			return err
		}
		return x.json(http.StatusOK, list)
	}
	all, err := s.allVolumes(x, l)
	if err != nil {
		return err
	}
	links := x.linker()
	return x.write(http.StatusOK, func(body *bytes.Buffer) error {
		body.WriteString(`{"volumes":[`)
		for i, v := range all {
			if i > 0 {
				body.WriteByte(',')
			}
			v.Links = links(v.ID)
			body.Write(v.AppendJSON(body.AvailableBuffer()))
		}
		body.WriteString("]}\n")
		return nil
	})
}

// summary is a volume in Cinder's short list.
type summary struct {
	ID    string        `json:"id"`
	Name  *string       `json:"name"`
	Links []client.Link `json:"links"`
}

// listVolumes answers GET /v3/volumes.
func (s *Server) listVolumes(x *exchange) error {
	l, err := readListQuery(x.r.URL.Query(), x.caller.Admin)
	if err != nil {
		return err
	}
	all, err := s.allVolumes(x, l)
	if err != nil {
		return err
	}
	short := make([]summary, len(all))
	links := x.linker()
	for i, v := range all {
		short[i] = summary{v.ID, v.Name, links(v.ID)}
	}
	return x.json(http.StatusOK, map[string][]summary{"volumes": short})
}

// showVolume answers GET /v3/volumes/ID.
func (s *Server) showVolume(x *exchange) error {
	v, err := s.visible(x)
	if err != nil {
		return err
	}
	return x.volume(http.StatusOK, v)
}

// volume answers with one volume.
func (x *exchange) volume(code int, v catalog.Volume) error {
	n, err := x.s.names()
	if err != nil {
		return err
	}
	if x.caller.Forwarded {
		x.w.Header().Set(rankHeader, strconv.FormatUint(v.OwnerEpoch, 10))
	}
	w := x.view(v, n)
	w.Links = x.linker()(v.ID)
	return x.json(code, client.VolumeAnswer{Volume: w})
}

// volume is a record of this agent; Cinder's 404 if there is none.
func (s *Server) volume(id string) (catalog.Volume, error) {
	v, err := s.o.Volumes.Get(id)
	if errors.Is(err, volume.ErrNotFound) {
		return v, noVolume(id)
	}
	return v, err
}

// usable is a volume of this agent that someone may use or delete: not one that a migration works with now.
func (s *Server) usable(id string) (catalog.Volume, error) {
	v, err := s.volume(id)
	if err == nil && hidden(v) && v.MigrationID != "" {
		return v, badRequest("Invalid volume: volume %s is an aid of migration %s: end that instead", id, v.MigrationID)
	}
	return v, err
}

// deleteVolume answers DELETE /v3/volumes/ID. What would be refused in the end is refused before a migration is ended
// for it.
func (s *Server) deleteVolume(x *exchange) error {
	if err := x.noBody(); err != nil {
		return err
	}
	id := x.id()
	if _, err := s.usable(id); err != nil {
		return err
	}
	if len(s.o.Volumes.Attachments(id)) > 0 {
		return badRequest("Invalid volume: volume %s is attached: end its attachments first", id)
	}
	ctx, cancel := x.work()
	defer cancel()
	if err := s.preempt(ctx, id, "the volume is to be deleted"); err != nil {
		return err
	}
	if err := s.o.Volumes.Delete(ctx, id); err != nil {
		return err
	}
	return x.empty(http.StatusAccepted)
}

// preempt lets an unlocked migration of the volume give way; nil when none runs. A locked one is a 400, as Cinder answers
// for a volume in maintenance; one that cannot end now, or not in time, a 409.
func (s *Server) preempt(ctx context.Context, id, reason string) error {
	limited, cancel := context.WithTimeout(ctx, preemptTimeout)
	defer cancel()
	err := s.o.Migrations.Preempt(limited, id, reason)
	switch {
	case errors.Is(err, migration.ErrLocked):
		return badRequest("Invalid volume: volume %s is locked by its migration until that has ended", id)
	case err != nil && limited.Err() != nil && ctx.Err() == nil:
		return conflict("the migration of volume %s did not end within %s: try again", id, preemptTimeout)
	}
	return err
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
