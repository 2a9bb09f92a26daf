package transfer

import (
	"context"
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cvold/cvold/dataplane"
)

// asked notes what a verifier is asked for.
type asked struct {
	Verifier
	runs []Run
}

func (v *asked) Digests(ctx context.Context, first, count int64) ([]Run, error) {
	v.runs = append(v.runs, Run{First: first, Count: count})
	return v.Verifier.Digests(ctx, first, count)
}

// Property: of what the checkpoint holds, in whatever intervals, exactly the chunks that the medium holds no more are taken out,
// durably; each is asked for once, and nothing else. A copy makes them good.
func TestRecheckProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.Int64Range(0, 500).Draw(rt, "sectors") * 512
		source, target := newMemory(t, size), newMemory(t, size)
		source.fill(0, size/2/512*512, 1)
		c, path := create(t, small(size))
		conf := config(c, target)
		conf.batch = rapid.Int64Range(1, 20).Draw(rt, "batch")
		if err := Copy(context.Background(), source, target, conf); err != nil {
			rt.Fatal(err)
		}
		g := c.Header().Geometry
		held := make([]bool, g.Chunks())
		for i := range held {
			held[i] = true
		}
		for range rapid.IntRange(0, 5).Draw(rt, "gaps") {
			first := rapid.Int64Range(0, g.Chunks()).Draw(rt, "first")
			count := rapid.Int64Range(0, min(g.Chunks()-first, 9)).Draw(rt, "count")
			if err := c.Invalidate(first, count); err != nil {
				rt.Fatal(err)
			}
			for i := first; i < first+count; i++ {
				held[i] = false
			}
		}
		changed := int64(0)
		for i := range g.Chunks() {
			if !rapid.Bool().Draw(rt, "changed") {
				continue
			}
			off, n := g.Range(i)
			target.durable[off+n-1] ^= 1
			if held[i] {
				changed += n
			}
			held[i] = false
		}
		asked := &asked{Verifier: conf.Verifier}
		before, progress := c.VerifiedBytes(), new(Progress)
		if moved, err := Recheck(context.Background(), asked, c, progress); err != nil || moved != changed {
			rt.Fatalf("%v: %d bytes differ, want %d", err, moved, changed)
		}
		bytes, next := int64(0), int64(0)
		for _, r := range asked.runs {
			if r.First < next || r.Count < 1 {
				rt.Fatalf("asked for %v", asked.runs)
			}
			bytes, next = bytes+g.Bytes(r.First, r.Count), r.End()
		}
		if s := progress.Snapshot(); bytes != before || s.RecheckedBytes != before || s.Phase != PhaseRechecking {
			rt.Fatalf("asked for %d bytes of %d, progress %+v", bytes, before, s)
		}
		c = reopen(t, c, path)
		for i, want := range held {
			if c.Verified(int64(i)) != want {
				rt.Fatalf("chunk %d: verified %v", i, !want)
			}
		}
		copy(target.data, target.durable)
		if err := Copy(context.Background(), source, target, config(c, target)); err != nil {
			rt.Fatal(err)
		}
		mustBeCopied(t, source, target, c)
	})
}

// Chunks that differ side by side are one record: a target that was replaced does not fill the checkpoint's disk.
func TestRecheckInStretches(t *testing.T) {
	const chunks = 3 * recheckChunks
	source, target := newMemory(t, chunks*4096), newMemory(t, chunks*4096)
	source.fill(0, chunks*4096, 1)
	c, _ := create(t, small(chunks*4096))
	if err := Copy(t.Context(), source, target, config(c, target)); err != nil {
		t.Fatal(err)
	}
	clear(target.durable)
	source.data[0] ^= 1
	before := c.size()
	moved, err := Recheck(t.Context(), config(c, target).Verifier, c, nil)
	if err != nil || moved != chunks*4096 || c.VerifiedBytes() != 0 {
		t.Errorf("%v, %d bytes differ, %d are left", err, moved, c.VerifiedBytes())
	}
	if appends := (c.size() - before) / sector; appends > 2*chunks/recheckChunks {
		t.Errorf("%d appends", appends)
	}
}

// 16 TiB of holes are rechecked in a moment.
func TestRecheckHuge(t *testing.T) {
	g := NewGeometry(16 << 40)
	if raceEnabled || testing.Short() {
		g = NewGeometry(1 << 40)
	}
	target := newHuge(t, g)
	c, err := NewVolatileCheckpoint(t.TempDir(), testHeader(g))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for first := int64(0); first < g.Chunks(); first += 1 << 20 {
		if err := c.Append([]Run{{First: first, Count: 1 << 20, Zero: true}}); err != nil {
			t.Fatal(err)
		}
	}
	target.set(5, 1)
	target.set(g.Chunks()-1, 1)
	began := time.Now()
	if moved, err := Recheck(t.Context(), target, c, nil); err != nil || moved != 2*g.ChunkSize {
		t.Errorf("%v, %d bytes differ", err, moved)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %v", took)
	}
	if first, end := c.gap(0); first != 5 || end != 6 {
		t.Errorf("gap from %d to %d", first, end)
	}
}

// What was found before an error is taken out; nonsense of a verifier, and a checkpoint that is damaged or full, are errors.
func TestRecheckErrors(t *testing.T) {
	const chunks = 3 * recheckChunks
	g := small(chunks * 4096)
	fresh := func() (*memory, *Checkpoint, Verifier) {
		target := newMemory(t, chunks*4096)
		c, _ := create(t, g)
		if err := c.Append([]Run{{First: 0, Count: chunks, Zero: true}}); err != nil {
			t.Fatal(err)
		}
		target.durable[0] = 1
		return target, c, NewVerifier(medium{target}, g)
	}
	broken := errors.New("broken")
	for name, late := range map[string]func() ([]Run, error){
		"error": func() ([]Run, error) { return nil, broken },
		"none":  func() ([]Run, error) { return nil, nil },
		"wrong": func() ([]Run, error) { return []Run{{First: 0, Count: recheckChunks, Zero: true}}, nil },
	} {
		_, c, v := fresh()
		moved, err := Recheck(t.Context(), verifierFunc(func(ctx context.Context, first, count int64) ([]Run, error) {
			if first > 0 {
				return late()
			}
			return v.Digests(ctx, first, count)
		}), c, nil)
		if err == nil || !errors.Is(err, broken) && !errors.Is(err, ErrOrder) || moved != 4096 || c.Verified(0) {
			t.Errorf("%s: %v, %d bytes differ", name, err, moved)
		}
	}
	_, c, v := fresh()
	c.sync = fullDisk
	if _, err := Recheck(t.Context(), v, c, nil); err == nil {
		t.Error("differences that cannot be recorded")
	}
	_, c, v = fresh()
	if _, err := c.file.WriteAt([]byte{1, 2, 3}, checkpointHeadSize+appendHeadSize+20); err != nil {
		t.Fatal(err)
	}
	if _, err := Recheck(t.Context(), v, c, nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("damaged checkpoint: %v", err)
	}
	target, c, _ := fresh()
	target.hook, _ = failAt("read", 1, dataplane.ErrIO)
	target.hole = 0
	var device *DeviceError
	if _, err := Recheck(t.Context(), NewVerifier(target, g), c, nil); !errors.As(err, &device) || device.Op != "read" {
		t.Errorf("read: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, c, v = fresh()
	if _, err := Recheck(ctx, v, c, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A checkpoint that holds nothing is nothing to ask for.
func TestRecheckNothing(t *testing.T) {
	for _, size := range []int64{0, 4096} {
		c, _ := create(t, small(size))
		asked := &asked{}
		if moved, err := Recheck(t.Context(), asked, c, nil); err != nil || moved != 0 || len(asked.runs) != 0 {
			t.Errorf("%v, %d bytes, asked for %v", err, moved, asked.runs)
		}
	}
}
