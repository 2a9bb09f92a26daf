package catalogtest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cvold/cvold/agent/catalog"
)

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// waitClosed waits until the channel is closed; tokens before that do not count.
func waitClosed(t *testing.T, what string, ch <-chan struct{}) {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case _, ok := <-ch:
			if !ok {
				return
			}
		case <-timeout:
			t.Fatalf("%s is not closed", what)
		}
	}
}

func waitToken(t *testing.T, ch <-chan struct{}) {
	t.Helper()
	select {
	case _, ok := <-ch:
		if !ok {
			t.Fatal("the watch is closed")
		}
	case <-time.After(patience):
		t.Fatal("no token after an Update")
	}
}

func testWatch(t *testing.T, open Open) {
	store := fresh(t, open)
	first, second := store.Watch(t.Context()), store.Watch(t.Context())
	for range 3 {
		put(t, store, "a", "1")
	}
	waitToken(t, first)
	waitToken(t, second)
	_ = store.Update(func(tx catalog.Tx) error { return errors.Join(tx.Put(table, "a", nil), errors.New("no")) })
	_ = store.Update(func(tx catalog.Tx) error { return tx.Delete(table, "nothing") })
	select {
	case <-first:
		t.Error("a second token, without a commit since the first")
	default:
	}
	put(t, store, "a", "2")
	waitToken(t, first)
	waitToken(t, second)
}

func testWatchEnds(t *testing.T, open Open) {
	store := fresh(t, open)
	ctx, cancel := context.WithCancel(t.Context())
	ended, kept := store.Watch(ctx), store.Watch(t.Context())
	cancel()
	waitClosed(t, "the watch whose ctx ended", ended)
	put(t, store, "a", "1")
	waitToken(t, kept)
	waitClosed(t, "a watch with a ctx that was over", store.Watch(ctx))
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	waitClosed(t, "the watch of a closed store", kept)
}

func testClosed(t *testing.T, open Open) {
	store := fresh(t, open)
	id := store.ID()
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	never := func(catalog.Tx) error { t.Error("fn ran"); return nil }
	for name, err := range map[string]error{
		"View": store.View(never), "Update": store.Update(never), "Close": store.Close(),
	} {
		if !errors.Is(err, catalog.ErrClosed) {
			t.Errorf("%s after Close: %v, want ErrClosed", name, err)
		}
	}
	waitClosed(t, "a watch begun after Close", store.Watch(t.Context()))
	if leaser, ok := store.(catalog.Leaser); ok {
		if _, err := leaser.Acquire(t.Context(), "a"); !errors.Is(err, catalog.ErrClosed) {
			t.Errorf("Acquire after Close: %v, want ErrClosed", err)
		}
	}
	if store.ID() != id {
		t.Error("the id is gone after Close")
	}
}
