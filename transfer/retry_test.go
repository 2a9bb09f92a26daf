package transfer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cvold/cvold/dataplane"
)

// Only what an error of the medium is may pass; what ends a device, or needs a hand, is said at once.
func TestMayPass(t *testing.T) {
	for err, want := range map[error]bool{
		dataplane.ErrIO:           true,
		dataplane.ErrDisconnected: false,
		dataplane.ErrAbandoned:    false,
		dataplane.ErrClosed:       false,
		dataplane.ErrNoSpace:      false,
		dataplane.ErrReadOnly:     false,
		dataplane.ErrOutOfRange:   false,
		dataplane.ErrNotSupported: false,
		context.Canceled:          false,
		errors.New("else"):        false,
	} {
		if got := mayPass(&DeviceError{Err: fmt.Errorf("wrapped: %w", err)}); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
}

// failTimes makes the first so many calls of op fail.
func failTimes(op string, times int64, err error) (hook func(string, int64, int64, []byte) error, calls *atomic.Int64) {
	calls = new(atomic.Int64)
	return func(got string, _, _ int64, _ []byte) error {
		if got == op && calls.Add(1) <= times {
			return err
		}
		return nil
	}, calls
}

// Each failure is followed by a pause twice as long as the one before; after the last retry the error is the device's.
func TestRetryPauses(t *testing.T) {
	for _, op := range []string{"read", "write", "zero"} {
		for failures := int64(0); failures <= 6; failures++ {
			synctest.Test(t, func(t *testing.T) {
				const retries = 5
				source, target := newMemory(t, 4096), newMemory(t, 4096)
				if op != "zero" {
					source.fill(0, 4096, 1)
				}
				target.fill(0, 4096, 2)
				c, _ := create(t, small(4096))
				conf := config(c, target)
				conf.Retries = retries
				hook, calls := failTimes(op, failures, dataplane.ErrIO)
				source.hook, target.hook = hook, hook
				start := time.Now()
				err := Copy(t.Context(), source, target, conf)
				tries := min(failures, retries)
				if want := (1<<tries - 1) * firstPause; time.Since(start) != want {
					t.Errorf("%d failures of %s: %v, want %v", failures, op, time.Since(start), want)
				}
				if n := conf.Progress.Snapshot().Retries; n != tries || calls.Load() != tries+1 {
					t.Errorf("%d failures of %s: %d retries counted, %d calls", failures, op, n, calls.Load())
				}
				if failures <= retries {
					if err != nil {
						t.Fatal(err)
					}
					mustBeCopied(t, source, target, c)
					return
				}
				device := map[string]string{"read": "source"}[op]
				if device == "" {
					device = "target"
				}
				mustBeDeviceError(t, err, device, op, dataplane.ErrIO)
			})
		}
	}
}

// A flush, and the extents, are never asked for again: what a flush that failed has lost is not known.
func TestRetryNever(t *testing.T) {
	for _, op := range []string{"sync", "extents"} {
		source, target, _, _, conf := faultPair(t)
		conf.Retries = MaxRetries
		hook, fired := failAt(op, 1, dataplane.ErrIO)
		source.hook, target.hook = hook, hook
		if err := Copy(t.Context(), source, target, conf); !errors.Is(err, dataplane.ErrIO) || !fired.Load() {
			t.Errorf("%s: %v", op, err)
		}
		if n := conf.Progress.Snapshot().Retries; n != 0 {
			t.Errorf("%s: %d retries", op, n)
		}
	}
}

// Cancelled inside a pause, Copy ends at once.
func TestRetryCancelled(t *testing.T) {
	for _, op := range []string{"read", "write", "zero"} {
		synctest.Test(t, func(t *testing.T) {
			source, target, _, _, conf := faultPair(t)
			conf.Retries = MaxRetries
			hook, _ := failTimes(op, 1<<30, dataplane.ErrIO)
			source.hook, target.hook = hook, hook
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute+time.Millisecond)
			defer cancel()
			start := time.Now()
			if err := Copy(ctx, source, target, conf); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", op, err)
			}
			if time.Since(start) != time.Minute+time.Millisecond {
				t.Errorf("%s: ended after %v", op, time.Since(start))
			}
		})
	}
}
