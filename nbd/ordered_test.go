package nbd

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/drivertest"
	"github.com/cvold/cvold/dataplane/faulty"
)

func TestOrderedDevice(t *testing.T) {
	drivertest.Device(t, func(t *testing.T, size int64) dataplane.Device { return inOrder(faulty.NewMemory(size)) })
}

// TestOrdered: changes that overlap wait for each other in the order of their coming, others do not, and reads never.
func TestOrdered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(1 << 20)
		hold := make(chan struct{})
		m.hook = func(call string, off, n int64) error {
			if off == 4096 && call == "write" {
				<-hold
			}
			return nil
		}
		d := inOrder(m)
		var all sync.WaitGroup
		do := func(call func() error) {
			all.Go(func() {
				if err := call(); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		write := func(off, n int) func() error {
			return func() error { _, err := d.WriteAt(make([]byte, n), int64(off)); return err }
		}
		do(write(4096, 4096))                                                      // is held
		do(func() error { return d.Discard(8191, 10) })                            // waits for it
		do(func() error { return d.ZeroAt(8192, 4096, dataplane.ZeroMode{}) })     // waits for the discard
		do(write(0, 4096))                                                         // overlaps nothing
		do(func() error { return d.Discard(1<<20, 0) })                            // nor does this
		do(func() error { _, err := d.ReadAt(make([]byte, 8192), 0); return err }) // reads do not wait
		want := []string{"write", "write", "discard", "read"}
		if got := m.calls; !slices.Equal(got, want) {
			t.Errorf("while a write is held: %v, want %v", got, want)
		}
		close(hold)
		all.Wait()
		want = append(want, "discard", "zero unmap=false fast=false")
		if got := m.calls; !slices.Equal(got, want) {
			t.Errorf("in all: %v, want %v", got, want)
		}
		if len(d.spans) != 0 {
			t.Errorf("%d spans are left", len(d.spans))
		}
	})
}
