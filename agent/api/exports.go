package api

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/client"
	"github.com/cvold/cvold/nbd"
)

// migrationExport begins the name of the export that a migration's target is written through: migration-ID-ATTEMPT-TOKEN.
const migrationExport = "migration-"

// listExports answers GET /v1/exports: what the NBD servers of all nodes serve now.
func (s *Server) listExports(x *exchange) error {
	all, err := s.allExports(x)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, client.ServedExportsAnswer{Exports: orEmpty(all)})
}

// showExport answers GET /v1/exports/NAME.
func (s *Server) showExport(x *exchange) error {
	all, err := s.allExports(x)
	if err != nil {
		return err
	}
	e, err := one(x, all, "Export", func(e client.ServedExport) string { return e.Name })
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, client.ServedExportAnswer{Export: e})
}

// one is the item with the request's id: 404, or 503 if nodes did not answer, for one of them may have it.
func one[T any](x *exchange, all []T, noun string, id func(T) string) (T, error) {
	for _, item := range all {
		if id(item) == x.id() {
			x.w.Header().Del(partialHeader)
			return item, nil
		}
	}
	var none T
	if silent := x.w.Header().Get(partialHeader); silent != "" {
		return none, fault{http.StatusServiceUnavailable, x.id() + " is not known here, and " + silent + " does not answer"}
	}
	return none, fault{http.StatusNotFound, noun + " " + show([]byte(x.id())) + " could not be found."}
}

// allExports are those of all agents; a peer gets this agent's own.
func (s *Server) allExports(x *exchange) ([]client.ServedExport, error) {
	all, err := s.localExports()
	if err != nil {
		return nil, err
	}
	for _, list := range askLists[client.ServedExportsAnswer](x, "/v1/exports") {
		all = append(all, list.Exports...)
	}
	slices.SortFunc(all, func(a, b client.ServedExport) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Name, b.Name))
	})
	return all, nil
}

func (s *Server) localExports() (all []client.ServedExport, err error) {
	attachments := map[string]catalog.Attachment{}
	guests := map[string]catalog.Guest{}
	err = s.o.Store.View(func(tx catalog.Tx) error {
		records, err := catalog.Attachments.All(tx)
		if err != nil {
			return err
		}
		for _, a := range records {
			attachments[a.Export] = a
		}
		coming, err := catalog.Guests.All(tx)
		for _, g := range coming {
			guests[g.MigrationID] = g
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, e := range s.o.Exports() {
		w := exportView(e)
		w.Node = s.o.Node
		if a, ok := attachments[e.Name]; ok {
			w.Kind, w.AttachmentID, w.VolumeID = client.ExportOfAttachment, a.ID, a.VolumeID
		} else if id := migrationOf(e.Name); id != "" {
			w.Kind, w.MigrationID, w.VolumeID = client.ExportOfMigration, id, guests[id].VolumeID
			w.Name = e.Name[:strings.LastIndex(e.Name, "-")]
		}
		all = append(all, w)
	}
	return all, nil
}

// migrationOf is the migration that an export's name tells; empty if it is no migration's.
func migrationOf(export string) string {
	rest, ok := strings.CutPrefix(export, migrationExport)
	length := len(uuid.UUID{}.String())
	if !ok || len(rest) <= length || uuid.Validate(rest[:length]) != nil {
		return ""
	}
	return rest[:length]
}

func exportView(e nbd.ExportStats) client.ServedExport {
	w := client.ServedExport{Name: e.Name, ReadOnly: e.ReadOnly, ExportCounts: exportCounts(e.Counts), Clients: []client.ExportClient{}}
	for _, c := range e.Clients {
		v := client.ExportClient{Since: c.Since, ExportCounts: exportCounts(c.Counts)}
		if !c.Unix && c.Addr != nil {
			v.Address = c.Addr.String()
		}
		if c.Certificate != nil {
			v.Certificate = c.Certificate.Subject.CommonName
		}
		w.Clients = append(w.Clients, v)
	}
	return w
}

func exportCounts(c nbd.Counts) client.ExportCounts {
	return client.ExportCounts{
		Reads: c.Reads, Writes: c.Writes, Zeroes: c.Zeroes, Trims: c.Trims, Flushes: c.Flushes, Caches: c.Caches, Statuses: c.Statuses,
		Refused: c.Refused, Failed: c.Failed, BytesRead: c.BytesRead, BytesWritten: c.BytesWritten,
	}
}
