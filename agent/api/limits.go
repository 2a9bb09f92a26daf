package api

import (
	"cmp"
	"net/http"
	"slices"

	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/client"
)

// listLimits answers GET /v1/limits: those of all nodes.
func (s *Server) listLimits(x *exchange) error {
	local, err := s.o.Migrations.AllLimits()
	if err != nil {
		return err
	}
	var all []client.Limit
	for _, l := range local {
		all = append(all, s.limitView(l))
	}
	for _, list := range askLists[client.LimitsAnswer](x, "/v1/limits") {
		all = append(all, list.Limits...)
	}
	slices.SortStableFunc(all, func(a, b client.Limit) int { return cmp.Compare(a.Node, b.Node) })
	return x.json(http.StatusOK, client.LimitsAnswer{Limits: orEmpty(all)})
}

// limitNode answers PUT /v1/node/limit.
func (s *Server) limitNode(x *exchange) error {
	var c migration.LimitChange
	if err := x.read(limitFields("", &c)); err != nil {
		return err
	}
	return x.limit(s.o.Migrations.LimitNode(c))
}

// limitBackend answers PUT /v1/backends/ID/limit, where ID is a section of the configuration or a host.
func (s *Server) limitBackend(x *exchange) error {
	var c migration.LimitChange
	if err := x.read(limitFields("", &c)); err != nil {
		return err
	}
	name := x.id()
	for _, b := range s.ownStatus(x).Backends {
		if b.Host == name {
			name = b.Name
		}
	}
	return x.limit(s.o.Migrations.LimitBackend(name, c))
}

// limitMigration answers PUT /v1/migrations/ID/limit.
func (s *Server) limitMigration(x *exchange) error {
	var c migration.LimitChange
	if err := x.read(migrationLimitFields("", &c)); err != nil {
		return err
	}
	return x.limit(s.o.Migrations.LimitMigration(x.id(), c))
}

// limit answers with one limit.
func (x *exchange) limit(l migration.Limit, err error) error {
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, client.LimitAnswer{Limit: x.s.limitView(l)})
}

// limitFields are the keys of a change, behind a prefix; null leaves as it is.
func limitFields(prefix string, c *migration.LimitChange) fields {
	const must = "It must be a whole number, 0 for no limit"
	return fields{
		prefix + "bytes_per_second": value(prefix+"bytes_per_second", &c.BytesPerSecond, must),
		prefix + "iops":             value(prefix+"iops", &c.OperationsPerSecond, must),
	}
}

// migrationLimitFields are limitFields with the class.
func migrationLimitFields(prefix string, c *migration.LimitChange) fields {
	f := limitFields(prefix, c)
	f[prefix+"transfer_class"] = text(prefix+"transfer_class", (*string)(&c.Class))
	return f
}

// limitView is a limit on the wire.
func (s *Server) limitView(l migration.Limit) client.Limit {
	v := client.Limit{
		Node: s.o.Node, Kind: string(l.Kind), Name: l.Name, BytesPerSecond: max(l.Rate.Bytes, 0), IOPS: max(l.Rate.Operations, 0),
		PassedBytes: l.Stats.Bytes, PassedOperations: l.Stats.Operations, WaitedSeconds: l.Stats.Waited.Seconds(),
	}
	if l.Kind == migration.LimitOfMigration {
		v.VolumeID, v.TransferClass = l.Migration.VolumeID, string(l.Class)
		v.VolumeName = s.volumeName(migration.View{Migration: l.Migration})
	}
	return v
}
