package faulty_test

import (
	"bytes"
	"context"
	"errors"
	"math/bits"
	"testing"
	"testing/synctest"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/faulty"
)

const size = 64 << 10

// fill is a device of size bytes, all of them b, and the memory behind it.
func fill(t *testing.T, b byte, rules ...faulty.Rule) (*faulty.Device, *faulty.Memory) {
	t.Helper()
	memory := faulty.NewMemory(size)
	if _, err := memory.WriteAt(bytes.Repeat([]byte{b}, size), 0); err != nil {
		t.Fatal(err)
	}
	plan := faulty.NewPlan(1).Add(rules...)
	t.Log(plan)
	return faulty.Wrap(memory, plan), memory
}

func bytesOf(t *testing.T, dev dataplane.Device, off, n int64) []byte {
	t.Helper()
	p := make([]byte, n)
	if _, err := dev.ReadAt(p, off); err != nil {
		t.Fatal(err)
	}
	return p
}

func put(t *testing.T, dev dataplane.Device, off int64, p []byte) {
	t.Helper()
	if n, err := dev.WriteAt(p, off); n != len(p) || err != nil {
		t.Fatalf("write: %d, %v", n, err)
	}
}

// held counts the bytes of the memory that are b.
func held(t *testing.T, m *faulty.Memory, b byte) int {
	return bytes.Count(bytesOf(t, m, 0, size), []byte{b})
}

func TestFailEachCall(t *testing.T) {
	calls := map[faulty.Op]func(dataplane.Device) error{
		faulty.Read:    func(d dataplane.Device) error { _, err := d.ReadAt(make([]byte, 512), 0); return err },
		faulty.Write:   func(d dataplane.Device) error { _, err := d.WriteAt(make([]byte, 512), 0); return err },
		faulty.Zero:    func(d dataplane.Device) error { return d.ZeroAt(0, 512, dataplane.ZeroMode{}) },
		faulty.Discard: func(d dataplane.Device) error { return d.Discard(0, 512) },
		faulty.Sync:    func(d dataplane.Device) error { return d.Sync() },
		faulty.Size:    func(d dataplane.Device) error { _, err := d.Size(); return err },
		faulty.Close:   func(d dataplane.Device) error { return d.Close() },
		faulty.Extents: func(d dataplane.Device) error {
			return d.Extents(context.Background(), 0, 512, func(dataplane.Extent) error { return nil })
		},
	}
	for op, call := range calls {
		t.Run(op.String(), func(t *testing.T) {
			dev, memory := fill(t, 7, faulty.Rule{Ops: op, Action: faulty.Fail(dataplane.ErrNoSpace)})
			for other, call := range calls {
				if other != op && other&(faulty.Read|faulty.Size|faulty.Sync|faulty.Extents) != 0 {
					if err := call(dev); err != nil {
						t.Errorf("%s: %v", other, err)
					}
				}
			}
			if op != faulty.Close && held(t, memory, 7) != size {
				t.Error("a call touched the device")
			}
			if err := call(dev); !errors.Is(err, dataplane.ErrNoSpace) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestRuleSelects(t *testing.T) {
	tests := []struct {
		name string
		rule faulty.Rule
		want string // of eight reads, of a sector each
	}{
		{"all", faulty.Rule{Ops: faulty.Read}, "xxxxxxxx"},
		{"another call", faulty.Rule{Ops: faulty.Write | faulty.Sync}, "........"},
		{"range", faulty.Rule{Ops: faulty.Read, Offset: 600, Length: 1000}, ".xxx...."},
		{"third", faulty.Rule{Ops: faulty.Read, Nth: 3}, "..x....."},
		{"third in the range", faulty.Rule{Ops: faulty.Read, Nth: 3, Offset: 1024, Length: 1 << 20}, "....x..."},
		{"twice", faulty.Rule{Ops: faulty.Read, Times: 2}, "xx......"},
		{"never", faulty.Rule{Ops: faulty.Read, Probability: 1e-12}, "........"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.rule.Action = faulty.Fail(nil)
			dev, _ := fill(t, 7, tt.rule)
			got := reads(dev, 8)
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// reads makes n reads, of a sector each, and tells how they went.
func reads(dev dataplane.Device, n int64) string {
	got := ""
	for i := range n {
		if _, err := dev.ReadAt(make([]byte, 512), i*512); errors.Is(err, dataplane.ErrIO) {
			got += "x"
		} else {
			got += "."
		}
	}
	return got
}

func TestProbabilityComesFromTheSeed(t *testing.T) {
	run := func(seed uint64) string {
		plan := faulty.NewPlan(seed).Add(faulty.Rule{Ops: faulty.Read, Probability: 0.5, Action: faulty.Fail(nil)})
		return reads(faulty.Wrap(faulty.NewMemory(size), plan), 64)
	}
	if a, b := run(1), run(1); a != b {
		t.Errorf("the same seed gave\n%s and\n%s", a, b)
	}
	if a, b := run(1), run(2); a == b {
		t.Errorf("two seeds gave %s", a)
	}
}

func TestPlanChangesWhileUsed(t *testing.T) {
	var plan faulty.Plan
	dev := faulty.Wrap(faulty.NewMemory(size), &plan)
	before := reads(dev, 2)
	plan.Add(faulty.Rule{Ops: faulty.Read, Probability: 1, Action: faulty.Fail(nil)})
	during, struck := reads(dev, 2), plan.Struck()
	plan.Clear()
	if got := before + during + reads(dev, 2); got != "..xx.." || struck != 2 {
		t.Errorf("got %s, struck %d times", got, struck)
	}
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		until := make(chan struct{})
		dev, _ := fill(t, 7, faulty.Rule{Ops: faulty.Sync | faulty.Extents, Action: faulty.Delay(until)})
		done := make(chan error, 1)
		go func() { done <- dev.Sync() }()
		synctest.Wait()
		if len(done) != 0 {
			t.Fatal("the sync did not wait")
		}
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		err := dev.Extents(ctx, 0, 512, func(dataplane.Extent) error { return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled extents: %v", err)
		}
		close(until)
		if err := <-done; err != nil {
			t.Errorf("sync: %v", err)
		}
	})
}

func TestCloseEndsDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dev, _ := fill(t, 7, faulty.Rule{Ops: faulty.Read, Action: faulty.Delay(make(chan struct{}))},
			faulty.Rule{Ops: faulty.Read, Action: faulty.Fail(nil)})
		done := make(chan error, 1)
		go func() { _, err := dev.ReadAt(make([]byte, 1), 0); done <- err }()
		synctest.Wait()
		if err := dev.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, dataplane.ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}

func TestTear(t *testing.T) {
	dev, memory := fill(t, 1, faulty.Rule{Ops: faulty.Write, Times: 1, Action: faulty.Tear(nil)},
		faulty.Rule{Ops: faulty.Write, Action: faulty.Tear(dataplane.ErrIO)})
	put(t, dev, 0, bytes.Repeat([]byte{2}, 8192))
	n := held(t, memory, 2)
	if n >= 8192 || n%faulty.Sector != 0 || bytes.Count(bytesOf(t, memory, 0, int64(n)), []byte{2}) != n {
		t.Errorf("%d bytes arrived, or not the first ones", n)
	}
	done, err := dev.WriteAt(bytes.Repeat([]byte{3}, 8192), 16384)
	if !errors.Is(err, dataplane.ErrIO) || done != held(t, memory, 3) || done >= 8192 {
		t.Errorf("%d, %v; %d bytes arrived", done, err, held(t, memory, 3))
	}
}

func TestLose(t *testing.T) {
	dev, memory := fill(t, 1, faulty.Rule{Ops: faulty.Write | faulty.Zero | faulty.Discard | faulty.Sync, Action: faulty.Lose()})
	put(t, dev, 0, bytes.Repeat([]byte{2}, 512))
	if err := errors.Join(dev.ZeroAt(512, 512, dataplane.ZeroMode{}), dev.Discard(1024, 512), dev.Sync()); err != nil {
		t.Error(err)
	}
	if held(t, memory, 1) != size {
		t.Error("something arrived")
	}
	if _, err := dev.WriteAt(make([]byte, 2), size-1); !errors.Is(err, dataplane.ErrOutOfRange) {
		t.Errorf("a lost write past the end: %v", err)
	}
}

func TestMisdirect(t *testing.T) {
	for by, want := range map[int64]int64{1024: 5120, -1024: 3072, 1 << 40: size - 512, -1 << 40: 0} {
		dev, memory := fill(t, 1, faulty.Rule{Ops: faulty.Write, Action: faulty.Misdirect(by)})
		put(t, dev, 4096, bytes.Repeat([]byte{2}, 512))
		if held(t, memory, 2) != 512 || bytesOf(t, memory, want, 1)[0] != 2 {
			t.Errorf("by %d: not at %d", by, want)
		}
	}
}

func TestLateAndDuplicate(t *testing.T) {
	for name, action := range map[string]faulty.Action{"late": faulty.Late(), "duplicate": faulty.Duplicate()} {
		t.Run(name, func(t *testing.T) {
			dev, memory := fill(t, 1, faulty.Rule{Ops: faulty.Write, Nth: 1, Action: action})
			p := bytes.Repeat([]byte{2}, 512)
			put(t, dev, 0, p)
			clear(p)
			if now := held(t, memory, 2); now != map[string]int{"late": 0, "duplicate": 512}[name] {
				t.Errorf("%d bytes arrived at first", now)
			}
			put(t, dev, 0, bytes.Repeat([]byte{3}, 1024))
			if held(t, memory, 2) != 512 || held(t, memory, 3) != 512 {
				t.Error("the first write did not land on top of the second")
			}
			put(t, dev, 0, bytes.Repeat([]byte{4}, 512))
			if held(t, memory, 4) != 512 {
				t.Error("the first write landed twice")
			}
		})
	}
}

func TestStale(t *testing.T) {
	dev, _ := fill(t, 1, faulty.Rule{Ops: faulty.Read, Nth: 2, Action: faulty.Stale()})
	put(t, dev, 512, bytes.Repeat([]byte{2}, 1024))
	put(t, dev, 1024, bytes.Repeat([]byte{3}, 100))
	if got := bytesOf(t, dev, 500, 1000); got[0] != 1 || got[12] != 2 || got[524] != 3 {
		t.Error("the first read is not as written")
	}
	got := bytesOf(t, dev, 500, 1000)
	if bytes.Count(got[:524], []byte{1}) != 524 || bytes.Count(got[524:], []byte{2}) != 476 {
		t.Error("the second read is not what was before the last writes")
	}
}

func TestCorrupt(t *testing.T) {
	dev, memory := fill(t, 0, faulty.Rule{Ops: faulty.Read, Nth: 1, Action: faulty.Corrupt()},
		faulty.Rule{Ops: faulty.Write, Nth: 1, Action: faulty.Corrupt()})
	ones := func(p []byte) (n int) {
		for _, b := range p {
			n += bits.OnesCount8(b)
		}
		return n
	}
	if ones(bytesOf(t, dev, 0, size)) != 1 || ones(bytesOf(t, memory, 0, size)) != 0 {
		t.Error("the read is not wrong in one bit, or the memory is wrong too")
	}
	p := make([]byte, 4096)
	put(t, dev, 0, p)
	if ones(p) != 0 || ones(bytesOf(t, memory, 0, size)) != 1 {
		t.Error("not one bit was written wrong, or the caller's buffer was changed")
	}
}

func TestGarbage(t *testing.T) {
	dev, memory := fill(t, 0, faulty.Rule{Ops: faulty.Zero, Action: faulty.Garbage()})
	if err := dev.ZeroAt(512, 20000, dataplane.ZeroMode{}); err != nil {
		t.Fatal(err)
	}
	if zeroes := held(t, memory, 0); zeroes != size-20000 {
		t.Errorf("%d bytes are zero", zeroes)
	}
}

func TestFalseHole(t *testing.T) {
	for _, tt := range []struct{ off, n, zero int64 }{{0, 0, size}, {100, 1000, 1000}, {size - 100, 1000, 100}} {
		dev, _ := fill(t, 1, faulty.Rule{Ops: faulty.Extents, Offset: tt.off, Length: tt.n, Action: faulty.FalseHole()})
		var next, zero int64
		err := dev.Extents(t.Context(), 0, size, func(e dataplane.Extent) error {
			if e.Offset != next {
				t.Errorf("a gap at %d", next)
			}
			if next = e.End(); e.Zero {
				zero += e.Length
			}
			return nil
		})
		if err != nil || next != size || zero != tt.zero {
			t.Errorf("%+v: %v, end %d, zero %d", tt, err, next, zero)
		}
	}
}
