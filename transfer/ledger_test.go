package transfer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Property: a ledger that forgets gives the answers of a checkpoint, and both those of a naive bitmap.
func TestLedgerProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		g := small(rapid.Int64Range(0, 100*4096).Draw(rt, "size"))
		checkpoint, _ := create(t, g)
		ledgers := map[string]ledger{"checkpoint": checkpoint, "forgetful": &forgetful{geometry: g}}
		naive := make([]bool, g.Chunks())
		for range rapid.IntRange(0, 20).Draw(rt, "steps") {
			first := rapid.Int64Range(0, g.Chunks()).Draw(rt, "first")
			count := rapid.Int64Range(0, min(g.Chunks()-first, 30)).Draw(rt, "count")
			verified := rapid.Bool().Draw(rt, "verified")
			for name, l := range ledgers {
				var err error
				if verified {
					err = l.Append(stretch(first, count))
				} else {
					err = l.Invalidate(first, count)
				}
				if err != nil {
					rt.Fatalf("%s: %v", name, err)
				}
			}
			for i := first; i < first+count; i++ {
				naive[i] = verified
			}
		}
		for name, l := range ledgers {
			mustAnswer(rt, name, l, g, naive)
		}
	})
}

// stretch is the count chunks from first: the first half of them one run, the others a run each.
func stretch(first, count int64) (runs []Run) {
	if half := count / 2; half > 0 {
		runs = append(runs, Run{First: first, Count: half, Zero: true})
	}
	for i := first + count/2; i < first+count; i++ {
		runs = append(runs, Run{First: i, Count: 1, Digests: []Digest{{byte(i)}}})
	}
	return runs
}

func mustAnswer(rt *rapid.T, name string, l ledger, g Geometry, naive []bool) {
	bytes := int64(0)
	for i, verified := range naive {
		if verified {
			bytes += g.Bytes(int64(i), 1)
		}
	}
	if got := l.VerifiedBytes(); got != bytes {
		rt.Fatalf("%s: %d bytes verified, want %d", name, got, bytes)
	}
	for from := int64(0); from <= g.Chunks(); from++ {
		first := from
		for first < g.Chunks() && naive[first] {
			first++
		}
		end := first
		for end < g.Chunks() && !naive[end] {
			end++
		}
		if gotFirst, gotEnd := l.gap(from); gotFirst != first || gotEnd != end {
			rt.Fatalf("%s: gap from %d: %d to %d, want %d to %d", name, from, gotFirst, gotEnd, first, end)
		}
	}
}

// A copy from beginning to end leaves one interval, however many appends it takes: that is all that it keeps in memory.
func TestForgetfulIsSmall(t *testing.T) {
	f := forgetful{geometry: small(1 << 30)}
	for i := int64(0); i < f.geometry.Chunks(); i += 8 {
		if err := f.Append([]Run{{First: i, Count: 8, Zero: true}}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(f.verified); n != 1 {
		t.Errorf("%d intervals", n)
	}
}

// A volatile checkpoint serves a copy as any other, root and manifest included, and leaves no file.
func TestVolatileCheckpoint(t *testing.T) {
	source, target, _, _, conf := faultPair(t)
	dir := t.TempDir()
	c, err := NewVolatileCheckpoint(dir, testHeader(conf.Geometry))
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
	conf.Checkpoint = c
	ctx, cancel := context.WithCancel(t.Context())
	target.hook = func(_ string, off, _ int64, _ []byte) error {
		if off >= 50*4096 {
			cancel()
		}
		return nil
	}
	if err := Copy(ctx, source, target, conf); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	target.hook = nil
	if err := Copy(t.Context(), source, target, conf); err != nil {
		t.Fatal(err)
	}
	mustBeCopied(t, source, target, c)
	path := filepath.Join(dir, "manifest")
	root, err := WriteManifest(path, c, Cached, "", time.Unix(0, 0))
	if err != nil || root != naiveRoot(t, conf.Geometry, source.data) {
		t.Errorf("manifest: %v, %v", root, err)
	}
	if _, again, err := CheckManifest(path); err != nil || again != root {
		t.Errorf("read: %v, %v", again, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Append([]Run{{First: 0, Count: 1, Zero: true}}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestVolatileCheckpointRefuses(t *testing.T) {
	if _, err := NewVolatileCheckpoint("", CheckpointHeader{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("no geometry: %v", err)
	}
	if _, err := NewVolatileCheckpoint("/no/such/directory", testHeader(small(4096))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}
