package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// MaxWait is the longest that an agent lets one WaitMigration wait.
const MaxWait = time.Minute

// MigrationFilter chooses migrations; the zero value chooses all.
type MigrationFilter struct {
	// VolumeID is the volume that migrates.
	VolumeID string
	// Active leaves out those that are final.
	Active bool
}

// Migrations lists the migrations that this agent has a half of.
func (c *Client) Migrations(ctx context.Context, f MigrationFilter) ([]Migration, error) {
	query := url.Values{}
	if f.VolumeID != "" {
		query.Set("volume", f.VolumeID)
	}
	if f.Active {
		query.Set("active", "true")
	}
	var answer MigrationsAnswer
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "migrations"}, query: query, out: &answer})
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
