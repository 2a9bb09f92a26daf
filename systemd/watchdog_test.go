package systemd

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if describeSockets() {
		return
	}
	goleak.VerifyTestMain(m)
}

// patient is a watchdog with counted pings.
type patient struct {
	pings atomic.Int64
	ill   atomic.Bool
	log   bytes.Buffer
}

func (p *patient) healthy(context.Context) error {
	if p.ill.Load() {
		return errors.New("store does not answer")
	}
	return nil
}

func (p *patient) ping() error {
	p.pings.Add(1)
	return nil
}

func (p *patient) start(interval time.Duration) *Watchdog {
	return startWatchdog(interval, p.healthy, p.ping, slog.New(slog.NewTextHandler(&p.log, nil)))
}

func TestWatchdogPingsTwiceAnInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p patient
		w := p.start(30 * time.Second)
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if got := p.pings.Load(); got != 5 { // at 0, 15, 30, 45 and 60 s
			t.Errorf("%d pings", got)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		if err := w.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
		if p.log.Len() > 0 || w.Interval() != 30*time.Second {
			t.Errorf("interval %v, log %q", w.Interval(), &p.log)
		}
	})
}

func TestWatchdogIsSilentWhenIll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p patient
		p.ill.Store(true)
		w := p.start(30 * time.Second)
		time.Sleep(16 * time.Second)
		synctest.Wait()
		if p.pings.Load() != 0 || strings.Count(p.log.String(), "store does not answer") != 2 {
			t.Errorf("%d pings, log %q", p.pings.Load(), &p.log)
		}
		p.ill.Store(false)
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if got := p.pings.Load(); got != 1 {
			t.Errorf("%d pings after recovery", got)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestWatchdogLimitsTheCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p patient
		var waited time.Duration
		check := func(ctx context.Context) error {
			start := time.Now()
			<-ctx.Done()
			waited = time.Since(start)
			return ctx.Err()
		}
		w := startWatchdog(30*time.Second, check, p.ping, slog.New(slog.DiscardHandler))
		time.Sleep(16 * time.Second)
		synctest.Wait()
		if waited != 15*time.Second || p.pings.Load() != 0 {
			t.Errorf("the check had %v, %d pings", waited, p.pings.Load())
		}
		if err := w.Close(); err != nil { // during the second check
			t.Error(err)
		}
	})
}

func TestWatchdogCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		check := func(context.Context) error { <-release; return nil }
		w := startWatchdog(30*time.Second, check, func() error { return nil }, slog.New(slog.DiscardHandler))
		synctest.Wait()
		start := time.Now()
		if err := w.Close(); !errors.Is(err, ErrHanging) || time.Since(start) != closeTimeout {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		close(release)
		if err := w.Close(); err != nil {
			t.Errorf("Close after the check ended: %v", err)
		}
	})
}

func TestWatchdogOfTheManager(t *testing.T) {
	m := newManager(t)
	t.Setenv("WATCHDOG_USEC", "200000")
	t.Setenv("WATCHDOG_PID", "")
	w, err := StartWatchdog(func(context.Context) error { return nil }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := m.next(); got != "WATCHDOG=1" {
			t.Errorf("got %q", got)
		}
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

func TestWatchdogWithoutManager(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "")
	never := func(context.Context) error { t.Error("health was asked"); return nil }
	w, err := StartWatchdog(never, slog.New(slog.DiscardHandler))
	if err != nil || w.Interval() != 0 {
		t.Fatalf("interval %v, %v", w.Interval(), err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

func TestWatchdogBadEnvironment(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "soon")
	if _, err := StartWatchdog(nil, nil); err == nil || !strings.HasPrefix(err.Error(), "read watchdog interval: ") {
		t.Errorf("got %v", err)
	}
}
