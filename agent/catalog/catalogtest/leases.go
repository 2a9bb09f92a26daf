package catalogtest

import (
	"context"
	"errors"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
)

// leaser opens a store in dir that is a Leaser too.
func leaser(t *testing.T, open Open, dir string) (catalog.Store, catalog.Leaser) {
	t.Helper()
	store := open(t, dir)
	t.Cleanup(func() { _ = store.Close() })
	l, ok := store.(catalog.Leaser)
	if !ok {
		t.Skip("the store is no Leaser")
	}
	return store, l
}

func acquire(t *testing.T, l catalog.Leaser, name string) catalog.Lease {
	t.Helper()
	lease, err := l.Acquire(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return lease
}

func testLease(t *testing.T, open Open) {
	_, l := leaser(t, open, t.TempDir())
	a, b := acquire(t, l, "a"), acquire(t, l, "b")
	if a.Token() == b.Token() {
		t.Error("two leases have one token")
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Acquire(over, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("Acquire of what is held, with a ctx that is over: %v", err)
	}
	if _, err := l.Acquire(t.Context(), "a\n"); !errors.Is(err, catalog.ErrInvalid) {
		t.Errorf("Acquire of a name that is none: %v, want ErrInvalid", err)
	}
	got := make(chan catalog.Lease)
	go func() {
		next, _ := l.Acquire(t.Context(), "a")
		got <- next
	}()
	select {
	case <-a.Done():
		t.Error("the lease is over before Release")
	case <-got:
		t.Error("granted twice")
	default:
	}
	if err := a.Release(); err != nil {
		t.Fatal(err)
	}
	waitClosed(t, "Done of a released lease", a.Done())
	next := <-got
	if err := a.Release(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-next.Done():
		t.Error("the second Release of one lease ended the next")
	default:
	}
}

func testLeaseEnds(t *testing.T, open Open) {
	store, l := leaser(t, open, t.TempDir())
	lease := acquire(t, l, "a")
	waits := make(chan error)
	go func() {
		_, err := l.Acquire(t.Context(), "a")
		waits <- err
	}()
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	waitClosed(t, "Done of a lease when the store is closed", lease.Done())
	if err := <-waits; !errors.Is(err, catalog.ErrClosed) {
		t.Errorf("who waited for the lease got %v, want ErrClosed", err)
	}
	if err := lease.Release(); err != nil {
		t.Errorf("Release after Close: %v", err)
	}
}

func testLeaseTokens(t *testing.T, open Open) {
	dir, last := t.TempDir(), uint64(0)
	for range 3 {
		store, l := leaser(t, open, dir)
		for _, name := range []string{"a", "b", "a"} {
			lease := acquire(t, l, name)
			if lease.Token() <= last {
				t.Errorf("token %d after %d", lease.Token(), last)
			}
			last = lease.Token()
			_ = lease.Release()
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
