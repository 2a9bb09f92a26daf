package transfer

import (
	"context"
	"errors"
	"time"

	"github.com/cvold/cvold/dataplane"
)

const (
	// MaxRetries bounds Config.Retries: with the pauses it is half a day.
	MaxRetries = 16
	// DefaultRetries is for callers who have no reason for another number: two seconds with a device that fails at once.
	DefaultRetries = 4
	firstPause     = 100 * time.Millisecond
)

// mayPass says whether doing the same again can help: an error of the medium. Not one that ends a device, and not one
// that needs somebody's hand, as a full disk does.
func mayPass(err error) bool {
	return errors.Is(err, dataplane.ErrIO) && !errors.Is(err, dataplane.ErrDisconnected) &&
		!errors.Is(err, dataplane.ErrAbandoned) && !errors.Is(err, dataplane.ErrClosed)
}

// retry does something again while it fails and may pass. Reads, writes and zeroing may be repeated; a flush may not.
func (c *copier) retry(ctx context.Context, do func() error) error {
	pause := firstPause
	for try := 0; ; try++ {
		err := do()
		if err == nil || try == c.Retries || !mayPass(err) {
			return err
		}
		c.Progress.retried()
		c.Logger.Warn("trying again", "error", err, "pause", pause)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		pause *= 2
	}
}
