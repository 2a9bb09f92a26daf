package systemd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// closeTimeout bounds how long Close waits for a health check that does not end when its context does.
const closeTimeout = 5 * time.Second

// ErrHanging: the health check did not return in time; it was left behind.
var ErrHanging = errors.New("health check hangs")

// Watchdog tells the service manager that the daemon is alive, as long as it is healthy. When it stays silent for
// WatchdogSec= of the unit, the service manager ends the daemon and starts it again.
type Watchdog struct {
	interval time.Duration
	cancel   context.CancelFunc
	done     chan struct{}
}

// StartWatchdog asks healthy at half the interval that the service manager set, and pings when it returns nil; an error is
// logged, and withheld pings are what makes the service manager act. healthy has until the next ping to answer: its context
// ends then. While it hangs, no ping is sent. Without a watchdog in the environment healthy is never called. The caller
// closes the Watchdog. An error means that the environment makes no sense.
func StartWatchdog(healthy func(context.Context) error, logger *slog.Logger) (*Watchdog, error) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return nil, fmt.Errorf("read watchdog interval: %w", err)
	}
	ping := func() error { return notify(daemon.SdNotifyWatchdog) }
	return startWatchdog(interval, healthy, ping, logger), nil
}

func startWatchdog(interval time.Duration, healthy func(context.Context) error, ping func() error, logger *slog.Logger) *Watchdog {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Watchdog{interval: interval, cancel: cancel, done: make(chan struct{})}
	if interval == 0 {
		close(w.done)
		return w
	}
	go w.run(ctx, healthy, ping, logger)
	return w
}

// Interval is what the service manager set: the longest silence it allows; 0 if it does not watch.
func (w *Watchdog) Interval() time.Duration { return w.interval }

// Close ends the pings and waits for the last health check, 5 seconds at most: ErrHanging. It may be called twice.
func (w *Watchdog) Close() error {
	w.cancel()
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-w.done:
		return nil
	case <-timer.C:
		return fmt.Errorf("close watchdog: %w", ErrHanging)
	}
}

func (w *Watchdog) run(ctx context.Context, healthy func(context.Context) error, ping func() error, logger *slog.Logger) {
	defer close(w.done)
	ticker := time.NewTicker(w.interval / 2)
	defer ticker.Stop()
	for {
		if err := w.check(ctx, healthy, ping); err != nil && ctx.Err() == nil {
			logger.Error("no ping for the watchdog", "error", err, "interval", w.interval)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (w *Watchdog) check(ctx context.Context, healthy func(context.Context) error, ping func() error) error {
	ctx, cancel := context.WithTimeout(ctx, w.interval/2)
	defer cancel()
	if err := healthy(ctx); err != nil {
		return err
	}
	return ping()
}
