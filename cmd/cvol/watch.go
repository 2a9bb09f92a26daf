package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cvold/cvold/client"
)

const (
	// patience is how long a watch goes on without an answer: an agent that restarts is back well before, and its
	// migrations go on by themselves.
	patience = time.Minute
	// pause lies between two questions, so that an agent that answers at once is not flooded.
	pause = 100 * time.Millisecond
	// retryPause lies between two questions that were not answered.
	retryPause = time.Second
)

// waiter is the part of the client that a watch needs.
type waiter interface {
	WaitMigration(ctx context.Context, id, since string, timeout time.Duration) (client.Migration, error)
}

// watch follows a migration until it is final, showing every answer. The agent may go away for a while.
type watch struct {
	waiter waiter
	view   view
	// poll is how long one question waits for a change of state.
	poll time.Duration
}

// run returns the migration as it was last seen, final unless there is an error.
func (w watch) run(ctx context.Context, m client.Migration) (client.Migration, error) {
	w.view.show(m)
	answered := time.Now()
	for !m.Final {
		next, err := w.waiter.WaitMigration(ctx, m.ID, m.State, w.poll)
		switch {
		case ctx.Err() != nil:
			return m, ctx.Err()
		case err == nil:
			m, answered = next, time.Now()
			w.view.show(m)
			sleep(ctx, pause)
		case !passing(err) || time.Since(answered) > patience:
			return m, err
		default:
			w.view.lost(err)
			sleep(ctx, retryPause)
		}
	}
	return m, nil
}

// passing says that the agent may be back soon.
func passing(err error) bool { return isUnreachable(err) && !isForbidden(err) }

// sleep waits for d, or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// watchMigration shows a migration until it is over, and the result. timeout 0 is none.
func (c *cli) watchMigration(ctx context.Context, m client.Migration, timeout time.Duration) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	view := newView(c.stderr, c.noProgress)
	m, err := watch{waiter: c.client(), view: view, poll: view.poll()}.run(ctx, m)
	view.close(m)
	switch {
	case ctx.Err() != nil && err != nil:
		return c.stoppedWatching(ctx.Err(), m, timeout)
	case err != nil:
		return fmt.Errorf("watch migration %s: %w", m.ID, err)
	}
	return c.result(m)
}

// stoppedWatching tells that the migration goes on without us.
func (c *cli) stoppedWatching(why error, m client.Migration, timeout time.Duration) error {
	what := "interrupted"
	if errors.Is(why, context.DeadlineExceeded) {
		what = fmt.Sprintf("not over after %s", timeout)
	}
	c.notef("%s: cvol stops watching, the migration goes on (%s)", what, m.State)
	c.notef("watch it again: cvol migration wait %s", m.ID)
	if !m.LockVolume {
		c.notef("abort it:       cvol migration abort %s", m.ID)
	}
	return &toldError{why}
}

// result tells how a final migration went.
func (c *cli) result(m client.Migration) error {
	var err error
	if m.Outcome != client.OutcomeSucceeded {
		err = fmt.Errorf("migrate volume %s to %s: %w", volumeOf(m), m.TargetHost, &migrationFailed{m.Reason})
	}
	if c.json {
		return errors.Join(err, c.printJSON(client.MigrationAnswer{Migration: m}))
	}
	if err == nil {
		c.printf("%s", summary(m))
	}
	return err
}

// summary is one line on a migration that succeeded. The rate counts what was sent, over the whole time. A driver that
// moved the volume by itself leaves no figures.
func summary(m client.Migration) string {
	p, elapsed := m.Progress, m.FinishedAt.Sub(m.CreatedAt)
	var words []string
	if p.TotalBytes > 0 {
		words = append(words, "size "+size(p.TotalBytes), "holes "+size(p.ZeroBytes))
	}
	words = append(words, "time "+took(elapsed))
	if p.SentBytes > 0 && elapsed > 0 {
		words = append(words, "rate "+rate(float64(p.SentBytes)/elapsed.Seconds()))
	}
	if m.Class != "" {
		words = append(words, "class "+m.Class)
	}
	if m.Root != "" {
		words = append(words, "root "+m.Root)
	}
	if m.SourceKept {
		words = append(words, "source kept")
	}
	return fmt.Sprintf("Volume %s is on %s: %s", volumeOf(m), m.TargetHost, strings.Join(words, ", "))
}
