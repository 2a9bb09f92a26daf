package transfer

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/zeebo/blake3"
	"github.com/zeebo/xxh3"
	"pgregory.net/rapid"
)

// Published values of both algorithms.
func TestAlgorithms(t *testing.T) {
	vectors := map[Algorithm]string{
		XXH3_128: "99aa06d3014798d86001c324468d497f",
		BLAKE3:   "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
	}
	for a, want := range vectors {
		if got := a.sum(nil).String(); got != want {
			t.Errorf("%v of nothing: %s", a, got)
		}
		if got, err := ParseAlgorithm(a.String()); got != a || err != nil {
			t.Errorf("%v is parsed as %v, %v", a, got, err)
		}
		if len(want) != 2*a.Size() {
			t.Errorf("%v has %d bytes", a, a.Size())
		}
		for _, n := range []int64{1, 512, 4096, 64 << 10, 64<<10 + 512, 1 << 20, 1<<20 + 1} {
			g := Geometry{Algorithm: a}
			if g.ZeroDigest(n) != g.Sum(make([]byte, n)) {
				t.Errorf("%v: digest of %d zeroes", a, n)
			}
		}
	}
	if _, err := ParseAlgorithm("md5"); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	if got := Algorithm(9); got.Size() != 0 || got.String() != "algorithm 9" {
		t.Error(got)
	}
}

func TestClass(t *testing.T) {
	for c, name := range map[Class]string{Cached: "cached", ServerReadback: "server-readback", DeviceDirect: "device-direct"} {
		if got, err := ParseClass(name); got != c || err != nil || c.String() != name {
			t.Errorf("%v: %v, %v", c, got, err)
		}
		if !c.AtLeast(Cached) || c.AtLeast(DeviceDirect) != (c == DeviceDirect) || Class(0).AtLeast(c) || Class(9).AtLeast(c) {
			t.Errorf("order of %v", c)
		}
	}
	if Class(0).AtLeast(0) {
		t.Error("an unknown class proves something")
	}
	if _, err := ParseClass("class 0"); !errors.Is(err, ErrInvalid) || Class(0).String() != "class 0" {
		t.Error(err)
	}
}

// Everything that crosses the API as JSON comes back as it was; nonsense is refused.
func TestJSON(t *testing.T) {
	in := struct {
		Algorithm Algorithm
		Class     Class
		Digest    Digest
		Long      Digest
		Root      Root
		Geometry  Geometry
		Runs      []Run
	}{
		BLAKE3, ServerReadback, Digest{1, 2}, Digest{31: 1}, Root{5}, NewGeometry(512),
		[]Run{{First: 0, Count: 5, Zero: true}, {First: 5, Count: 2, Digests: []Digest{{9}}}},
	}
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"blake3"`, `"server-readback"`, `"0102` + strings.Repeat("00", 14) + `"`,
		`{"first":0,"count":5,"zero":true}`, `"chunk_size":1048576`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s lacks %s", text, want)
		}
	}
	out := in
	out.Runs, out.Digest, out.Long, out.Root = nil, Digest{7: 7}, Digest{}, Root{}
	if err := json.Unmarshal(text, &out); err != nil || !reflect.DeepEqual(in, out) {
		t.Errorf("%v, %+v", err, out)
	}
	for _, bad := range []any{Algorithm(0), Class(0)} {
		if _, err := json.Marshal(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	bad := map[string]any{
		`"sha1"`: new(Algorithm), `"best"`: new(Class), `"00"`: new(Digest), `"zz"`: new(Root),
		`"` + strings.Repeat("z", 32) + `"`: new(Digest), `"` + strings.Repeat("z", 64) + `"`: new(Root),
	}
	for text, v := range bad {
		if err := json.Unmarshal([]byte(text), v); err == nil {
			t.Errorf("%s became %v", text, v)
		}
	}
}

func TestRunValidate(t *testing.T) {
	d := make([]Digest, 3)
	for _, good := range []Run{{0, 1, true, nil}, {0, 1, false, d[:1]}, {5, 9, false, d[:1]}, {5, 3, false, d}} {
		if err := good.Validate(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	for _, bad := range []Run{{}, {0, 1, false, nil}, {0, 1, true, d[:1]}, {0, 0, true, nil}, {-1, 1, true, nil},
		{0, -1, true, nil}, {0, 2, false, d}, {0, MaxChunks + 1, true, nil}, {MaxChunks, 1, true, nil}, {1 << 62, 1 << 62, true, nil}} {
		if err := bad.Validate(); !errors.Is(err, ErrOrder) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestGeometry(t *testing.T) {
	g := Geometry{VolumeSize: 10*4096 + 512, ChunkSize: 4096, Algorithm: XXH3_128}
	if g.Chunks() != 11 || g.Bytes(0, 11) != g.VolumeSize || g.Bytes(9, 2) != 4608 || g.Bytes(0, 0) != 0 {
		t.Errorf("chunks %d", g.Chunks())
	}
	if off, n := g.Range(10); off != 40960 || n != 512 {
		t.Errorf("last chunk %d+%d", off, n)
	}
	z := g.zeroDigests()
	if z.of(9) != g.ZeroDigest(4096) || z.of(10) != g.ZeroDigest(512) || z.of(9) == z.of(10) {
		t.Error("zero digests")
	}
	if NewGeometry(0).Chunks() != 0 || NewGeometry(1<<40).Validate() != nil {
		t.Error("default geometry")
	}
}

func TestIsZero(t *testing.T) {
	for n := range 40 {
		p := make([]byte, n)
		if !isZero(p) {
			t.Fatalf("%d zeroes are not zero", n)
		}
		for i := range p {
			p[i] = 1
			if isZero(p) {
				t.Fatalf("byte %d of %d is not seen", i, n)
			}
			p[i] = 0
		}
	}
}

// drawDigests draws a volume's digests with stretches of zeroes, of equal ones and of different ones.
func drawDigests(t *rapid.T, g Geometry) []Digest {
	z := g.zeroDigests()
	var digests []Digest
	for int64(len(digests)) < g.Chunks() {
		n := rapid.IntRange(1, 12).Draw(t, "n")
		kind := rapid.IntRange(0, 2).Draw(t, "kind")
		for i := range n {
			d := z.of(int64(len(digests)))
			switch kind {
			case 1:
				d = Digest{1}
			case 2:
				d = Digest{2, byte(i), byte(len(digests)), byte(len(digests) >> 8)}
			}
			if int64(len(digests)) < g.Chunks() {
				digests = append(digests, d)
			}
		}
	}
	return digests
}

// drawRuns cuts digests into runs at random, in any of the forms that say the same.
func drawRuns(t *rapid.T, g Geometry, digests []Digest) (runs []Run) {
	z := g.zeroDigests()
	for first := 0; first < len(digests); {
		n := rapid.IntRange(1, len(digests)-first).Draw(t, "cut")
		r := Run{First: int64(first), Count: int64(n), Digests: digests[first : first+n]}
		equal, zero := true, true
		for i, d := range r.Digests {
			equal = equal && d == r.Digests[0]
			zero = zero && d == z.of(r.First+int64(i))
		}
		if zero && rapid.Bool().Draw(t, "as zero") {
			r.Zero, r.Digests = true, nil
		} else if equal && rapid.Bool().Draw(t, "as repeated") {
			r.Digests = r.Digests[:1]
		}
		runs = append(runs, r)
		first += n
	}
	return runs
}

func canonicalRuns(t *rapid.T, g Geometry, runs []Run) (cut []Run) {
	c := newCanonical(g, func(r Run) error {
		r.Digests = append([]Digest(nil), r.Digests...)
		cut = append(cut, r)
		return nil
	})
	for _, r := range runs {
		if err := c.add(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.finish(); err != nil {
		t.Fatal(err)
	}
	return cut
}

// Property: however digests are cut into runs, the canonical runs, and the root, are the same, and say the same.
func TestCanonicalProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := small(rapid.Int64Range(1, 300).Draw(t, "sectors") * 512)
		digests := drawDigests(t, g)
		a := canonicalRuns(t, g, drawRuns(t, g, digests))
		b := canonicalRuns(t, g, drawRuns(t, g, digests))
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("%+v\n%+v", a, b)
		}
		z := g.zeroDigests()
		got, err := expand(a, 0, g.Chunks(), &z)
		if err != nil || !reflect.DeepEqual(got, digests) {
			t.Fatalf("%v: %v, want %v", err, got, digests)
		}
		for _, r := range a {
			for i, d := range r.Digests {
				if d == z.of(r.First+int64(i)) && len(r.Digests) == int(r.Count) {
					t.Fatalf("zeroes as a digest in %+v", r)
				}
			}
		}
		if x, y := rootOf(t, g, a), rootOf(t, g, drawRuns(t, g, digests)); x != y {
			t.Fatalf("roots %v and %v", x, y)
		}
	})
}

func rootOf(t *rapid.T, g Geometry, runs []Run) Root {
	h := NewRootHash(g)
	for _, r := range runs {
		if err := h.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	root, err := h.Sum()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// A run of many different digests is cut at its limit, and the cut does not depend on how it came.
func TestCanonicalCutsLongRuns(t *testing.T) {
	g := small(10000 * 4096)
	digests := make([]Digest, 10000)
	for i := range digests {
		digests[i] = Digest{1, byte(i), byte(i >> 8)}
	}
	var sizes []int
	c := newCanonical(g, func(r Run) error { sizes = append(sizes, len(r.Digests)); return nil })
	for first := 0; first < len(digests); first += 1000 {
		if err := c.add(Run{First: int64(first), Count: 1000, Digests: digests[first : first+1000]}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.finish(); err != nil || !reflect.DeepEqual(sizes, []int{4096, 4096, 10000 - 2*4096}) {
		t.Errorf("%v: %v", err, sizes)
	}
	if err := c.add(Run{First: 5, Count: 1, Zero: true}); !errors.Is(err, ErrOrder) {
		t.Errorf("backwards: %v", err)
	}
	if err := c.add(Run{}); !errors.Is(err, ErrOrder) {
		t.Errorf("empty: %v", err)
	}
}

func TestRootRefuses(t *testing.T) {
	g := small(10 * 4096)
	h := NewRootHash(g)
	for _, bad := range []Run{{}, {First: 1, Count: 1, Zero: true}, {First: 0, Count: 11, Zero: true}} {
		if err := h.Add(bad); !errors.Is(err, ErrOrder) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, err := h.Sum(); !errors.Is(err, ErrIncomplete) {
		t.Error(err)
	}
}

// The root, computed by hand from the table in docs/STORAGE.md.
func TestRootIsAsDocumented(t *testing.T) {
	g := Geometry{VolumeSize: 3*4096 + 512, ChunkSize: 4096, Algorithm: XXH3_128}
	data := make([]byte, g.VolumeSize)
	data[5000] = 1
	input := append([]byte("CVOLROOT\x00\x01\x01"), make([]byte, 5)...)
	input = binary.BigEndian.AppendUint64(input, 3*4096+512)
	input = binary.BigEndian.AppendUint64(input, 4096)
	for off := 0; off < len(data); off += 4096 {
		sum := xxh3.Hash128(data[off:min(off+4096, len(data))]).Bytes()
		input = append(input, sum[:]...)
	}
	d := g.Sum(data[4096:8192])
	h := NewRootHash(g)
	for _, r := range []Run{{First: 0, Count: 1, Zero: true}, {First: 1, Count: 1, Digests: []Digest{d}}, {First: 2, Count: 2, Zero: true}} {
		if err := h.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := h.Sum(); err != nil || got != Root(blake3.Sum256(input)) {
		t.Errorf("%v, %v", got, err)
	}
}

// What is under the root changes it: volume size, chunk size, algorithm.
func TestRootCoversGeometry(t *testing.T) {
	roots := make(map[Root]Geometry)
	for _, g := range []Geometry{{0, 4096, XXH3_128}, {0, 8192, XXH3_128}, {0, 4096, BLAKE3}, {4096, 4096, XXH3_128},
		{512, 4096, XXH3_128}, {1024, 4096, XXH3_128}, {8192, 4096, XXH3_128}, {8192, 8192, XXH3_128}} {
		h := NewRootHash(g)
		if g.Chunks() > 0 {
			if err := h.Add(Run{First: 0, Count: g.Chunks(), Zero: true}); err != nil {
				t.Fatal(err)
			}
		}
		root, err := h.Sum()
		if err != nil {
			t.Fatal(err)
		}
		if same, ok := roots[root]; ok {
			t.Errorf("%+v and %+v have one root", g, same)
		}
		roots[root] = g
	}
}

// Property: the intervals behave like a bit a chunk, and each knows where its newest record is.
func TestIntervalsProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const chunks = 40
		var v intervals
		model := make([]int64, chunks) // the append that a chunk's record is in; 0: none
		for offset := int64(1); offset <= 30; offset++ {
			first := rapid.Int64Range(0, chunks-1).Draw(t, "first")
			end := rapid.Int64Range(first+1, chunks).Draw(t, "end")
			put := rapid.IntRange(0, 3).Draw(t, "put") > 0
			if put {
				v = v.insert(interval{first: first, end: end, offset: offset, next: offset + 1, alone: true})
			} else {
				v = v.remove(first, end)
			}
			for i := first; i < end; i++ {
				model[i] = 0
				if put {
					model[i] = offset
				}
			}
			compareIntervals(t, v, model)
		}
	})
}

func compareIntervals(t *rapid.T, v intervals, model []int64) {
	limit := int64(len(model))
	for i, append := range model {
		chunk := int64(i)
		if v.contains(chunk) != (append != 0) {
			t.Fatalf("chunk %d: contained %v", i, v.contains(chunk))
		}
		if at := v.search(chunk); append != 0 && (append < v[at].offset || append >= v[at].next) {
			t.Fatalf("chunk %d of append %d is said to be in %+v", i, append, v[at])
		}
		first, end := v.gap(chunk, limit)
		for j := chunk; j < first; j++ {
			if model[j] == 0 {
				t.Fatalf("gap from %d is %d-%d, but %d is one", chunk, first, end, j)
			}
		}
		for j := first; j < end; j++ {
			if model[j] != 0 {
				t.Fatalf("gap from %d is %d-%d, but %d is none", chunk, first, end, j)
			}
		}
		if end < limit && model[end] == 0 {
			t.Fatalf("gap from %d ends at %d, too early", chunk, end)
		}
	}
	for i := 1; i < len(v); i++ {
		if v[i].first < v[i-1].end {
			t.Fatalf("overlap: %+v", v)
		}
	}
}
