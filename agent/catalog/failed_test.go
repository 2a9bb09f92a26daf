package catalog

import (
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// breakFile puts a descriptor that cannot be written behind the store's file.
func breakFile(t *testing.T, b *Bolt) {
	t.Helper()
	f, err := os.Open(b.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Dup3(int(f.Fd()), int(b.file.Fd()), unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
}

// TestCommitFails: after a commit of which nobody knows whether it is durable the store answers nothing, and opened
// anew it has what was acknowledged.
func TestCommitFails(t *testing.T) {
	path := storePath(t)
	b := openBolt(t, path, BoltOptions{})
	if err := putText(b, "a", "1"); err != nil {
		t.Fatal(err)
	}
	breakFile(t, b)
	if err := putText(b, "a", "2"); !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), path) {
		t.Errorf("the commit that fails: %v, want ErrFailed with the file", err)
	}
	never := func(Tx) error { t.Error("fn ran"); return nil }
	_, leaseErr := b.Acquire(t.Context(), "a")
	for name, err := range map[string]error{
		"Update": b.Update(never), "View": b.View(never), "Acquire": leaseErr, "Room": b.Room(),
		"ClearRestored": b.ClearRestored(),
	} {
		if !errors.Is(err, ErrFailed) {
			t.Errorf("%s afterwards: %v, want ErrFailed", name, err)
		}
	}
	if b.Stats().Failures != 1 {
		t.Errorf("stats %+v", b.Stats())
	}
	closeBolt(t, b)
	b = openBolt(t, path, BoltOptions{})
	all, err := texts(b)
	if err != nil || all["volumes/a"] != "1" {
		t.Errorf("opened anew: %v, error %v", all, err)
	}
}

// TestViewWaitsForSync: a View that begins while a commit becomes durable waits for it, for bbolt's new state is in
// sight before it is on the medium.
func TestViewWaitsForSync(t *testing.T) {
	b := openBolt(t, storePath(t), BoltOptions{})
	var synced atomic.Bool
	b.syncing.Lock()
	done := make(chan error)
	go func() {
		done <- b.View(func(Tx) error {
			if !synced.Load() {
				t.Error("the View did not wait")
			}
			return nil
		})
	}()
	synced.Store(true)
	b.syncing.Unlock()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

type observed []float64

func (o *observed) Observe(seconds float64) { *o = append(*o, seconds) }

func TestCounts(t *testing.T) {
	var seconds observed
	b := openBolt(t, storePath(t), BoltOptions{CommitDuration: &seconds})
	if err := errors.Join(putText(b, "a", "1"), b.Update(func(Tx) error { return nil })); err != nil {
		t.Fatal(err)
	}
	if _, err := texts(b); err != nil {
		t.Fatal(err)
	}
	s := b.Stats()
	if s.Commits != 2 || s.Views != 1 || s.Failures != 0 || len(seconds) != 2 {
		t.Errorf("stats %+v, %d durations; want 2 commits, opening and one more, and 1 view", s, len(seconds))
	}
	if b.Path() == "" || b.Created().IsZero() {
		t.Error("path or time of making is missing")
	}
}
