package transfer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/cvold/cvold/dataplane"
)

// manifestOf is a manifest of what the device holds.
func manifestOf(t testing.TB, d dataplane.Device, g Geometry) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewManifestWriter(&b, ManifestHeader{Geometry: g, Class: Cached, Created: testTime})
	if err == nil {
		err = Scan(context.Background(), d, g, 0, g.Chunks(), w.Add)
	}
	if err == nil {
		_, err = w.Finish()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func compare(d dataplane.Device, manifest []byte) (all []Difference, err error) {
	m, err := NewManifestReader(bytes.NewReader(manifest))
	if err != nil {
		return nil, err
	}
	err = Compare(context.Background(), d, m, ScanOptions{}, func(x Difference) error {
		all = append(all, x)
		return nil
	})
	return all, err
}

// naiveDifferences compares chunk by chunk.
func naiveDifferences(g Geometry, said, found []byte) (all []Difference) {
	last := int64(-1)
	for i := range g.Chunks() {
		off, n := g.Range(i)
		a, b := g.Sum(said[off:off+n]), g.Sum(found[off:off+n])
		if a == b {
			continue
		}
		if last >= 0 && last == i-1 {
			all[len(all)-1].Length += n
		} else {
			all = append(all, Difference{Offset: off, Length: n, Manifest: a, Device: b})
		}
		last = i
	}
	return all
}

// Property: the differences are those that a comparison of all bytes finds, whatever runs and holes both sides have.
func TestCompareProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.Int64Range(0, 400).Draw(rt, "sectors") * 512
		g := small(size)
		g.Algorithm = rapid.SampledFrom([]Algorithm{XXH3_128, BLAKE3}).Draw(rt, "algorithm")
		d := newMemory(t, size)
		change := func(name string) {
			for i := range rapid.IntRange(0, 6).Draw(rt, name) {
				off := rapid.Int64Range(0, size/512).Draw(rt, "off") * 512
				n := rapid.Int64Range(0, (size-off)/512).Draw(rt, "length") * 512
				switch rapid.IntRange(0, 2).Draw(rt, "how") {
				case 0:
					d.fill(off, n, uint64(i)+1)
				case 1:
					clear(d.data[off : off+n])
				default:
					for j := off; j < off+n; j++ {
						d.data[j] = byte(i) // chunks that are equal to one another
					}
				}
			}
		}
		change("before")
		manifest, before := manifestOf(t, d, g), bytes.Clone(d.data)
		change("after")
		got, err := compare(d, manifest)
		if err != nil {
			rt.Fatal(err)
		}
		if want := naiveDifferences(g, before, d.data); !slices.Equal(got, want) {
			rt.Fatalf("got %+v, want %+v", got, want)
		}
	})
}

// A manifest of others may say of zeroes what ours never does: a digest, also of the shorter last chunk.
func TestCompareUncommonForms(t *testing.T) {
	g := small(10*4096 + 512)
	z := g.zeroDigests()
	var b bytes.Buffer
	b.Write(ManifestHeader{Geometry: g, Class: Cached, Created: testTime}.encode())
	b.Write(appendRecord(nil, Run{First: 0, Count: 10, Digests: []Digest{z.full}}, g.Algorithm))
	b.Write(appendRecord(nil, Run{First: 10, Count: 1, Digests: []Digest{z.tail}}, g.Algorithm))
	h := NewRootHash(g)
	if err := h.Add(Run{First: 0, Count: 11, Zero: true}); err != nil {
		t.Fatal(err)
	}
	root, err := h.Sum()
	if err != nil {
		t.Fatal(err)
	}
	b.Write(appendRawRecord(nil, kindEnd, 11, 2, root[:]))
	d := newMemory(t, g.VolumeSize)
	if all, err := compare(d, b.Bytes()); err != nil || all != nil {
		t.Errorf("%v: %+v", err, all)
	}
	d.data[10*4096] = 1
	if all, err := compare(d, b.Bytes()); err != nil || len(all) != 1 || all[0].Offset != 10*4096 || all[0].Length != 512 {
		t.Errorf("%v: %+v", err, all)
	}
}

func TestCompareErrors(t *testing.T) {
	g := small(20 * 4096)
	d := newMemory(t, g.VolumeSize)
	d.fill(0, g.VolumeSize, 1)
	manifest := manifestOf(t, d, g)
	for n := manifestHeadSize; n < len(manifest); n += 7 {
		damaged := bytes.Clone(manifest)
		damaged[n] ^= 4
		if _, err := compare(d, damaged); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("byte %d changed: %v", n, err)
		}
		if _, err := compare(d, manifest[:n]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	if _, err := compare(newMemory(t, g.VolumeSize-512), manifest); !errors.Is(err, ErrInvalid) {
		t.Errorf("device too small: %v", err)
	}
	d.hook, _ = failAt("read", 1, dataplane.ErrIO)
	if _, err := compare(d, manifest); !errors.Is(err, dataplane.ErrIO) {
		t.Errorf("read: %v", err)
	}
	d.hook = nil
	stop := errors.New("stop")
	for _, chunk := range []int64{3, 19} { // a difference in the middle is told when it ends, one at the end at the end
		d.data[chunk*4096]++
		m, err := NewManifestReader(bytes.NewReader(manifest))
		if err != nil {
			t.Fatal(err)
		}
		if err := Compare(t.Context(), d, m, ScanOptions{}, func(Difference) error { return stop }); err != stop {
			t.Errorf("error of fn: %v", err)
		}
		d.data[chunk*4096]--
	}
}

// 16 TiB of holes with some data are compared without a request for a hole, and without memory for them.
func TestCompareHugeSparseVolume(t *testing.T) {
	g := NewGeometry(16 << 40)
	if raceEnabled || testing.Short() {
		g = NewGeometry(1 << 40)
	}
	d := newHuge(t, g)
	const data = 64
	for i := range int64(data) {
		d.set(i*g.Chunks()/data, uint64(i)+1)
	}
	manifest := manifestOf(t, d, g)
	d.set(g.Chunks()/data, 4711)
	d.set(g.Chunks()-1, 4712)
	d.reads.Store(0)
	all, err := compare(d, manifest)
	if err != nil || len(all) != 2 || all[0].Offset != g.VolumeSize/data || all[1].Offset != g.VolumeSize-g.ChunkSize {
		t.Errorf("%v: %+v", err, all)
	}
	if d.reads.Load() != data+1 {
		t.Errorf("%d reads", d.reads.Load())
	}
	if len(manifest) > data*100 {
		t.Errorf("manifest of %d bytes", len(manifest))
	}
}

// Nothing is compared with a manifest that was read before.
func TestCompareManifestReadBefore(t *testing.T) {
	g := small(4096)
	d := newMemory(t, 4096)
	m, err := NewManifestReader(bytes.NewReader(manifestOf(t, d, g)))
	for err == nil {
		_, err = m.Next()
	}
	if got := Compare(t.Context(), d, m, ScanOptions{}, nil); err != io.EOF || got == nil {
		t.Errorf("%v: %v", err, got)
	}
}
