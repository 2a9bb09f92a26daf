package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Migration is a migration in the agent's own dialect.
type Migration struct {
	ID         string `json:"id"`
	VolumeID   string `json:"volume_id"`
	VolumeName string `json:"volume_name,omitempty"`
	// TargetID is the temporary volume's id, Cinder's new_volume.
	TargetID   string `json:"target_id,omitempty"`
	SourceHost string `json:"source_host"`
	TargetHost string `json:"target_host"`

	// State is where this agent's half stands: accepted, preparing, copying, readying, committing, disposing, renaming,
	// forgetting, succeeded, aborting, failed; for role target those of the target's half.
	State string `json:"state"`
	// Status is Cinder's migration_status.
	Status         string `json:"status"`
	PreviousStatus string `json:"previous_status,omitempty"`
	ForceHostCopy  bool   `json:"force_host_copy"`
	LockVolume     bool   `json:"lock_volume"`
	// Attempt counts how often the target was prepared, from 1.
	Attempt uint64 `json:"attempt"`
	// Final says that State will not change any more; Outcome is then OutcomeSucceeded or OutcomeFailed.
	Final   bool   `json:"final"`
	Outcome string `json:"outcome"`
	// Reason is a sentence: why it failed, or what it waits for.
	Reason string `json:"reason,omitempty"`

	// Root, Algorithm, ChunkSize and Class describe the manifest.
	Root      string `json:"root,omitempty"`
	Algorithm string `json:"algorithm,omitempty"`
	ChunkSize int64  `json:"chunk_size,omitempty"`
	Class     string `json:"class,omitempty"`
	// SourceKept says that the old source was not deleted.
	SourceKept bool `json:"source_kept"`

	Progress Progress `json:"progress"`
	// ReadBackBytes is how much of the volume the target has read back, from its medium, in state readying.
	ReadBackBytes int64 `json:"read_back_bytes"`

	Events []Event `json:"events,omitempty"`
	// Role is RoleSource, or RoleTarget for a volume of another node that is copied to this one.
	Role string `json:"role"`

	CreatedAt  time.Time `json:"created_at"`
	UpdatedAt  time.Time `json:"updated_at"`
	FinishedAt time.Time `json:"finished_at,omitzero"`
}

// The roles of an agent in a migration, and the outcomes of a final migration.
const (
	RoleSource       = "source"
	RoleTarget       = "target"
	OutcomeSucceeded = "succeeded"
	OutcomeFailed    = "failed"
)

// Progress is how far a migration's transfer is. Bytes count what is verified and durable, unless said otherwise.
type Progress struct {
	// Phase is what the transfer does now.
	Phase         string `json:"phase,omitempty"`
	TotalBytes    int64  `json:"total_bytes"`
	VerifiedBytes int64  `json:"verified_bytes"`
	// ZeroBytes are holes and zeroes, which are not sent as data.
	ZeroBytes int64 `json:"zero_bytes"`
	SentBytes int64 `json:"sent_bytes"`
	// SkippedBytes are data that the target held already, when an earlier attempt's bytes were compared.
	SkippedBytes int64 `json:"skipped_bytes,omitempty"`
	// ResumedBytes were verified before this attempt began.
	ResumedBytes int64 `json:"resumed_bytes"`
	DataChunks   int64 `json:"data_chunks"`
	ZeroChunks   int64 `json:"zero_chunks"`
	// Mismatches were found by verification, and copied again.
	Mismatches int64 `json:"mismatches"`
	// Retries were made of requests that failed.
	Retries        int64   `json:"retries,omitempty"`
	BytesPerSecond float64 `json:"bytes_per_second"`
	// ETASeconds is 0 while there is nothing to tell it from.
	ETASeconds float64   `json:"eta_seconds"`
	StartedAt  time.Time `json:"started_at,omitzero"`
}

// Event is one line of a migration's history.
type Event struct {
	At      time.Time `json:"at"`
	State   string    `json:"state"`
	Message string    `json:"message"`
}

// MigrationAnswer answers GET /v1/migrations/ID and /v1/migrations/ID/wait.
type MigrationAnswer struct {
	Migration Migration `json:"migration"`
}

// MigrationsAnswer answers GET /v1/migrations.
type MigrationsAnswer struct {
	Migrations []Migration `json:"migrations"`
}

// EventsAnswer answers GET /v1/migrations/ID/events.
type EventsAnswer struct {
	Events []Event `json:"events"`
}

// ResolveRequest is the body of POST /v1/migrations/ID/resolve.
type ResolveRequest struct {
	// Owner is the node that is to own the volume.
	Owner string `json:"owner"`
}

// MaxWait is the longest that an agent lets one WaitMigration wait.
const MaxWait = time.Minute

// MigrationFilter chooses migrations; the zero value chooses all.
type MigrationFilter struct {
	// VolumeID is the volume that migrates.
	VolumeID string
	// Active leaves out those that are final.
	Active bool
}

// Migrations lists the migrations of all nodes, the newest first; where two nodes have a half of one, the source's. If nodes
// do not answer the agent, it returns what the others have, and *PartialError.
func (c *Client) Migrations(ctx context.Context, f MigrationFilter) ([]Migration, error) {
	query := url.Values{}
	if f.VolumeID != "" {
		query.Set("volume", f.VolumeID)
	}
	if f.Active {
		query.Set("active", "true")
	}
	var answer MigrationsAnswer
	err := c.list(ctx, call{method: http.MethodGet, path: []string{"v1", "migrations"}, query: query, out: &answer})
	return answer.Migrations, err
}

// Migration is the migration with this id.
func (c *Client) Migration(ctx context.Context, id string) (Migration, error) {
	var answer MigrationAnswer
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "migrations", id}, out: &answer})
	return answer.Migration, err
}

// MigrationEvents is the migration's history, oldest first.
func (c *Client) MigrationEvents(ctx context.Context, id string) ([]Event, error) {
	var answer EventsAnswer
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "migrations", id, "events"}, out: &answer})
	return answer.Events, err
}

// WaitMigration waits until the migration's state is not since any more, or it is final, or the time is over, and
// answers with it as it then is. A timeout above MaxWait is shortened by the agent.
func (c *Client) WaitMigration(ctx context.Context, id, since string, timeout time.Duration) (Migration, error) {
	query := url.Values{"timeout": {timeout.String()}}
	if since != "" {
		query.Set("since", since)
	}
	var answer MigrationAnswer
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "migrations", id, "wait"}, query: query, out: &answer})
	return answer.Migration, err
}

// AbortMigration asks for the end of a migration. The agent answers before it has ended. A migration that is locked, or
// past the point of no return, is refused with 409.
func (c *Client) AbortMigration(ctx context.Context, id string) error {
	return c.do(ctx, call{method: http.MethodPost, path: []string{"v1", "migrations", id, "abort"}})
}

// ResolveMigration decides by hand who owns the volume of a migration whose two agents cannot decide together. If the
// other agent decided differently, two agents own the volume: it is for when the other one is known to be gone.
func (c *Client) ResolveMigration(ctx context.Context, id, owner string) error {
	return c.do(ctx, call{
		method: http.MethodPost, path: []string{"v1", "migrations", id, "resolve"},
		in: ResolveRequest{Owner: owner},
	})
}
