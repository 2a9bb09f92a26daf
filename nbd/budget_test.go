package nbd

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

const mebi = 1 << 20

// TestBudgetLeavesRoom: connections that hold on to what they got leave an equal share to the next one.
func TestBudgetLeavesRoom(t *testing.T) {
	b := newBudget(64 * mebi)
	for n, want := range []int64{32, 16, 8, 4} {
		a := b.allow(64 * mebi)
		got := int64(0)
		for a.may(mebi, false) {
			a.hold(mebi)
			got++
		}
		if got != want {
			t.Errorf("connection %d got %d MiB, want %d", n, got, want)
		}
	}
	for range 100 {
		if !b.allow(mebi).try(guaranteed) {
			t.Error("a connection with nothing has to wait for its first request")
		}
	}
}

// TestBudgetWakesTheStarving: a large first request gets its room although smaller ones keep coming.
func TestBudgetWakesTheStarving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(64 * mebi)
		busy, large := b.allow(64*mebi), b.allow(64*mebi)
		for range 20 {
			if !busy.try(mebi) {
				t.Fatal("no room at the beginning")
			}
		}
		granted := false
		go func() {
			granted = large.try(60*mebi) || large.wait(t.Context(), 60*mebi) == nil
		}()
		synctest.Wait()
		if granted || busy.may(mebi, b.starving()) {
			t.Error("somebody gets room that a starving connection waits for")
		}
		for range 20 {
			busy.give(mebi)
		}
		synctest.Wait()
		if !granted || b.inUse() != 60*mebi {
			t.Errorf("granted %v, %d in use", granted, b.inUse())
		}
	})
}

func TestBudgetGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(8 * mebi)
		holder, waiter := b.allow(8*mebi), b.allow(8*mebi)
		if !holder.try(8*mebi) || waiter.try(2*mebi) {
			t.Fatal("not as set up")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := waiter.wait(ctx, 2*mebi); err == nil {
			t.Error("it was granted")
		}
		holder.give(8 * mebi)
		if b.inUse() != 0 || len(b.waiting) != 0 {
			t.Errorf("%d in use, %d wait", b.inUse(), len(b.waiting))
		}
	})
}

// TestBudgetProperty: whatever connections do, all ends, the sum is right, and what exceeds the total is guaranteed only.
func TestBudgetProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const connections = 6
		b := newBudget(4 * mebi)
		sizes := rapid.SliceOfN(rapid.Int64Range(1, 4*mebi), 1, 40).Draw(t, "sizes")
		var all sync.WaitGroup
		for range connections {
			a := b.allow(4 * mebi)
			all.Go(func() {
				for _, n := range sizes {
					if !a.try(n) && a.wait(context.Background(), n) != nil {
						return
					}
					if b.inUse() > 4*mebi+connections*guaranteed {
						panic("more than the total and what is guaranteed")
					}
					a.give(n)
				}
			})
		}
		all.Wait()
		if b.inUse() != 0 {
			t.Fatalf("%d are still held", b.inUse())
		}
	})
}

// TestLateRequestPassesTheTurn: a device that was fast hangs on one request, and the others of the connection go on.
func TestLateRequestPassesTheTurn(t *testing.T) {
	device := newMemory(1 << 20)
	_, o := serveOne(t, device)
	c := opened(t, o)
	for range 10 {
		c.request(header(cmdRead, 0, 0, 512)) // fast: the turn is kept
	}
	hang := make(chan struct{})
	device.setHook(on("write", func() error { <-hang; return nil }))
	slow := header(cmdWrite, 0, 0, 512)
	slow.Handle = 1
	c.sendRequest(slow)
	for range 10 {
		if code := c.request(header(cmdRead, 0, 0, 512)); code != 0 { // 42 comes before 1
			t.Errorf("a read beside it is answered with %d", code)
		}
	}
	close(hang)
	if code := c.reply(slow); code != 0 {
		t.Errorf("it is answered with %d", code)
	}
}
