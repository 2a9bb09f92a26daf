package nbd

import (
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// TestOrder: changes that overlap wait for each other in the order of their coming, others do not.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o order
		var all sync.WaitGroup
		var mu sync.Mutex
		var begun []int
		hold := make(chan struct{})
		for i, s := range []struct{ off, n uint64 }{
			{4096, 4096},    // is held
			{8191, 10},      // waits for it
			{8192, 4096},    // waits for the second
			{0, 4096},       // overlaps nothing
			{1 << 20, 4096}, // nor does this
			{4096, 0},       // nor an empty one
		} {
			all.Go(func() {
				span := o.begin(s.off, s.n)
				defer o.end(span)
				mu.Lock()
				begun = append(begun, i)
				mu.Unlock()
				if i == 0 {
					<-hold
				}
			})
			synctest.Wait()
		}
		if want := []int{0, 3, 4, 5}; !slices.Equal(begun, want) {
			t.Errorf("while the first is held %v have begun, want %v", begun, want)
		}
		close(hold)
		all.Wait()
		if want := []int{0, 3, 4, 5, 1, 2}; !slices.Equal(begun, want) {
			t.Errorf("in all %v, want %v", begun, want)
		}
		if len(o.spans) != 0 {
			t.Errorf("%d spans are left", len(o.spans))
		}
	})
}

// TestHungUp: an end is seen though there is still something to read.
func TestHungUp(t *testing.T) {
	for name, end := range map[string]func(*net.UnixConn) error{
		"close":    func(c *net.UnixConn) error { return c.Close() },
		"shutdown": func(c *net.UnixConn) error { return c.CloseWrite() },
	} {
		ours, their, err := socketPair()
		if err != nil {
			t.Fatal(err)
		}
		defer ours.Close()
		other, err := net.FileConn(their)
		their.Close()
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if _, err := other.Write([]byte("request")); err != nil {
			t.Fatal(err)
		}
		if hungUp(ours.(*net.UnixConn)) {
			t.Errorf("%s: hung up before", name)
		}
		if err := end(other.(*net.UnixConn)); err != nil {
			t.Fatal(err)
		}
		if !hungUp(ours.(*net.UnixConn)) {
			t.Errorf("%s: not hung up", name)
		}
	}
}
