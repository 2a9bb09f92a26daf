package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cvold/cvold/dataplane"
)

// hangGrace is how long calls under way may take once the copy shall end.
const hangGrace = 5 * time.Second

// bounded is work's error. Once ctx has ended, work has a moment to end too; then both ends are closed, which ends what
// waits for a server, and what is left hangs in the kernel: that is left behind, with everything that it may still write to.
func (r *copyRun) bounded(ctx context.Context, work func() error) error {
	done := make(chan error, 1)
	go func() { done <- work() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	timer := time.NewTimer(hangGrace)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
	}
	if err := r.ends.close(); errors.Is(err, dataplane.ErrAbandoned) {
		r.abandoned = true
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return <-done
}
