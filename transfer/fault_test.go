package transfer

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cvold/cvold/dataplane"
)

// faultPair is a source with data, a hole and data, a target full of old bytes, and a copy in batches of 4 chunks.
func faultPair(t *testing.T) (source, target *memory, c *Checkpoint, path string, conf Config) {
	t.Helper()
	const size = 64*4096 + 512
	source, target = newMemory(t, size), newMemory(t, size)
	source.fill(0, 20*4096, 1)
	source.fill(50*4096, 10*4096, 2)
	source.fill(size-512, 512, 3)
	target.fill(0, size, 4)
	c, path = create(t, small(size))
	conf = config(c, target)
	conf.batch = 4
	return source, target, c, path, conf
}

// failAt makes the n-th call of op fail (n from 1), and says whether it came so far.
func failAt(op string, n int64, err error) (hook func(string, int64, int64, []byte) error, fired *atomic.Bool) {
	var calls atomic.Int64
	fired = new(atomic.Bool)
	return func(got string, _, _ int64, _ []byte) error {
		if got == op && calls.Add(1) == n {
			fired.Store(true)
			return err
		}
		return nil
	}, fired
}

// Each call of each device fails once: Copy says which device, what and where, keeps the error recognisable, and a copy
// on a device opened anew goes on to the right end.
func TestCopyFaultMatrix(t *testing.T) {
	cases := []struct {
		device, op string
		err        error
	}{
		{"source", "read", dataplane.ErrIO},
		{"source", "extents", dataplane.ErrDisconnected},
		{"target", "write", dataplane.ErrNoSpace},
		{"target", "zero", dataplane.ErrNotSupported},
		{"target", "sync", dataplane.ErrIO},
	}
	for _, test := range cases {
		for n := int64(1); ; n++ {
			source, target, c, path, conf := faultPair(t)
			hook, fired := failAt(test.op, n, test.err)
			map[string]*memory{"source": source, "target": target}[test.device].hook = hook
			err := Copy(t.Context(), source, target, conf)
			if !fired.Load() {
				if n == 1 {
					t.Fatalf("%s %s is never called", test.op, test.device)
				}
				break
			}
			mustBeDeviceError(t, err, test.device, test.op, test.err)
			source.hook, target.hook = nil, nil
			target.crash()
			c = reopen(t, c, path)
			if err := Copy(t.Context(), source, target, config(c, target)); err != nil {
				t.Fatalf("%s %s, call %d: resume: %v", test.op, test.device, n, err)
			}
			mustBeCopied(t, source, target, c)
		}
	}
}

func mustBeDeviceError(t *testing.T, err error, device, op string, cause error) {
	t.Helper()
	if op == "sync" {
		op = "flush"
	}
	var d *DeviceError
	if !errors.As(err, &d) || d.Device != device || d.Op != op || !errors.Is(err, cause) {
		t.Fatalf("error %v, want %s %s: %v", err, op, device, cause)
	}
	if op != "flush" && d.Length == 0 {
		t.Fatalf("error %v does not say where", err)
	}
	if !strings.Contains(err.Error(), op+" "+device) {
		t.Fatalf("error %v", err)
	}
}

// After a failed flush nothing since the last good one counts, whatever a later read gives back.
func TestCopyFailedFlush(t *testing.T) {
	source, target, c, path, conf := faultPair(t)
	synced := make(chan struct{})
	var syncs atomic.Int64
	target.hook = func(op string, off, _ int64, _ []byte) error {
		switch {
		case op == "write" && off >= 58*4096:
			<-synced // so there are two flushes or more
		case op == "sync" && syncs.Add(1) == 1:
			close(synced)
		case op == "sync":
			return dataplane.ErrIO
		}
		return nil
	}
	conf.Verifier = NewVerifier(target, conf.Geometry) // a cache that shows what the medium does not have
	if err := Copy(t.Context(), source, target, conf); !errors.Is(err, dataplane.ErrIO) {
		t.Fatal(err)
	}
	target.hook = nil
	if err := Copy(t.Context(), source, target, conf); !errors.Is(err, dataplane.ErrIO) {
		t.Fatalf("copy to a device whose flush failed: %v", err)
	}
	target.crash()
	c = reopen(t, c, path)
	for i := range c.Header().Chunks() {
		off, n := c.Header().Range(i)
		if c.Verified(i) && !bytes.Equal(source.data[off:off+n], target.durable[off:off+n]) {
			t.Fatalf("chunk %d counts as verified", i)
		}
	}
}

// The flush of a batch begins only after every write of the batch was answered.
func TestCopyFlushesAfterReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, target, _, _, conf := faultPair(t)
		var writing atomic.Int64
		target.hook = func(op string, off, _ int64, _ []byte) error {
			if op == "write" && off < 4*4096 {
				writing.Add(1)
				time.Sleep(time.Duration(off+4096) * time.Second)
				writing.Add(-1)
			}
			if n := writing.Load(); op == "sync" && n > 0 {
				t.Errorf("flush while %d writes of its batch are not answered", n)
			}
			return nil
		}
		if err := Copy(t.Context(), source, target, conf); err != nil {
			t.Fatal(err)
		}
		mustBeCopied(t, source, target, conf.Checkpoint)
	})
}

// The following batches are copied while one is flushed and verified; their number is bounded.
func TestCopyOverlaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 200 * 4096
		source, target := newMemory(t, size), newMemory(t, size)
		source.fill(0, size, 1)
		c, _ := create(t, small(size))
		conf := config(c, target)
		conf.batch = 4
		gate := make(chan struct{})
		conf.Verifier = gatedVerifier{conf.Verifier, gate}
		done := make(chan error, 1)
		go func() { done <- Copy(t.Context(), source, target, conf) }()
		synctest.Wait()
		if want := int64(maxBatches * 4 * 4096); target.written != want {
			t.Errorf("%d bytes written while the first batch is verified, want %d", target.written, want)
		}
		close(gate)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		mustBeCopied(t, source, target, c)
	})
}

type gatedVerifier struct {
	Verifier
	gate chan struct{}
}

func (v gatedVerifier) Digests(ctx context.Context, first, count int64) ([]Run, error) {
	select {
	case <-v.gate:
		return v.Verifier.Digests(ctx, first, count)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// A bit that flips on the way to the medium is found and the chunk copied again.
func TestCopyRepairsCorruption(t *testing.T) {
	for _, off := range []int64{0, 7 * 4096, 64 * 4096} {
		source, target, c, _, conf := faultPair(t)
		var once atomic.Bool
		target.hook = func(op string, at, _ int64, p []byte) error {
			if op == "write" && at == off && !once.Swap(true) {
				p[100] ^= 4
			}
			return nil
		}
		var log bytes.Buffer
		conf.Logger = slog.New(slog.NewTextHandler(&log, nil))
		if err := Copy(t.Context(), source, target, conf); err != nil {
			t.Fatal(err)
		}
		mustBeCopied(t, source, target, c)
		if s := conf.Progress.Snapshot(); s.Mismatches != 1 || s.SentBytes != 30*4096+512+min(4096, source.left(off)) {
			t.Errorf("progress %+v", s)
		}
		if !strings.Contains(log.String(), "target differs") {
			t.Errorf("log %q", log.String())
		}
	}
}

func (m *memory) left(off int64) int64 { return int64(len(m.data)) - off }

// A target that ignores requests for zeroes gets them written.
func TestCopyRepairsIgnoredZeroes(t *testing.T) {
	source, target, c, _, conf := faultPair(t)
	lying := ignoresZeroes{target}
	if err := Copy(t.Context(), source, lying, conf); err != nil {
		t.Fatal(err)
	}
	mustBeCopied(t, source, target, c)
	if s := conf.Progress.Snapshot(); s.Mismatches != 34 || s.VerifiedBytes != s.TotalBytes {
		t.Errorf("progress %+v", s)
	}
}

type ignoresZeroes struct{ *memory }

func (ignoresZeroes) ZeroAt(int64, int64, dataplane.ZeroMode) error { return nil }

// A medium that flips the same bit each time ends the copy with the chunk, its offset and both digests.
func TestCopyGivesUpOnPersistentCorruption(t *testing.T) {
	for _, compare := range []bool{false, true} {
		source, target, c, path, conf := faultPair(t)
		conf.Compare = compare
		var writes atomic.Int64
		target.hook = func(op string, off, _ int64, p []byte) error {
			if op == "write" && off == 9*4096 {
				writes.Add(1)
				p[0] ^= 1
			}
			return nil
		}
		err := Copy(t.Context(), source, target, conf)
		var m *MismatchError
		if !errors.As(err, &m) || m.Chunk != 9 || m.Offset != 9*4096 {
			t.Fatalf("error %v", err)
		}
		if m.Source != conf.Sum(source.data[9*4096:10*4096]) || m.Target != conf.Sum(target.durable[9*4096:10*4096]) {
			t.Errorf("digests %v", m)
		}
		if got := writes.Load(); got != maxRecopies+1 {
			t.Errorf("written %d times", got)
		}
		if got := conf.Progress.Snapshot().Mismatches; got != maxRecopies+1 {
			t.Errorf("%d mismatches", got)
		}
		if c = reopen(t, c, path); c.Verified(9) || !c.Verified(0) {
			t.Error("checkpoint holds the bad chunk, or not the good ones")
		}
	}
}

// The source's bytes are read anew for each further copy.
func TestCopyReadsSourceAnew(t *testing.T) {
	source, target, c, _, conf := faultPair(t)
	var reads atomic.Int64
	source.hook = func(op string, off, _ int64, _ []byte) error {
		if op == "read" && off == 2*4096 {
			reads.Add(1)
		}
		return nil
	}
	var once atomic.Bool
	target.hook = func(op string, off, _ int64, p []byte) error {
		if op == "write" && off == 2*4096 && !once.Swap(true) {
			clear(p)
		}
		return nil
	}
	if err := Copy(t.Context(), source, target, conf); err != nil {
		t.Fatal(err)
	}
	mustBeCopied(t, source, target, c)
	if reads.Load() != 2 {
		t.Errorf("read %d times", reads.Load())
	}
}

// A verifier that answers nonsense is an error, never a verification.
func TestCopyBadVerifier(t *testing.T) {
	broken := errors.New("broken")
	answers := map[string]struct {
		runs []Run
		err  error
		want error
	}{
		"error":     {err: broken, want: broken},
		"nothing":   {want: ErrOrder},
		"short":     {runs: []Run{{First: 0, Count: 1, Zero: true}}, want: ErrOrder},
		"long":      {runs: []Run{{First: 0, Count: 1 << 20, Zero: true}}, want: ErrOrder},
		"elsewhere": {runs: []Run{{First: 1, Count: 5, Zero: true}}, want: ErrOrder},
		"malformed": {runs: []Run{{First: 0, Count: 5, Digests: make([]Digest, 3)}}, want: ErrOrder},
	}
	for name, a := range answers {
		source, target, c, _, conf := faultPair(t)
		conf.Verifier = verifierFunc(func(context.Context, int64, int64) ([]Run, error) { return a.runs, a.err })
		err := Copy(t.Context(), source, target, conf)
		var d *DeviceError
		if !errors.Is(err, a.want) || !errors.As(err, &d) || d.Op != "verify" {
			t.Errorf("%s: %v", name, err)
		}
		if c.VerifiedBytes() != 0 {
			t.Errorf("%s: chunks count as verified", name)
		}
	}
}

type verifierFunc func(ctx context.Context, first, count int64) ([]Run, error)

func (f verifierFunc) Digests(ctx context.Context, first, count int64) ([]Run, error) {
	return f(ctx, first, count)
}

// The verifier's own device error is passed on as it is.
func TestCopyVerifierDeviceError(t *testing.T) {
	source, target, _, _, conf := faultPair(t)
	reader := newMemory(t, conf.VolumeSize)
	reader.hook, _ = failAt("read", 1, dataplane.ErrIO)
	reader.hole = 0
	conf.Verifier = NewVerifier(reader, conf.Geometry)
	err := Copy(t.Context(), source, target, conf)
	var d *DeviceError
	if !errors.As(err, &d) || d.Op != "read" || d.Device != "target" {
		t.Errorf("error %v", err)
	}
}

// Devices that break their contract are caught, not believed.
func TestCopyBadDevices(t *testing.T) {
	extents := map[string][]dataplane.Extent{
		"gap":       {{Offset: 4096, Length: 4096}},
		"overlap":   {{Offset: 0, Length: 8192, Zero: true}, {Offset: 4096, Length: 4096, Zero: true}},
		"too long":  {{Offset: 0, Length: 1 << 60, Zero: true}},
		"empty":     {{Offset: 0, Length: 0}},
		"too short": {{Offset: 0, Length: 4096, Zero: true}},
		"none":      {},
	}
	for name, list := range extents {
		source, target, c, _, conf := faultPair(t)
		err := Copy(t.Context(), oddExtents{source, list}, target, conf)
		if !errors.Is(err, dataplane.ErrIO) || c.VerifiedBytes() != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	source, target, _, _, conf := faultPair(t)
	if err := Copy(t.Context(), shortReads{source}, target, conf); !errors.Is(err, dataplane.ErrIO) {
		t.Errorf("short reads: %v", err)
	}
}

type oddExtents struct {
	*memory
	list []dataplane.Extent
}

func (d oddExtents) Extents(_ context.Context, _, _ int64, fn func(dataplane.Extent) error) error {
	for _, x := range d.list {
		if err := fn(x); err != nil {
			return err
		}
	}
	return nil
}

type shortReads struct{ *memory }

func (d shortReads) ReadAt(p []byte, off int64) (int, error) { return d.memory.ReadAt(p[:512], off) }

// Cancelled while everything hangs on a slow step, Copy ends as soon as the calls under way do.
func TestCopyCancelIsPrompt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, target, c, _, conf := faultPair(t)
		conf.Limiter = NewShare(NewLimit(Rate{Bytes: 1}))
		if err := conf.Limiter.WaitN(t.Context(), DefaultChunkSize); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		start := time.Now()
		err := Copy(ctx, source, target, conf)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Hour {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if c.Complete() {
			t.Error("complete")
		}
	})
}
