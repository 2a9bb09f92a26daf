package volume

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestLocksExclude(t *testing.T) {
	var l locks
	var group sync.WaitGroup
	counts := map[string]*int{"a": new(int), "b": new(int)}
	for key, count := range counts {
		for range 50 {
			group.Go(func() {
				unlock, err := l.lock(t.Context(), key)
				if err != nil {
					t.Error(err)
					return
				}
				*count++ // the race detector watches
				unlock()
			})
		}
	}
	group.Wait()
	if *counts["a"] != 50 || *counts["b"] != 50 {
		t.Errorf("counts %d and %d", *counts["a"], *counts["b"])
	}
	if len(l.keys) != 0 {
		t.Errorf("%d locks are left", len(l.keys))
	}
}

func TestLockWaitEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l locks
		unlock, err := l.lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := l.lock(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		other, err := l.lock(t.Context(), "b")
		if err != nil {
			t.Errorf("another key waits: %v", err)
		}
		other()
		unlock()
		if len(l.keys) != 0 {
			t.Errorf("%d locks are left", len(l.keys))
		}
	})
}
