package api

import (
	"net/http"
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

// listMigrations answers GET /v1/migrations: those that this agent has a half of.
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
	views, err := s.o.Migrations.List()
	if err != nil {
		return err
	}
	answer := client.MigrationsAnswer{Migrations: []client.Migration{}}
	for _, v := range views {
		if volume := q.Get("volume"); volume != "" && v.VolumeID != volume || active && final(v) {
			continue
		}
		m := s.migrationView(v)
		m.Events = nil
		answer.Migrations = append(answer.Migrations, m)
	}
	return x.json(http.StatusOK, answer)
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
		SourceKept: v.KeepSource, Progress: progress(v), Events: events(v.Events), Role: v.Role,
		CreatedAt: v.CreatedAt, UpdatedAt: v.UpdatedAt, FinishedAt: v.FinishedAt,
	}
	if record, err := s.o.Volumes.Get(v.VolumeID); err == nil {
		m.VolumeName = record.DisplayName // a name is for people: one that cannot be had is left out
	}
	return m
}

func progress(v migration.View) client.Progress {
	p := v.Progress
	return client.Progress{
		Phase: p.Phase, TotalBytes: p.TotalBytes, VerifiedBytes: p.VerifiedBytes, ZeroBytes: p.ZeroBytes,
		SentBytes: p.SentBytes, ResumedBytes: p.ResumedBytes, DataChunks: p.DataChunks, ZeroChunks: p.ZeroChunks,
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
