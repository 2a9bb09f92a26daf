package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/cvold/cvold/dataplane"
)

// received is what a stream of these bytes becomes on a target, which it checks.
func received(t testing.TB, data []byte, target *memory, config Config) *Checkpoint {
	t.Helper()
	target.keeps = config.Preallocate
	c, err := Receive(context.Background(), iotest.OneByteReader(bytes.NewReader(data)), target, config)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(target.durable[:len(data)], data) {
		t.Fatal("the target's medium differs from the stream")
	}
	g := c.Header().Geometry
	if g.VolumeSize != int64(len(data)) || g.ChunkSize != config.ChunkSize || g.Algorithm != config.Algorithm {
		t.Fatalf("geometry %+v of %d bytes", g, len(data))
	}
	if root, err := c.Root(); err != nil || root != naiveRoot(t, g, data) {
		t.Fatalf("root %v, %v", root, err)
	}
	return c
}

// Streams of all lengths about chunks, batches of chunks and blocks.
func TestReceiveLengths(t *testing.T) {
	const chunk, batch = MinChunkSize, streamBatch * MinChunkSize
	for _, n := range []int64{0, 1, 511, 512, chunk - 1, chunk, chunk + 1, 2 * chunk, batch - chunk, batch - 1, batch, batch + 1,
		batch + chunk, 2*batch - 1, 2 * batch, 2*batch + 1} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			source, target := newMemory(t, 3*batch), newMemory(t, 3*batch)
			source.fill(0, 3*batch, 1)
			target.fill(0, 3*batch, 2)
			before := bytes.Clone(target.data)
			c := received(t, source.data[:n], target, Config{Geometry: small(0)})
			padded := (n + 511) / 512 * 512
			if !isZero(target.data[n:padded]) || !bytes.Equal(target.data[padded:], before[padded:]) {
				t.Error("what lies behind the stream's last block has changed, or the block is not filled up with zeroes")
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Property: whatever comes, in zeroes and data, onto whatever target, is there afterwards, under the naive root; what was
// sent is what is not zero, and nothing is zeroed that is said to be zero.
func TestReceiveProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		config := Config{Geometry: small(0), Progress: new(Progress), Preallocate: rapid.Bool().Draw(rt, "preallocate")}
		config.ChunkSize = rapid.SampledFrom([]int64{4096, 16384}).Draw(rt, "chunk")
		config.Algorithm = rapid.SampledFrom([]Algorithm{XXH3_128, BLAKE3}).Draw(rt, "algorithm")
		config.RequestSize = rapid.SampledFrom([]int64{0, 4096}).Draw(rt, "request")
		config.TargetIsZero = rapid.Bool().Draw(rt, "zero")
		block := rapid.SampledFrom([]int64{1, 512, 4096}).Draw(rt, "block")
		n := rapid.Int64Range(0, 600<<10).Draw(rt, "length")
		source := newMemory(t, (n+7)/8*8)
		for i := range rapid.IntRange(0, 5).Draw(rt, "writes") {
			off := rapid.Int64Range(0, n/8).Draw(rt, "off") * 8
			source.fill(off, rapid.Int64Range(0, (n-off)/8).Draw(rt, "n")*8, uint64(i))
		}
		target := newMemory(t, (n+block-1)/block*block)
		target.info = dataplane.Info{MinBlock: block, MaxBlock: rapid.SampledFrom([]int64{0, 4096, 8192}).Draw(rt, "most")}
		if !config.TargetIsZero && block%8 == 0 {
			target.fill(0, int64(len(target.data)), 99)
		}
		c := received(t, source.data[:n], target, config)
		if config.TargetIsZero && target.zeroCalls > 0 {
			rt.Errorf("%d requests for zeroes", target.zeroCalls)
		}
		sent := int64(0)
		for i := range c.Header().Chunks() {
			if off, n := c.Header().Range(i); !isZero(source.data[off : off+n]) {
				sent += n
			}
		}
		if s := config.Progress.Snapshot(); s.SentBytes != sent {
			rt.Errorf("%d bytes sent, want %d", s.SentBytes, sent)
		}
		if err := c.Close(); err != nil {
			rt.Error(err)
		}
	})
}

// A stream that is longer than the target, by a byte or by much: what fits is written, and the error says where it ends.
func TestReceiveShortTarget(t *testing.T) {
	const chunk = MinChunkSize
	for _, room := range []int64{0, 512, chunk, 10*chunk + 512, streamBatch * chunk} {
		for _, more := range []int64{1, chunk, 3 * streamBatch * chunk} {
			source, target := newMemory(t, room+more+chunk), newMemory(t, room)
			source.fill(0, (room+more)/8*8, 1)
			source.data[room] = 1
			_, err := Receive(t.Context(), bytes.NewReader(source.data[:room+more]), target, Config{Geometry: small(0)})
			mustBeDeviceError(t, err, "target", "write", dataplane.ErrNoSpace)
			if whole := room / chunk * chunk; !bytes.Equal(target.data[:whole], source.data[:whole]) {
				t.Errorf("%d bytes more than %d: what came before is not written", more, room)
			}
		}
	}
}

// A stream that breaks is an error and not its end, and says where; also where it breaks as short reads of others do.
func TestReceiveStreamErrors(t *testing.T) {
	for _, broken := range []error{errors.New("broken"), io.ErrUnexpectedEOF, fmt.Errorf("in between: %w", io.EOF)} {
		for _, n := range []int64{0, 1, MinChunkSize, 5*MinChunkSize + 7, streamBatch * MinChunkSize} {
			source, target := newMemory(t, 1<<20), newMemory(t, 1<<20)
			source.fill(0, 1<<20, 1)
			r := io.MultiReader(bytes.NewReader(source.data[:n]), iotest.ErrReader(broken))
			if _, err := Receive(t.Context(), r, target, Config{Geometry: small(0)}); !errors.Is(err, broken) {
				t.Errorf("%v after %d bytes: %v", broken, n, err)
			}
		}
	}
}

// A request of the target fails once: with a retry it passes, unless it is the flush; without one the error says what and where.
func TestReceiveTargetErrors(t *testing.T) {
	for _, op := range []string{"write", "zero", "sync"} {
		source, target := newMemory(t, 100*4096), newMemory(t, 100*4096)
		source.fill(0, 50*4096, 1)
		var fired interface{ Load() bool }
		target.hook, fired = failAt(op, 1, dataplane.ErrIO)
		_, err := Receive(t.Context(), bytes.NewReader(source.data), target, Config{Geometry: small(0)})
		if !fired.Load() {
			t.Fatalf("no %s", op)
		}
		mustBeDeviceError(t, err, "target", op, dataplane.ErrIO)
		synctest.Test(t, func(t *testing.T) {
			config := Config{Geometry: small(0), Retries: 1, Progress: new(Progress)}
			target := newMemory(t, 100*4096)
			target.hook, _ = failAt(op, 1, dataplane.ErrIO)
			c, err := Receive(t.Context(), bytes.NewReader(source.data), target, config)
			if op == "sync" {
				mustBeDeviceError(t, err, "target", op, dataplane.ErrIO)
				return
			}
			if err != nil || config.Progress.Snapshot().Retries != 1 || !bytes.Equal(target.durable, source.data) {
				t.Errorf("%s: %v", op, err)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	target := newMemory(t, 4096)
	if _, err := Receive(t.Context(), bytes.NewReader(nil), sizeless{target}, Config{Geometry: small(0)}); !errors.Is(err, dataplane.ErrDisconnected) {
		t.Errorf("size: %v", err)
	}
	if _, err := Receive(t.Context(), bytes.NewReader(nil), target, Config{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("geometry: %v", err)
	}
	t.Setenv("TMPDIR", "/no/such/directory")
	if _, err := Receive(t.Context(), bytes.NewReader(nil), target, Config{Geometry: small(0)}); err == nil {
		t.Error("without a place for the digests")
	}
}

// Cancelled, it ends with the context's error, not with a checkpoint of half of the stream.
func TestReceiveCancelled(t *testing.T) {
	source, target := newMemory(t, 1<<20), newMemory(t, 1<<20)
	source.fill(0, 1<<20, 1)
	ctx, cancel := context.WithCancel(t.Context())
	target.hook = func(op string, off, _ int64, _ []byte) error {
		if off == 100*4096 {
			cancel()
		}
		return nil
	}
	if _, err := Receive(ctx, bytes.NewReader(source.data), target, Config{Geometry: small(0)}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
