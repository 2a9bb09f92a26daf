package transfer

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"
)

var testTime = time.Date(2026, 11, 23, 21, 0, 0, 0, time.UTC)

func testManifestHeader(g Geometry) ManifestHeader {
	return ManifestHeader{Geometry: g, VolumeID: "0d8d4d4c-7a3b-4a53-9c53-0a8f5b1b5c6d", Class: DeviceDirect, Created: testTime}
}

func writeRuns(t testing.TB, h ManifestHeader, runs []Run) ([]byte, Root) {
	t.Helper()
	var b bytes.Buffer
	m, err := NewManifestWriter(&b, h)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range runs {
		if err := m.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	root, err := m.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), root
}

// readManifest reads to the end: the digests of all chunks and the root.
func readManifest(r io.Reader) (h ManifestHeader, digests []Digest, root Root, err error) {
	m, err := NewManifestReader(r)
	if err != nil {
		return h, nil, root, err
	}
	z := m.Header().zeroDigests()
	for {
		run, err := m.Next()
		if err == io.EOF {
			root, err = m.Root()
			return m.Header(), digests, root, err
		}
		if err != nil {
			return h, nil, root, err
		}
		more, err := expand([]Run{run}, run.First, run.Count, &z)
		if err != nil {
			return h, nil, root, err
		}
		digests = append(digests, more...)
	}
}

// Property: what was written is read; the same digests, however cut, give the same bytes.
func TestManifestProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		g := small(rapid.Int64Range(0, 300).Draw(rt, "sectors") * 512)
		g.Algorithm = rapid.SampledFrom([]Algorithm{XXH3_128, BLAKE3}).Draw(rt, "algorithm")
		digests := drawDigests(rt, g)
		h := testManifestHeader(g)
		a, root := writeRuns(t, h, drawRuns(rt, g, digests))
		b, _ := writeRuns(t, h, drawRuns(rt, g, digests))
		if !bytes.Equal(a, b) {
			rt.Fatal("the same digests, other bytes")
		}
		got, read, readRoot, err := readManifest(bytes.NewReader(a))
		if err != nil || got != h || !reflect.DeepEqual(read, digests) || readRoot != root {
			rt.Fatalf("%v: %+v %v", err, got, read)
		}
	})
}

func goldenRuns(t testing.TB) (runs []Run) {
	t.Helper()
	c, _ := goldenCheckpoint(t)
	err := c.Runs(func(r Run) error {
		r.Digests = append([]Digest(nil), r.Digests...)
		runs = append(runs, r)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return runs
}

func TestManifestGolden(t *testing.T) {
	h := testManifestHeader(goldenGeometry)
	b, root := writeRuns(t, h, goldenRuns(t))
	golden(t, "manifest.golden", b)
	const want = "49094f13d906d83a7ec7811df7a4f7d8fc63e4844b1ebccbcad256f7d4043dc9"
	if root.String() != want {
		t.Errorf("root %v, frozen is %v", root, want)
	}
	frozen, err := os.Open(filepath.Join("testdata", "manifest.golden"))
	if err != nil {
		t.Fatal(err)
	}
	defer frozen.Close()
	if got, _, readRoot, err := readManifest(frozen); err != nil || got != h || readRoot != root {
		t.Errorf("%v: %+v %v", err, got, readRoot)
	}
}

// Cut off at any byte, or with any byte changed, or with a byte more, it is never read as whole.
func TestManifestDamaged(t *testing.T) {
	whole, _ := writeRuns(t, testManifestHeader(goldenGeometry), goldenRuns(t))
	for n := range whole {
		if _, _, _, err := readManifest(bytes.NewReader(whole[:n])); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%d bytes: %v", n, err)
		}
		b := bytes.Clone(whole)
		b[n] ^= 0x20
		if _, _, _, err := readManifest(bytes.NewReader(b)); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
			t.Fatalf("byte %d changed: %v", n, err)
		}
	}
	if _, _, _, err := readManifest(bytes.NewReader(append(whole, 0))); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a byte more: %v", err)
	}
}

// Records with good checksums in a wrong order, or under another root, are refused.
func TestManifestNonsense(t *testing.T) {
	head := testManifestHeader(goldenGeometry).encode()
	zero := func(first, count int64) []byte { return appendRawRecord(nil, kindZero, first, count, nil) }
	end := func(chunks, records int64) []byte {
		return appendRawRecord(nil, kindEnd, chunks, records, make([]byte, 32))
	}
	cases := map[string][]byte{
		"gap":         append(zero(0, 3), zero(4, 17)...),
		"overlap":     append(zero(0, 3), zero(2, 19)...),
		"too early":   append(zero(0, 3), end(3, 1)...),
		"other root":  append(zero(0, 21), end(21, 1)...),
		"unverified":  appendRawRecord(nil, kindUnverified, 0, 21, nil),
		"wrong total": append(zero(0, 21), end(20, 1)...),
		"wrong count": append(zero(0, 21), end(21, 2)...),
	}
	for name, records := range cases {
		b := append(bytes.Clone(head), records...)
		if _, _, _, err := readManifest(bytes.NewReader(b)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestManifestHeaderRefused(t *testing.T) {
	good := testManifestHeader(goldenGeometry)
	for name, change := range map[string]func(*ManifestHeader){
		"long id":      func(h *ManifestHeader) { h.VolumeID = string(make([]byte, MaxVolumeID+1)) },
		"no class":     func(h *ManifestHeader) { h.Class = 0 },
		"bad geometry": func(h *ManifestHeader) { h.ChunkSize = 1 },
	} {
		bad := good
		change(&bad)
		if _, err := NewManifestWriter(io.Discard, bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, at := range map[string]int{"class": 11, "algorithm": 10, "length of id": 40} {
		page := good.encode()
		page[at] = 0xEE
		page, _ = sealHead(page)
		if _, err := NewManifestReader(bytes.NewReader(page)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	page := good.encode()
	page[9] = 2
	if _, err := NewManifestReader(bytes.NewReader(page)); !errors.Is(err, ErrVersion) {
		t.Errorf("version: %v", err)
	}
}

// Errors of the writer and the reader below come through at every byte.
func TestManifestIOErrors(t *testing.T) {
	h, runs := testManifestHeader(goldenGeometry), goldenRuns(t)
	whole, _ := writeRuns(t, h, runs)
	broken := errors.New("broken")
	for n := range whole {
		if err := writeTo(&limitedWriter{n, broken}, h, runs); !errors.Is(err, broken) {
			t.Fatalf("writer broken after %d bytes: %v", n, err)
		}
		r := io.MultiReader(bytes.NewReader(whole[:n]), iotest.ErrReader(broken))
		if _, _, _, err := readManifest(r); !errors.Is(err, broken) {
			t.Fatalf("reader broken after %d bytes: %v", n, err)
		}
	}
	r := io.MultiReader(bytes.NewReader(whole), iotest.ErrReader(broken))
	if _, _, _, err := readManifest(r); !errors.Is(err, broken) {
		t.Errorf("reader broken at the end: %v", err)
	}
}

func writeTo(w io.Writer, h ManifestHeader, runs []Run) error {
	m, err := NewManifestWriter(w, h)
	if err != nil {
		return err
	}
	for _, r := range runs {
		if err := m.Add(r); err != nil {
			return err
		}
	}
	_, err = m.Finish()
	return err
}

type limitedWriter struct {
	left int
	err  error
}

func (w *limitedWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, w.err
	}
	return len(p), nil
}

func TestManifestOrder(t *testing.T) {
	var b bytes.Buffer
	m, err := NewManifestWriter(&b, testManifestHeader(goldenGeometry))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Add(Run{First: 1, Count: 1, Zero: true}); !errors.Is(err, ErrOrder) {
		t.Errorf("gap: %v", err)
	}
	if _, err := m.Finish(); !errors.Is(err, ErrIncomplete) {
		t.Errorf("incomplete: %v", err)
	}
}

func TestWriteManifest(t *testing.T) {
	c, path := goldenCheckpoint(t)
	out := filepath.Join(t.TempDir(), "manifest")
	for range 2 { // it may be written twice
		root, err := WriteManifest(out, c, ServerReadback, "volume", testTime)
		if err != nil {
			t.Fatal(err)
		}
		if want, err := c.Root(); err != nil || root != want {
			t.Errorf("root %v, checkpoint's %v, %v", root, want, err)
		}
		m, err := OpenManifest(out)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Root(); !errors.Is(err, ErrIncomplete) {
			t.Errorf("root before the end: %v", err)
		}
		for err == nil {
			_, err = m.Next()
		}
		if _, again := m.Next(); err != io.EOF || again != io.EOF {
			t.Errorf("end: %v, %v", err, again)
		}
		if got, err := m.Root(); err != nil || got != root || m.Header().VolumeID != "volume" {
			t.Errorf("%v: %v", err, got)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	if c = reopen(t, c, path); !c.Complete() {
		t.Error("the checkpoint is not complete any more")
	}
}

func TestWriteManifestErrors(t *testing.T) {
	out := filepath.Join(t.TempDir(), "manifest")
	empty, _ := create(t, goldenGeometry)
	if _, err := WriteManifest(out, empty, Cached, "v", testTime); !errors.Is(err, ErrIncomplete) {
		t.Errorf("incomplete: %v", err)
	}
	c, _ := goldenCheckpoint(t)
	if _, err := WriteManifest(out, c, 0, "v", testTime); !errors.Is(err, ErrInvalid) {
		t.Errorf("no class: %v", err)
	}
	if _, err := WriteManifest(filepath.Join(out, "x"), c, Cached, "v", testTime); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := WriteManifest(out, c, Cached, "v", testTime); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a manifest is there: %v", err)
	}
	if _, err := OpenManifest(out); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if _, err := OpenManifest(writeFile(t, []byte("short"))); !errors.Is(err, ErrCorrupt) {
		t.Errorf("short: %v", err)
	}
	m, err := NewManifestReader(bytes.NewReader(testManifestHeader(goldenGeometry).encode()))
	if err != nil || m.Close() != nil {
		t.Error("closing what is no file")
	}
}

// FuzzManifest: no input makes the reader panic or take memory without bound; what it takes as whole is canonical
// again when it is written.
func FuzzManifest(f *testing.F) {
	whole, err := os.ReadFile(filepath.Join("testdata", "manifest.golden"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-60])
	f.Add(whole[:manifestHeadSize])
	empty, _ := writeRuns(f, testManifestHeader(small(0)), nil)
	f.Add(empty)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := NewManifestReader(bytes.NewReader(b))
		if err != nil {
			return
		}
		h := NewRootHash(m.Header().Geometry)
		for err == nil {
			var r Run
			if r, err = m.Next(); err == nil {
				if err := h.Add(r); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err != io.EOF {
			return
		}
		want, err := h.Sum()
		if got, gotErr := m.Root(); err != nil || gotErr != nil || got != want {
			t.Errorf("root %v, %v; want %v, %v", got, gotErr, want, err)
		}
	})
}
