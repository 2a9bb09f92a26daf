package transfer

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/cvold/cvold/dataplane"
)

// salvagePair is a source of data and a target of old bytes, whose copy goes on where the source cannot be read.
func salvagePair(t testing.TB, g Geometry) (source, target *memory, conf Config) {
	t.Helper()
	size := (g.VolumeSize + 4095) / 4096 * 4096
	source, target = newMemory(t, size), newMemory(t, size)
	source.fill(0, size, 1)
	target.fill(0, size, 2)
	c, _ := create(t, g)
	conf = config(c, target)
	conf.Unreadable = new(ErrorMap)
	return source, target, conf
}

// mustBeSalvaged checks what a copy promises of a source that lost these ranges, in ascending order and apart.
func mustBeSalvaged(t testing.TB, source, target *memory, conf Config, lost []ErrorRange) {
	t.Helper()
	want := bytes.Clone(source.data[:conf.VolumeSize])
	bad := make(map[int64]bool)
	for _, r := range lost {
		clear(want[r.Offset:r.End()])
		for i := r.Offset / conf.ChunkSize; i*conf.ChunkSize < r.End(); i++ {
			bad[i] = true
		}
	}
	if got := conf.Unreadable.Ranges(); !slices.Equal(got, lost) {
		t.Fatalf("unreadable %v, want %v", got, lost)
	}
	if !bytes.Equal(target.durable[:conf.VolumeSize], want) {
		t.Fatal("the target is not the source with zeroes where it cannot be read")
	}
	verified := int64(0)
	for i := range conf.Chunks() {
		if conf.Checkpoint != nil && conf.Checkpoint.Verified(i) == bad[i] {
			t.Fatalf("chunk %d: cannot be read: %v; recorded: %v", i, bad[i], !bad[i])
		}
		if !bad[i] {
			verified += conf.Bytes(i, 1)
		}
	}
	if s := conf.Progress.Snapshot(); s.VerifiedBytes != verified {
		t.Fatalf("%d bytes verified, want %d", s.VerifiedBytes, verified)
	}
}

// Of a chunk that cannot be read, all blocks come through that can be: at its beginning, its end, across two chunks, and in the
// block that the volume ends in.
func TestUnreadable(t *testing.T) {
	const chunk, size = 256 << 10, 5*256<<10 + 10*4096 + 1000
	for name, lost := range map[string][]ErrorRange{
		"a block":         {{Offset: 7 * 4096, Length: 4096}},
		"first and last":  {{Offset: 0, Length: 4096}, {Offset: chunk - 4096, Length: 4096}},
		"across a border": {{Offset: 2*chunk - 8192, Length: 3 * 8192}},
		"whole chunks":    {{Offset: chunk, Length: 2 * chunk}},
		"the odd end":     {{Offset: size - 1000, Length: 1000}},
		"all":             {{Offset: 0, Length: size}},
	} {
		t.Run(name, func(t *testing.T) {
			source, target, conf := salvagePair(t, Geometry{VolumeSize: size, ChunkSize: chunk, Algorithm: XXH3_128})
			source.hook = unreadable(lost...)
			if err := Copy(t.Context(), source, target, conf); !errors.Is(err, ErrUnreadable) {
				t.Fatal(err)
			}
			mustBeSalvaged(t, source, target, conf, lost)
		})
	}
}

// Property: what is lost is the blocks that hold a bad sector, and no more, whatever the geometry and the device's blocks.
// What a later copy can read, it copies, and then the copy is complete.
func TestUnreadableProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		block := rapid.SampledFrom([]int64{1, 512, 4096, 8192}).Draw(rt, "block")
		units := block
		if block == 8192 {
			units = 512 // a volume that does not fill its last block
		}
		g := small(rapid.Int64Range(1, 600<<10).Draw(rt, "size") / units * units)
		g.ChunkSize = rapid.SampledFrom([]int64{8192, 65536, 262144}).Draw(rt, "chunk")
		source, target, conf := salvagePair(t, g)
		source.data = append(source.data, make([]byte, 4096)...)[:(g.VolumeSize+8191)/8192*8192]
		source.info.MinBlock, source.hole = block, 0
		conf.batch = rapid.Int64Range(1, 9).Draw(rt, "batch")
		conf.Workers = rapid.IntRange(0, 5).Draw(rt, "workers")
		if rapid.Bool().Draw(rt, "forgetful") {
			conf.Checkpoint = nil
		}
		var bad []ErrorRange
		naive := make([]bool, g.VolumeSize/4096+3)
		for range rapid.IntRange(0, 6).Draw(rt, "bad") {
			sector := rapid.Int64Range(0, max(g.VolumeSize-1, 0)/512).Draw(rt, "sector")
			bad = append(bad, ErrorRange{Offset: sector * 512, Length: 512})
			for at := sector * 512 / max(block, 4096) * max(block, 4096) / 4096; at*4096 <= sector*512 || at%(max(block, 4096)/4096) != 0; at++ {
				naive[at] = true
			}
		}
		source.hook = unreadable(bad...)
		lost := rangesOf(naive, g.VolumeSize)
		err := Copy(context.Background(), source, target, conf)
		if errors.Is(err, ErrUnreadable) != (lost != nil) || err != nil && lost == nil {
			rt.Fatalf("%v with %v lost", err, lost)
		}
		mustBeSalvaged(t, source, target, conf, lost)
		source.hook = nil
		conf.Unreadable = nil
		if err := Copy(context.Background(), source, target, conf); err != nil {
			rt.Fatal(err)
		}
		if !bytes.Equal(target.durable[:g.VolumeSize], source.data[:g.VolumeSize]) {
			rt.Fatal("after a copy of a source that can be read, the target differs")
		}
	})
}

// rangesOf are the stretches of blocks of 4096 bytes that are set, up to size.
func rangesOf(blocks []bool, size int64) (ranges []ErrorRange) {
	for i, set := range blocks {
		off := int64(i) * 4096
		if !set || off >= size {
			continue
		}
		r := ErrorRange{Offset: off, Length: min(4096, size-off)}
		if n := len(ranges); n > 0 && ranges[n-1].End() == off {
			ranges[n-1].Length += r.Length
			continue
		}
		ranges = append(ranges, r)
	}
	return ranges
}

// A chunk that fails as a whole, but not block by block, has lost nothing.
func TestUnreadableThatPasses(t *testing.T) {
	source, target, conf := salvagePair(t, small(64*4096))
	source.hook, _ = failAt("read", 1, dataplane.ErrIO)
	if err := Copy(t.Context(), source, target, conf); err != nil {
		t.Fatal(err)
	}
	mustBeSalvaged(t, source, target, conf, nil)
	mustBeCopied(t, source, target, conf.Checkpoint)
}

// Retries come first, and only for the chunk; the map counts each block once.
func TestUnreadableAfterRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, target, conf := salvagePair(t, small(64*4096))
		source.hook = unreadable(ErrorRange{Offset: 5 * 4096, Length: 1})
		conf.Retries = 3
		if err := Copy(t.Context(), source, target, conf); !errors.Is(err, ErrUnreadable) {
			t.Fatal(err)
		}
		mustBeSalvaged(t, source, target, conf, []ErrorRange{{Offset: 5 * 4096, Length: 4096}})
		if n := conf.Progress.Snapshot().Retries; n != 3 {
			t.Errorf("%d retries", n)
		}
	})
}

// What does not pass ends the copy, in the midst of a salvage too; without a map the first error does.
func TestUnreadableEnds(t *testing.T) {
	for _, end := range []error{dataplane.ErrDisconnected, dataplane.ErrAbandoned, dataplane.ErrClosed, errors.New("else")} {
		source, target, conf := salvagePair(t, small(64*4096))
		var reads int
		conf.Workers = 1
		source.hook = func(op string, off, _ int64, _ []byte) error {
			if op != "read" || off != 5*4096 {
				return nil
			}
			if reads++; reads == 1 {
				return dataplane.ErrIO
			}
			return end
		}
		if err := Copy(t.Context(), source, target, conf); !errors.Is(err, end) || errors.Is(err, ErrUnreadable) {
			t.Errorf("%v: %v", end, err)
		}
	}
	source, target, conf := salvagePair(t, small(64*4096))
	conf.Unreadable = nil
	source.hook = unreadable(ErrorRange{Offset: 5 * 4096, Length: 1})
	err := Copy(t.Context(), source, target, conf)
	mustBeDeviceError(t, err, "source", "read", dataplane.ErrIO)
}

// More ranges than a map takes end the copy.
func TestUnreadableTooMany(t *testing.T) {
	source, target, conf := salvagePair(t, small(64*4096))
	for i := range int64(maxErrorRanges) {
		if err := conf.Unreadable.Add(ErrorRange{Offset: 1<<30 + 2*i, Length: 1}); err != nil {
			t.Fatal(err)
		}
	}
	source.hook = unreadable(ErrorRange{Offset: 5 * 4096, Length: 1})
	if err := Copy(t.Context(), source, target, conf); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

// Cancelled between two blocks, a salvage ends.
func TestUnreadableCancelled(t *testing.T) {
	source, target, conf := salvagePair(t, Geometry{VolumeSize: 1 << 20, ChunkSize: 1 << 20, Algorithm: XXH3_128})
	ctx, cancel := context.WithCancel(t.Context())
	source.hook = func(op string, off, n int64, _ []byte) error {
		if op == "read" && n == salvageBlock && off == 10*salvageBlock {
			cancel()
		}
		return unreadable(ErrorRange{Offset: 0, Length: 1 << 20})(op, off, n, nil)
	}
	if err := Copy(ctx, source, target, conf); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if n := conf.Unreadable.Bytes(); n != 11*salvageBlock {
		t.Errorf("%d bytes noted", n)
	}
}

// A device whose blocks are longer than the pieces of a salvage is read in its blocks.
func TestUnreadableLargeBlocks(t *testing.T) {
	const block = 2 * salvagePiece
	source, target, conf := salvagePair(t, NewGeometry(8*block))
	source.info = dataplane.Info{MinBlock: block, PreferredBlock: block}
	source.hole = 0
	source.hook = unreadable(ErrorRange{Offset: 3*block + 7, Length: 1})
	if err := Copy(t.Context(), source, target, conf); !errors.Is(err, ErrUnreadable) {
		t.Fatal(err)
	}
	mustBeSalvaged(t, source, target, conf, []ErrorRange{{Offset: 3 * block, Length: block}})
}
