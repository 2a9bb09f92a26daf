package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cvold/cvold/dataplane"
)

const (
	// hangGrace is how long calls under way may take once the copy shall end.
	hangGrace = 5 * time.Second
	// closedGrace is how long the rest of the copy may take once both ends are closed: what it still does is to write the
	// checkpoint, on a disk that may be slow, or hang as well.
	closedGrace = 30 * time.Second
)

// leftBehind is why a copy ended before its calls did: what hangs in the kernel, which nothing can end. It unwraps to
// dataplane.ErrAbandoned.
type leftBehind struct{ error }

func (e *leftBehind) Unwrap() error { return e.error }

// bounded is work's error. Once ctx has ended, work has a moment to end too; then the ends that there are get closed, which ends what
// waits for a server, and what is left hangs in the kernel: that is left behind, with everything that it may still write to.
// Work that was left behind may still run: what it writes to is not to be read.
func (r *copyRun) bounded(ctx context.Context, work func() error) error {
	done := make(chan error, 1)
	go func() { done <- work() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	if err, ended := within(hangGrace, done); ended {
		return err
	}
	closed := r.ends.close()
	if !errors.Is(closed, dataplane.ErrAbandoned) {
		if err, ended := within(closedGrace, done); ended && err != nil {
			return fmt.Errorf("%w: %w", ctx.Err(), err) // which may be of an end that was closed
		} else if ended {
			return nil
		}
		closed = fmt.Errorf("a call in the kernel does not end: %w", dataplane.ErrAbandoned)
	}
	r.abandoned = true
	return fmt.Errorf("%w: %w", ctx.Err(), &leftBehind{closed})
}

// within waits for work's error at most so long.
func within(grace time.Duration, done <-chan error) (err error, ended bool) {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case err := <-done:
		return err, true
	case <-timer.C:
		return nil, false
	}
}
