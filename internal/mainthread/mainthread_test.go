package mainthread

import (
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// What runs is on other threads, however many of them are in calls.
func TestRun(t *testing.T) {
	const threads = 16
	code := Run(func() int {
		var inside, group sync.WaitGroup
		inside.Add(threads)
		for range threads {
			group.Go(func() {
				if unix.Gettid() == os.Getpid() {
					t.Error("on the main thread")
				}
				inside.Done()
				inside.Wait()
			})
		}
		group.Wait()
		return 7
	})
	if code != 7 {
		t.Errorf("exit code %d", code)
	}
}
