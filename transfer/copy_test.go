package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/cvold/cvold/dataplane"
)

// config copies onto target with its medium as the verifier.
func config(c *Checkpoint, target *memory) Config {
	g := c.Header().Geometry
	return Config{Geometry: g, Checkpoint: c, Verifier: NewVerifier(medium{target}, g), Progress: new(Progress)}
}

func TestCopySizes(t *testing.T) {
	for _, size := range []int64{0, 1, 511, 512, 4096, 4097, 4608, 3 * 4096, 3*4096 + 512, 1 << 20, 1<<20 + 512, 5<<20 - 512} {
		for _, algorithm := range []Algorithm{XXH3_128, BLAKE3} {
			t.Run(fmt.Sprintf("%d-%v", size, algorithm), func(t *testing.T) {
				blocks := (size + 511) / 512 * 512
				source, target := newMemory(t, blocks), newMemory(t, blocks)
				source.fill(size/3/512*512, size/3/8*8, 1)
				target.fill(0, blocks, 2)
				g := small(size)
				g.Algorithm = algorithm
				c, path := create(t, g)
				if err := Copy(t.Context(), source, target, config(c, target)); err != nil {
					t.Fatal(err)
				}
				mustBeCopied(t, source, target, c)
				mustBeCopied(t, source, target, reopen(t, c, path))
			})
		}
	}
}

func TestCopyDefaultChunk(t *testing.T) {
	const size = 20<<20 + 512
	source, target := newMemory(t, size), newMemory(t, size)
	source.fill(5<<20, 10<<20, 1)
	source.fill(size-512, 512, 2)
	c, _ := create(t, NewGeometry(size))
	conf := config(c, target)
	conf.batch = 4
	if err := Copy(t.Context(), source, target, conf); err != nil {
		t.Fatal(err)
	}
	mustBeCopied(t, source, target, c)
	if source.read != 10<<20+512 {
		t.Errorf("read %d bytes: holes were read", source.read)
	}
	s := conf.Progress.Snapshot()
	if s.Phase != PhaseDone || s.VerifiedBytes != size || s.TotalBytes != size || s.SentBytes != 10<<20+512 ||
		s.ZeroBytes != 10<<20 || s.DataChunks != 11 || s.ZeroChunks != 10 || s.ResumedBytes != 0 || s.Mismatches != 0 {
		t.Errorf("progress %+v", s)
	}
}

// A volume whose size is no multiple of the target's blocks: the last block is filled up with zeroes.
func TestCopyBlocks(t *testing.T) {
	const size = 10*4096 + 512
	for _, zeroTail := range []bool{false, true} {
		source, target := newMemory(t, size), newMemory(t, 11*4096)
		target.info = dataplane.Info{MinBlock: 4096, MaxBlock: 8192}
		source.info.MaxBlock = 512
		target.fill(0, 11*4096, 3)
		source.fill(0, 3*4096, 1)
		if !zeroTail {
			source.fill(10*4096, 512, 1)
		}
		g := small(size)
		g.ChunkSize = 16384
		c, _ := create(t, g)
		conf := config(c, target)
		if err := Copy(t.Context(), source, target, conf); err != nil {
			t.Fatal(err)
		}
		mustBeCopied(t, source, target, c)
		if !isZero(target.data[size:]) {
			t.Error("the last block is not filled up with zeroes")
		}
	}
}

func TestCopyAlignsBuffers(t *testing.T) {
	source, target := newMemory(t, 1<<20), newMemory(t, 1<<20)
	source.fill(0, 1<<20, 1)
	source.hook = func(op string, _, _ int64, p []byte) error {
		if op == "read" && uintptr(unsafe.Pointer(&p[0]))%pageSize != 0 {
			t.Error("buffer is not page-aligned")
		}
		return nil
	}
	c, _ := create(t, small(1<<20))
	if err := Copy(t.Context(), source, target, config(c, target)); err != nil {
		t.Fatal(err)
	}
}

// Runs of zeroes are one request each, whether the source tells holes or has to be read.
func TestCopyZeroesInRuns(t *testing.T) {
	for _, hole := range []int64{0, 512, 4096} {
		const size = 100 * 4096
		source, target := newMemory(t, size), newMemory(t, size)
		source.hole = hole
		source.fill(40*4096, 2*4096, 1)
		target.fill(0, size, 2)
		c, _ := create(t, small(size))
		if err := Copy(t.Context(), source, target, config(c, target)); err != nil {
			t.Fatal(err)
		}
		mustBeCopied(t, source, target, c)
		if target.zeroCalls != 2 || target.written != 2*4096 {
			t.Errorf("hole %d: %d requests for zeroes, %d bytes written", hole, target.zeroCalls, target.written)
		}
	}
}

func TestCopyReadHoles(t *testing.T) {
	const size = 64 * 4096
	source, target := newMemory(t, size), newMemory(t, size)
	c, _ := create(t, small(size))
	conf := config(c, target)
	conf.ReadHoles = true
	if err := Copy(t.Context(), source, target, conf); err != nil {
		t.Fatal(err)
	}
	if source.read != size {
		t.Errorf("read %d of %d", source.read, size)
	}
}

// Property: whatever the source holds, wherever its holes are, whatever was on the target, in any batch cut, the target's
// medium is equal afterwards and the root is the naive one.
func TestCopyProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		sectors := rapid.Int64Range(0, 1024).Draw(rt, "sectors")
		size := sectors * 512
		g := small(size)
		g.ChunkSize = rapid.SampledFrom([]int64{4096, 8192, 65536, DefaultChunkSize}).Draw(rt, "chunk")
		source, target := newMemory(t, size), newMemory(t, size)
		source.hole = rapid.SampledFrom([]int64{0, 512, 4096, 12288}).Draw(rt, "hole")
		target.fill(0, size, 99)
		for i := range rapid.IntRange(0, 8).Draw(rt, "writes") {
			off := rapid.Int64Range(0, sectors).Draw(rt, "off")
			n := rapid.Int64Range(0, sectors-off).Draw(rt, "n")
			source.fill(off*512, n*512, uint64(i))
			if rapid.Bool().Draw(rt, "hole") {
				clear(source.data[off*512 : (off+n)*512])
			}
		}
		c, path := create(t, g)
		conf := config(c, target)
		conf.Workers = rapid.IntRange(0, 6).Draw(rt, "workers")
		conf.Compare = rapid.Bool().Draw(rt, "compare")
		conf.batch = rapid.Int64Range(0, 9).Draw(rt, "batch")
		if err := Copy(context.Background(), source, target, conf); err != nil {
			rt.Fatal(err)
		}
		mustBeCopied(t, source, target, c)
		mustBeCopied(t, source, target, reopen(t, c, path))
	})
}

// Cancelled at any operation: the resumed copy reads what is not verified, and that is no more than was under way.
func TestCopyResumesAfterCancel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const chunks, batch = 120, 3
		g := small(chunks * MinChunkSize)
		source, target := newHuge(t, g), newHuge(t, g)
		for i := range int64(chunks) {
			source.set(i, uint64(i)+1)
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		stop := rapid.Int64Range(1, chunks).Draw(rt, "stop")
		var ops atomic.Int64
		target.hook = func() {
			if ops.Add(1) == stop {
				cancel()
			}
		}
		c, path := create(t, g)
		conf := Config{Geometry: g, Checkpoint: c, Verifier: target, batch: batch}
		if err := Copy(ctx, source, target, conf); !errors.Is(err, context.Canceled) {
			rt.Fatal(err)
		}
		read := source.reads.Load()
		c = reopen(t, c, path)
		verified := c.VerifiedBytes() / g.ChunkSize
		if lost := read - verified; lost > maxBatches*batch+DefaultWorkers {
			rt.Errorf("%d chunks read, %d verified", read, verified)
		}
		target.hook = nil
		conf.Checkpoint, conf.Progress = c, new(Progress)
		if err := Copy(context.Background(), source, target, conf); err != nil {
			rt.Fatal(err)
		}
		if got := source.reads.Load() - read; got != chunks-verified {
			rt.Errorf("resume read %d chunks, %d were missing", got, chunks-verified)
		}
		if s := conf.Progress.Snapshot(); s.ResumedBytes != verified*g.ChunkSize || s.VerifiedBytes != g.VolumeSize {
			rt.Errorf("progress %+v", s)
		}
		if !c.Complete() {
			rt.Error("not complete")
		}
	})
}

// The power fails at a random operation: what the checkpoint says is verified is on the medium.
func TestCopyCrashProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const size = 80 * 4096
		source, target := newMemory(t, size), newMemory(t, size)
		source.fill(0, 40*4096, 1)
		source.fill(60*4096, 10*4096, 2)
		target.fill(0, size, 3)
		stop := rapid.Int64Range(1, 70).Draw(rt, "stop")
		var ops atomic.Int64
		dead := errors.New("power cut")
		target.hook = func(string, int64, int64, []byte) error {
			if ops.Add(1) >= stop {
				return dead
			}
			return nil
		}
		c, path := create(t, small(size))
		conf := config(c, target)
		conf.batch = rapid.Int64Range(1, 30).Draw(rt, "batch")
		err := Copy(context.Background(), source, target, conf)
		if err != nil && !errors.Is(err, dead) {
			rt.Fatal(err)
		}
		target.hook = nil
		target.crash()
		c = reopen(t, c, path)
		for i := range c.Header().Chunks() {
			off, n := c.Header().Range(i)
			if c.Verified(i) && !bytes.Equal(source.data[off:off+n], target.durable[off:off+n]) {
				rt.Fatalf("chunk %d is called verified and is not on the medium", i)
			}
		}
		if err := Copy(context.Background(), source, target, config(c, target)); err != nil {
			rt.Fatal(err)
		}
		mustBeCopied(t, source, target, c)
	})
}

func TestCopyCompareWritesOnlyWhatDiffers(t *testing.T) {
	const size = 300*4096 + 512
	source, target := newMemory(t, size), newMemory(t, size)
	source.fill(0, 100*4096, 1)
	c, path := create(t, small(size))
	if err := Copy(t.Context(), source, target, config(c, target)); err != nil {
		t.Fatal(err)
	}
	c = reopen(t, c, path)
	source.fill(10*4096, 4096, 5)         // new data
	clear(source.data[20*4096 : 23*4096]) // a new hole
	source.fill(size-512, 512, 6)         // data where a hole was
	target.written, target.zeroCalls = 0, 0
	conf := config(c, target)
	conf.Compare = true
	if err := Copy(t.Context(), source, target, conf); err != nil {
		t.Fatal(err)
	}
	mustBeCopied(t, source, target, c)
	if target.written != 4096+512 || target.zeroCalls != 1 {
		t.Errorf("%d bytes written, %d requests for zeroes", target.written, target.zeroCalls)
	}
	if s := conf.Progress.Snapshot(); s.Mismatches != 0 || s.ResumedBytes != 0 || s.VerifiedBytes != size {
		t.Errorf("progress %+v", s)
	}
}

// Compare empties the checkpoint durably before it begins: what it held may be void.
func TestCopyCompareBelievesNothing(t *testing.T) {
	const size = 10 * 4096
	source, target := newMemory(t, size), newMemory(t, size)
	source.fill(0, size, 1)
	c, path := create(t, small(size))
	if err := Copy(t.Context(), source, target, config(c, target)); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	target.hook = func(string, int64, int64, []byte) error { return broken }
	conf := config(c, target)
	conf.Compare = true
	if err := Copy(t.Context(), source, target, conf); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if c = reopen(t, c, path); c.VerifiedBytes() != 0 {
		t.Errorf("%d bytes are still called verified", c.VerifiedBytes())
	}
}

func TestCopyCompleteTouchesNothing(t *testing.T) {
	const size = 10 * 4096
	source, target := newMemory(t, size), newMemory(t, size)
	c, _ := create(t, small(size))
	if err := Copy(t.Context(), source, target, config(c, target)); err != nil {
		t.Fatal(err)
	}
	touched := func(op string, _, _ int64, _ []byte) error { return fmt.Errorf("%s", op) }
	source.hook, target.hook = touched, touched
	if err := Copy(t.Context(), source, target, config(c, target)); err != nil {
		t.Fatal(err)
	}
}

func TestCopyRefuses(t *testing.T) {
	const size = 10 * 4096
	d := newMemory(t, size)
	c, _ := create(t, small(size))
	good := config(c, d)
	cases := map[string]func(*Config){
		"compare with what":  func(c *Config) { c.Compare, c.Verifier = true, nil },
		"no digests":         func(c *Config) { c.NoDigests = true },
		"odd requests":       func(c *Config) { c.RequestSize = 1000 },
		"large requests":     func(c *Config) { c.RequestSize = 8192 },
		"negative requests":  func(c *Config) { c.RequestSize = -MinChunkSize },
		"negative memory":    func(c *Config) { c.InFlight = -1 },
		"too many retries":   func(c *Config) { c.Retries = MaxRetries + 1 },
		"other geometry":     func(c *Config) { c.VolumeSize -= 512 },
		"invalid geometry":   func(c *Config) { c.ChunkSize = 5000 },
		"too many workers":   func(c *Config) { c.Workers = MaxWorkers + 1 },
		"negative workers":   func(c *Config) { c.Workers = -1 },
		"unknown algorithm":  func(c *Config) { c.Algorithm = 9 },
		"negative size":      func(c *Config) { c.VolumeSize = -512 },
		"more than the most": func(c *Config) { c.VolumeSize = MaxChunks*c.ChunkSize + 512 },
	}
	for name, change := range cases {
		bad := good
		change(&bad)
		if err := Copy(t.Context(), d, d, bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Copy(t.Context(), newMemory(t, size-512), d, good); !errors.Is(err, ErrInvalid) {
		t.Errorf("source too small: %v", err)
	}
	if err := Copy(t.Context(), d, newMemory(t, size-512), good); !errors.Is(err, ErrInvalid) {
		t.Errorf("target too small: %v", err)
	}
	coarse := newMemory(t, size)
	coarse.info.MinBlock = 8192
	if err := Copy(t.Context(), d, coarse, good); !errors.Is(err, ErrInvalid) {
		t.Errorf("blocks larger than chunks: %v", err)
	}
	var device *DeviceError
	if err := Copy(t.Context(), d, sizeless{d}, good); !errors.As(err, &device) || device.Op != "size" {
		t.Errorf("size: %v", err)
	}
}

type sizeless struct{ *memory }

func (sizeless) Size() (int64, error) { return 0, dataplane.ErrDisconnected }

func TestCopyCheckpointWithoutRoom(t *testing.T) {
	const size = 10 * 4096
	source, target := newMemory(t, size), newMemory(t, size)
	source.fill(0, size, 1)
	c, path := create(t, small(size))
	c.sync = fullDisk
	conf := config(c, target)
	if err := Copy(t.Context(), source, target, conf); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if s := conf.Progress.Snapshot(); s.VerifiedBytes != 0 {
		t.Errorf("%d bytes counted that are not durable", s.VerifiedBytes)
	}
	if err := c.Append([]Run{{First: 0, Count: 1, Zero: true}}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("the failure is not sticky: %v", err)
	}
	c = reopen(t, c, path)
	if err := Copy(t.Context(), source, target, config(c, target)); err != nil {
		t.Fatal(err)
	}
	mustBeCopied(t, source, target, c)
	if _, err := CreateCheckpoint(filepath.Join(path, "x"), testHeader(small(size))); err == nil {
		t.Error("a checkpoint below a file")
	}
}
