package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cvold/cvold/dataplane"
)

const (
	// hangGrace is how long calls under way may take once a command shall end.
	hangGrace = 5 * time.Second
	// closedGrace is how long the rest may take once the devices are closed: what a copy still does is to write the
	// checkpoint, on a disk that may be slow, or hang as well.
	closedGrace = 30 * time.Second
)

// leftBehind is why a command ended before its calls did: what hangs in the kernel, which nothing can end. It unwraps to
// dataplane.ErrAbandoned.
type leftBehind struct{ error }

func (e *leftBehind) Unwrap() error { return e.error }

// isLeft says that err tells of something that was left behind.
func isLeft(err error) bool {
	var left *leftBehind
	return errors.As(err, &left)
}

// leftText tells of what was left behind, or is empty.
func leftText(err error) string {
	var left *leftBehind
	if !errors.As(err, &left) {
		return ""
	}
	each := slices.Compact(strings.Split(left.Error(), "\n")) // a target may be open twice
	return strings.Join(each, "; ") + "; what it was told may still happen, and only then can this process end"
}

// bounded is work's error. Once ctx has ended, work has a moment to end too; then end closes the devices that work uses, as far as
// they are open: that ends what waits for a server, and what is left hangs in the kernel. It is left behind (leftBehind), with
// everything that it may still write to.
// Work that was left behind may still run: what it writes to is not to be read.
func bounded(ctx context.Context, end, work func() error) error {
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
	closed := end()
	if !errors.Is(closed, dataplane.ErrAbandoned) {
		if err, ended := within(closedGrace, done); ended && err != nil {
			return fmt.Errorf("%w: %w", ctx.Err(), err) // which may be of a device that was closed
		} else if ended {
			return nil
		}
		closed = fmt.Errorf("a call in the kernel does not end: %w", dataplane.ErrAbandoned)
	}
	return fmt.Errorf("%w: %w", ctx.Err(), &leftBehind{closed})
}

// nothingOpen is the end of what opens devices: until it is done there is none to close.
func nothingOpen() error { return nil }

// bounded is the function of the same name for work that uses the ends of the copy.
func (r *copyRun) bounded(ctx context.Context, work func() error) error {
	err := bounded(ctx, func() error { return r.ends.close() }, work)
	r.abandoned = r.abandoned || isLeft(err)
	return err
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
