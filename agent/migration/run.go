package migration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/transfer"
)

// run is one migration under way in this process: what it holds open, and what is known of it beyond its record.
type run struct {
	e        *Engine
	id       string
	progress *transfer.Progress
	// limit is the migration's own, share its part in all that slow it down: obey sets both.
	limit *transfer.Limit
	share *transfer.Share
	done  chan struct{}
	// freed is closed when the migration has let go of the source for good.
	freed chan struct{}
	once  sync.Once
	// readBack is how many bytes the target has read back in readying.
	readBack atomic.Int64

	// Of the loop's goroutine alone.
	source   *volume.Handle
	slot     bool
	prepared *PrepareReply
	attempt  uint64 // that prepared belongs to

	// interrupt ends the step that runs now; guarded by e.mu.
	interrupt context.CancelFunc
}

func newRun(e *Engine, id string) *run {
	return &run{
		e: e, id: id, progress: &transfer.Progress{}, limit: transfer.NewLimit(transfer.Rate{}), share: transfer.NewShare(),
		done: make(chan struct{}), freed: make(chan struct{}),
	}
}

// loop runs step after step until the migration is final or the agent stops.
func (r *run) loop(ctx context.Context) {
	defer r.letGo()
	lease, err := r.e.o.Leaser.Acquire(ctx, "migration/"+r.id)
	if err != nil {
		r.log().Error("migration not run", "error", err)
		return
	}
	defer lease.Release()
	defer r.release() // before the lease
	for ctx.Err() == nil {
		m, err := r.e.load(r.id)
		if err != nil {
			r.log().Error("migration not run", "error", err)
			return
		}
		if m.State.Final() {
			return
		}
		r.step(ctx, m)
	}
}

// step runs the step of m's state once and acts on its verdict.
func (r *run) step(ctx context.Context, m catalog.Migration) {
	stepCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.e.mu.Lock()
	r.interrupt = cancel
	r.e.mu.Unlock()
	// An Abort that came before interrupt was set is found here.
	if now, err := r.e.load(r.id); err != nil || now.State != m.State {
		return
	}
	err := steps[m.State].run(stepCtx, r, m)
	if err == nil || ctx.Err() != nil {
		return
	}
	if now, loadErr := r.e.load(r.id); loadErr == nil && now.State != m.State {
		return // aborted meanwhile: the step's error is no verdict
	}
	r.judge(ctx, stepCtx, m, err)
}

// judge acts on the error of a step: it ends the migration, or waits before the step is run again.
func (r *run) judge(ctx, stepCtx context.Context, m catalog.Migration, err error) {
	var again *retryVerdict
	isRetry := errors.As(err, &again)
	if isRetry && again.waiting {
		r.pause(stepCtx, again.after)
		return
	}
	m.Failures++
	reason := err.Error()
	if isRetry {
		reason = again.reason.Error()
	}
	r.log().Warn("step failed", "state", m.State, "failures", m.Failures, "error", reason)
	givenUp := m.Failures > r.e.o.RetryLimit
	if m.State.BeforeCommit() && (!isRetry || givenUp) {
		if err := r.e.abort(ctx, m.ID, reason); err != nil && !errors.Is(err, ErrTooLate) {
			r.pause(stepCtx, r.e.o.Backoff)
		}
		return
	}
	r.failed(m.ID, reason)
	r.pause(stepCtx, r.backoff(m.Failures))
}

// failed records why a step is run again. The reason of a migration that was aborted stays why it was.
func (r *run) failed(id, reason string) {
	_ = r.e.update(id, func(_ catalog.Tx, m *catalog.Migration) error {
		m.Failures++
		noteNew(m, time.Now(), reason)
		if m.State != catalog.StateAborting {
			m.Reason = reason
		}
		return nil
	})
}

// backoff doubles from the first pause to backoffMax.
func (r *run) backoff(failures int) time.Duration {
	d := r.e.o.Backoff
	for range min(failures-1, 10) {
		d *= 2
	}
	return min(d, max(backoffMax, r.e.o.Backoff))
}

// pause waits, or returns when the step is interrupted or the agent stops.
func (r *run) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// letGo releases what the run holds, for good.
func (r *run) letGo() {
	r.release()
	r.once.Do(func() { close(r.freed) })
}

// release closes what the run holds. It may be called again.
func (r *run) release() {
	r.prepared = nil
	if r.source != nil {
		if err := r.source.Close(); err != nil {
			r.log().Warn("source did not close", "error", err)
		}
		r.source = nil
	}
	if r.slot {
		<-r.e.slots
		r.slot = false
	}
}

// takeSlot waits for the right to copy.
func (r *run) takeSlot(ctx context.Context) error {
	if r.slot {
		return nil
	}
	select {
	case r.e.slots <- struct{}{}:
		r.slot = true
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// touch is Options.touch for this migration.
func (r *run) touch(ctx context.Context, t Touch, fn func() error) error {
	return r.e.o.touch(ctx, r.id, t, fn)
}

// advance is the last touch of a step: in one transaction fn is applied, the state becomes next, and the volume shows
// it. It fails if the migration left the state of m meanwhile.
func (r *run) advance(ctx context.Context, t Touch, m catalog.Migration, next catalog.MigrationState, fn func(tx catalog.Tx, m *catalog.Migration) error) error {
	return r.touch(ctx, t, func() error {
		return r.e.update(m.ID, func(tx catalog.Tx, now *catalog.Migration) error {
			if now.State != m.State {
				return fmt.Errorf("migration %s is %s, not %s any more", m.ID, now.State, m.State)
			}
			if fn != nil {
				if err := fn(tx, now); err != nil {
					return err
				}
			}
			return moveTo(tx, now, next)
		})
	})
}

// token is what goes with each call of m.
func (r *run) token(m catalog.Migration) Token {
	return Token{MigrationID: m.ID, Attempt: m.Attempt, Epoch: m.Epoch, StoreID: r.e.o.Store.ID(), Node: r.e.o.Node}
}

// peer is the agent of m's target.
func (r *run) peer(m catalog.Migration) (Peer, error) {
	p, err := r.e.peer(node(m.TargetHost))
	if err != nil {
		return nil, retry(0, err)
	}
	return p, nil
}

func (r *run) log() *slog.Logger {
	return r.e.o.Logger.With("migration", r.id)
}
