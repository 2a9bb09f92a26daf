package api

import (
	"cmp"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/client"
)

// defaultWait is how long a long poll waits that does not say.
const defaultWait = 30 * time.Second

// showMigration answers GET /v1/migrations/ID.
func (s *Server) showMigration(x *exchange) error {
	v, err := s.o.Migrations.Get(x.id())
	if err != nil {
		return err
	}
	return x.migration(v)
}

// migration answers with one migration.
func (x *exchange) migration(v migration.View) error {
	if x.caller.Forwarded {
		rank := 2
		if v.Role == client.RoleTarget {
			rank = 1
		}
		x.w.Header().Set(rankHeader, strconv.Itoa(rank))
	}
	return x.json(http.StatusOK, client.MigrationAnswer{Migration: x.s.migrationView(v)})
}

// listMigrations answers GET /v1/migrations: those of all agents, each once, the newest first. A peer gets those that this
// agent has a half of.
func (s *Server) listMigrations(x *exchange) error {
	q := x.r.URL.Query()
	for key := range q {
		if key != "volume" && key != "active" {
			return badRequest("Invalid filters %s are found in query options.", show([]byte(key)))
		}
	}
	active := false
	if q.Has("active") {
		var err error
		if active, err = client.ParseBool(q.Get("active")); err != nil {
			return badRequest("active: %v", err)
		}
	}
	local, err := s.localMigrations(q.Get("volume"), active)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, client.MigrationsAnswer{Migrations: orEmpty(x.mergeMigrations(local))})
}

// localMigrations are the halves that this agent has, without their histories.
func (s *Server) localMigrations(volumeID string, active bool) (all []client.Migration, err error) {
	views, err := s.o.Migrations.List()
	for _, v := range views {
		if volumeID != "" && v.VolumeID != volumeID || active && final(v) {
			continue
		}
		m := s.migrationView(v)
		m.Events = nil
		all = append(all, m)
	}
	return all, err
}

// mergeMigrations adds those of all peers to local, by the same query. Of two halves of one migration the source's leads.
func (x *exchange) mergeMigrations(local []client.Migration) []client.Migration {
	target := url.URL{Path: "/v1/migrations", RawQuery: x.r.URL.RawQuery}
	halves := local
	for _, list := range askLists[client.MigrationsAnswer](x, target.String()) {
		halves = append(halves, list.Migrations...)
	}
	best := map[string]client.Migration{}
	for _, m := range halves {
		if _, there := best[m.ID]; !there || m.Role == client.RoleSource {
			best[m.ID] = m
		}
	}
	return slices.SortedFunc(maps.Values(best), func(a, b client.Migration) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
}

// waitMigration answers GET /v1/migrations/ID/wait: when the state is not `since` any more, or final, or the time is over,
// or the server closes. Longer than client.MaxWait is shortened.
func (s *Server) waitMigration(x *exchange) error {
	q := x.r.URL.Query()
	wait := defaultWait
	if t := q.Get("timeout"); t != "" {
		d, err := time.ParseDuration(t)
		if err != nil || d < 0 {
			return badRequest("timeout %s is not a duration like 30s", show([]byte(t)))
		}
		wait = min(d, client.MaxWait)
	}
	ctx, cancel := x.patience(wait)
	defer cancel()
	v, err := s.o.Migrations.Wait(ctx, x.id(), q.Get("since"))
	if err != nil {
		return err
	}
	return x.migration(v)
}

// migrationEvents answers GET /v1/migrations/ID/events.
func (s *Server) migrationEvents(x *exchange) error {
	v, err := s.o.Migrations.Get(x.id())
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, client.EventsAnswer{Events: orEmpty(events(v.Events))})
}

// abortMigration answers POST /v1/migrations/ID/abort.
func (s *Server) abortMigration(x *exchange) error {
	if err := x.noBody(); err != nil {
		return err
	}
	ctx, cancel := x.work()
	defer cancel()
	reason := "aborted by uid " + strconv.FormatUint(uint64(x.caller.UID), 10)
	if x.caller.Node != "" {
		reason += " of node " + x.caller.Node
	}
	if err := s.o.Migrations.Abort(ctx, x.id(), reason); err != nil {
		return err
	}
	return x.empty(http.StatusAccepted)
}

// resolveMigration answers POST /v1/migrations/ID/resolve.
func (s *Server) resolveMigration(x *exchange) error {
	owner := ""
	if err := x.read(fields{"owner": text("owner", &owner)}); err != nil {
		return err
	}
	if owner == "" {
		return badRequest("'owner' is a required property: the node that is to own the volume")
	}
	ctx, cancel := x.work()
	defer cancel()
	if err := s.o.Migrations.Resolve(ctx, x.id(), owner); err != nil {
		return err
	}
	return x.empty(http.StatusAccepted)
}

// migrationView is a half of a migration on the wire.
func (s *Server) migrationView(v migration.View) client.Migration {
	m := client.Migration{
		ID: v.ID, VolumeID: v.VolumeID, TargetID: v.TargetID, SourceHost: v.SourceHost, TargetHost: v.TargetHost,
		State: string(v.State), Status: string(cinderStatus(v)), PreviousStatus: string(v.PreviousStatus),
		ForceHostCopy: v.ForceHostCopy, LockVolume: v.LockVolume, Attempt: v.Attempt,
		Final: final(v), Outcome: outcome(v), Reason: v.Reason,
		Root: v.Root, Algorithm: v.Algorithm, ChunkSize: v.ChunkSize, Class: v.Class,
		SourceKept: v.KeepSource, Progress: progress(v), ReadBackBytes: v.ReadBackBytes, Events: events(v.Events), Role: v.Role,
		CreatedAt: v.CreatedAt, UpdatedAt: v.UpdatedAt, FinishedAt: v.FinishedAt,
	}
	m.VolumeName = s.volumeName(v)
	return m
}

// volumeName is for people: one that cannot be had is left out. After the hand-over the source has only what it kept.
func (s *Server) volumeName(v migration.View) string {
	record, err := s.o.Volumes.Get(v.VolumeID)
	switch {
	case err == nil:
		return record.DisplayName
	case v.Record != nil:
		return v.Record.DisplayName
	}
	return ""
}

func progress(v migration.View) client.Progress {
	p := v.Progress
	return client.Progress{
		Phase: p.Phase, TotalBytes: p.TotalBytes, VerifiedBytes: p.VerifiedBytes, ZeroBytes: p.ZeroBytes,
		SentBytes: p.SentBytes, ResumedBytes: p.ResumedBytes, DataChunks: p.DataChunks, ZeroChunks: p.ZeroChunks,
		SkippedBytes: p.SkippedBytes, Retries: p.Retries,
		Mismatches: p.Mismatches, BytesPerSecond: p.BytesPerSecond, ETASeconds: p.ETA.Seconds(), StartedAt: p.Started,
	}
}

func events(all []catalog.Event) []client.Event {
	var out []client.Event
	for _, e := range all {
		out = append(out, client.Event{At: e.At, State: e.State, Message: e.Message})
	}
	return out
}

// final says that this half will not change any more.
func final(v migration.View) bool { return outcome(v) != "" }

// outcome of a half that is final; empty before.
func outcome(v migration.View) string {
	if v.Role == client.RoleTarget {
		switch catalog.GuestState(v.State) {
		case catalog.GuestCommitted:
			return client.OutcomeSucceeded
		case catalog.GuestAborted:
			return client.OutcomeFailed
		}
		return ""
	}
	switch v.State {
	case catalog.StateSucceeded:
		return client.OutcomeSucceeded
	case catalog.StateFailed:
		return client.OutcomeFailed
	}
	return ""
}

// cinderStatus is the migration_status that Cinder would show for the state. A volume is the target's, and the migration a
// success for its users, as soon as the target has committed: what follows is clearing up.
func cinderStatus(v migration.View) catalog.MigrationStatus {
	switch s := string(v.State); {
	case s == string(catalog.StateAccepted):
		return catalog.MigrationStarting
	case s == string(catalog.StateReadying), s == string(catalog.StateCommitting),
		s == string(catalog.GuestReady), s == string(catalog.GuestInDoubt):
		return catalog.MigrationCompleting
	case strings.HasPrefix(s, "abort"), s == string(catalog.StateFailed):
		return catalog.MigrationError
	case v.State.Committed(), s == string(catalog.GuestCommitted):
		return catalog.MigrationSuccess
	}
	return catalog.MigrationMigrating
}
