package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestCallsThatHang: a call that hangs while the agent is closed leaves the other parts their time.
func TestCallsThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &Agent{stop: func() {}}
		var left time.Duration
		a.onClose("volumes", func(ctx context.Context) error {
			deadline, _ := ctx.Deadline()
			left = time.Until(deadline)
			return ctx.Err()
		})
		a.onCloseCalls("API", func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		if err := a.Close(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close: %v", err)
		}
		if left != closeWait-callsWait {
			t.Errorf("%v are left for the volumes", left)
		}
	})
}
