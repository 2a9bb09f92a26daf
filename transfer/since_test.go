package transfer

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"github.com/cvold/cvold/dataplane"
)

// sinceOf makes the configuration lean on a manifest.
func sinceOf(t testing.TB, conf Config, manifest []byte) Config {
	t.Helper()
	m, err := NewManifestReader(bytes.NewReader(manifest))
	if err != nil {
		t.Fatal(err)
	}
	conf.Since = m
	return conf
}

// sincePair is a target that holds what the source was when the manifest was made: data, a hole, data.
func sincePair(t testing.TB) (source, target *memory, conf Config, manifest []byte) {
	t.Helper()
	const size = 100*4096 + 512
	source, target = newMemory(t, size), newMemory(t, size)
	source.fill(0, 40*4096, 1)
	source.fill(60*4096, 40*4096, 2)
	copy(target.data, source.data)
	copy(target.durable, source.data)
	c, _ := create(t, small(size))
	conf = config(c, target)
	conf.batch = 4
	return source, target, conf, manifestOf(t, source, conf.Geometry)
}

// Nothing is written where nothing changed; what did is, with as few requests for zeroes as ever.
func TestSince(t *testing.T) {
	for _, verified := range []bool{true, false} {
		for _, hole := range []int64{0, 4096} {
			source, target, conf, manifest := sincePair(t)
			source.hole = hole
			if !verified {
				conf.Verifier = nil
			}
			source.fill(3*4096, 4096, 9)          // data becomes other data,
			source.fill(50*4096, 2*4096, 9)       // a hole data,
			clear(source.data[60*4096 : 63*4096]) // data a hole,
			source.fill(100*4096, 512, 9)         // and the end of the volume data.
			if err := Copy(t.Context(), source, target, sinceOf(t, conf, manifest)); err != nil {
				t.Fatal(err)
			}
			mustBeCopied(t, source, target, conf.Checkpoint)
			if target.written != 3*4096+512 || target.zeroCalls != 1 {
				t.Errorf("%d bytes written, %d requests for zeroes", target.written, target.zeroCalls)
			}
			s := conf.Progress.Snapshot()
			if s.SentBytes != 3*4096+512 || s.SkippedBytes != (40-1+40-3)*4096 || s.ZeroBytes != (20-2+3)*4096 ||
				s.VerifiedBytes != conf.VolumeSize || s.Mismatches != 0 {
				t.Errorf("progress %+v", s)
			}
		}
	}
}

// A manifest that lies is found out where the target is read back, and made good with one copy more; what had to be sent after
// all does not count as skipped. Where nothing is read back, the target stays as it was: that is what was asked for.
func TestSinceOfALie(t *testing.T) {
	for _, compare := range []bool{false, true} {
		source, target, conf, manifest := sincePair(t)
		conf.Compare, conf.batch = compare, 0 // all in one batch
		target.fill(5*4096, 2*4096, 77)
		target.fill(45*4096, 3*4096, 78) // where the manifest says zeroes
		target.crashless()
		if err := Copy(t.Context(), source, target, sinceOf(t, conf, manifest)); err != nil {
			t.Fatal(err)
		}
		mustBeCopied(t, source, target, conf.Checkpoint)
		s := conf.Progress.Snapshot()
		if s.SkippedBytes != (80-2)*4096 || s.SentBytes+s.SkippedBytes+s.ZeroBytes < s.TotalBytes {
			t.Errorf("compare %v: progress %+v", compare, s)
		}
		if want := map[bool]int64{false: 5, true: 0}[compare]; s.Mismatches != want {
			t.Errorf("compare %v: %d mismatches, want %d", compare, s.Mismatches, want)
		}
	}
	source, target, conf, manifest := sincePair(t)
	target.fill(5*4096, 4096, 77)
	conf.Verifier = nil
	if err := Copy(t.Context(), source, target, sinceOf(t, conf, manifest)); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(source.data[5*4096:6*4096], target.data[5*4096:6*4096]) || target.written != 0 {
		t.Error("a chunk was written that the manifest says is there")
	}
}

// crashless makes what is written durable.
func (m *memory) crashless() { copy(m.durable, m.data) }

// Property: whatever the target held, whatever the manifest says of it and whatever the source is now, with a verifier the copy
// ends well, and without lies it sends what differs and no more. Half of it may be recorded already.
func TestSinceProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.Int64Range(0, 500).Draw(rt, "sectors") * 512
		source, target := newMemory(t, size), newMemory(t, size)
		source.hole = rapid.SampledFrom([]int64{0, 512, 4096}).Draw(rt, "hole")
		change := func(d *memory, name string) {
			for i := range rapid.IntRange(0, 4).Draw(rt, name) {
				off := rapid.Int64Range(0, size/512).Draw(rt, "off") * 512
				n := rapid.Int64Range(0, (size-off)/512).Draw(rt, "n") * 512
				if d.fill(off, n, uint64(i)+uint64(len(name))); rapid.Bool().Draw(rt, "clear") {
					clear(d.data[off : off+n])
				}
			}
		}
		change(source, "before")
		c, _ := create(t, small(size))
		conf := config(c, target)
		conf.batch = rapid.Int64Range(1, 9).Draw(rt, "batch")
		manifest := manifestOf(t, source, conf.Geometry)
		copy(target.data, source.data)
		lies := rapid.Bool().Draw(rt, "lies")
		if lies {
			change(target, "lies")
		}
		target.crashless()
		resumed := rapid.Int64Range(0, conf.Chunks()).Draw(rt, "resumed")
		change(source, "after")
		changed := int64(0)
		for i := range conf.Chunks() {
			off, n := conf.Range(i)
			p := source.data[off : off+n]
			if i < resumed {
				copy(target.data[off:], p)
				copy(target.durable[off:], p)
				if err := c.Append([]Run{{First: i, Count: 1, Digests: []Digest{conf.Sum(p)}}}); err != nil {
					rt.Fatal(err)
				}
			} else if !isZero(p) && !bytes.Equal(p, target.data[off:off+n]) {
				changed += n
			}
		}
		if err := Copy(context.Background(), source, target, sinceOf(t, conf, manifest)); err != nil {
			rt.Fatal(err)
		}
		mustBeCopied(t, source, target, c)
		if !lies && target.written != changed {
			rt.Fatalf("%d bytes written, %d differ", target.written, changed)
		}
	})
}

// A manifest that is damaged or cut off where it is needed ends the copy; CheckManifest finds it anywhere.
func TestSinceDamaged(t *testing.T) {
	source, target, conf, manifest := sincePair(t)
	path := filepath.Join(t.TempDir(), "manifest")
	for n := manifestHeadSize; n < len(manifest); n += 5 {
		flipped := bytes.Clone(manifest)
		flipped[n] ^= 1
		for _, damaged := range [][]byte{flipped, manifest[:n]} {
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, _, err := CheckManifest(path); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("byte %d: %v", n, err)
			}
		}
	}
	flipped := bytes.Clone(manifest)
	flipped[manifestHeadSize+recordHeadSize+3] ^= 1
	for _, damaged := range [][]byte{flipped, manifest[:manifestHeadSize+50]} {
		if err := Copy(t.Context(), source, target, sinceOf(t, conf, damaged)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("copy: %v", err)
		}
	}
	if err := os.WriteFile(path, manifest, 0o600); err != nil {
		t.Fatal(err)
	}
	h, root, err := CheckManifest(path)
	if err != nil || h.Geometry != conf.Geometry || root != naiveRoot(t, conf.Geometry, source.data) {
		t.Errorf("the whole one: %+v, %v, %v", h, root, err)
	}
	if _, _, err := CheckManifest(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
}

// A manifest of another geometry, or read before, is refused; so is one of a target that is said to be zero.
func TestSinceRefused(t *testing.T) {
	source, target, conf, manifest := sincePair(t)
	other := sinceOf(t, conf, manifestOf(t, source, small(conf.VolumeSize-512)))
	zero := sinceOf(t, conf, manifest)
	zero.TargetIsZero = true
	for name, bad := range map[string]Config{"geometry": other, "zero": zero} {
		if err := Copy(t.Context(), source, target, bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	read := sinceOf(t, conf, manifest)
	for err := error(nil); err == nil; {
		_, err = read.Since.Next()
	}
	if err := Copy(t.Context(), source, target, read); !errors.Is(err, ErrIncomplete) {
		t.Errorf("read before: %v", err)
	}
}

// A target that is said to be zero gets no zeroes; where that is not so, reading back finds it.
func TestTargetIsZero(t *testing.T) {
	for _, compare := range []bool{false, true} {
		for _, hole := range []int64{0, 4096} {
			source, target, conf, _ := sincePair(t)
			source.hole, conf.Compare, conf.TargetIsZero = hole, compare, true
			clear(target.data)
			clear(target.durable)
			if err := Copy(t.Context(), source, target, conf); err != nil {
				t.Fatal(err)
			}
			mustBeCopied(t, source, target, conf.Checkpoint)
			if target.zeroCalls != 0 || target.written != 80*4096 {
				t.Errorf("%d requests for zeroes, %d bytes written", target.zeroCalls, target.written)
			}
			source, target, conf, _ = sincePair(t)
			source.hole, conf.Compare, conf.TargetIsZero = hole, compare, true
			conf.batch = 0
			clear(source.data[:2*4096])
			target.fill(50*4096, 4096, 9)
			target.crashless()
			if err := Copy(t.Context(), source, target, conf); err != nil {
				t.Fatal(err)
			}
			mustBeCopied(t, source, target, conf.Checkpoint)
			if want := map[bool]int64{false: 3, true: 0}[compare]; conf.Progress.Snapshot().Mismatches != want {
				t.Errorf("compare %v: %d mismatches, want %d", compare, conf.Progress.Snapshot().Mismatches, want)
			}
		}
	}
	var device dataplane.Device = newMemory(t, 4096)
	if err := Copy(t.Context(), device, device, Config{Geometry: small(4096), TargetIsZero: true}); err != nil {
		t.Errorf("a volume of zeroes onto itself: %v", err)
	}
}
