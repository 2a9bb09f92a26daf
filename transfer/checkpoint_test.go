package transfer

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files anew; the formats are frozen, so this needs a new version")

// known reads a checkpoint back as a digest a chunk; the zero Digest is a chunk that is not verified.
func known(t testing.TB, c *Checkpoint) []Digest {
	t.Helper()
	g := c.Header().Geometry
	z := g.zeroDigests()
	out := make([]Digest, g.Chunks())
	next := int64(0)
	err := c.Runs(func(r Run) error {
		if r.First < next {
			return fmt.Errorf("chunk %d after %d", r.First, next)
		}
		next = r.End()
		digests, err := expand([]Run{r}, r.First, r.Count, &z)
		copy(out[r.First:], digests)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var verified int64
	for i, d := range out {
		if c.Verified(int64(i)) != (d != Digest{}) {
			t.Fatalf("chunk %d: verified %v, digest %v", i, c.Verified(int64(i)), d)
		}
		if _, n := g.Range(int64(i)); d != (Digest{}) {
			verified += n
		}
	}
	if c.VerifiedBytes() != verified || c.Complete() != (verified == g.VolumeSize) {
		t.Fatalf("%d bytes verified, complete %v; want %d", c.VerifiedBytes(), c.Complete(), verified)
	}
	return out
}

// Property: a checkpoint says what was appended last of each chunk, before and after it is opened again.
func TestCheckpointProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		g := small(rapid.Int64Range(1, 500).Draw(rt, "sectors") * 512)
		g.Algorithm = rapid.SampledFrom([]Algorithm{XXH3_128, BLAKE3}).Draw(rt, "algorithm")
		c, path := create(t, g)
		model := make([]Digest, g.Chunks())
		for range rapid.IntRange(0, 12).Draw(rt, "steps") {
			first := rapid.Int64Range(0, g.Chunks()-1).Draw(rt, "first")
			count := rapid.Int64Range(1, g.Chunks()-first).Draw(rt, "count")
			switch rapid.IntRange(0, 6).Draw(rt, "step") {
			case 0:
				if err := c.Invalidate(first, count); err != nil {
					rt.Fatal(err)
				}
				clear(model[first : first+count])
			case 1:
				c = reopen(t, c, path)
			default:
				appendSome(rt, c, model, first, count)
			}
			if got := known(t, c); !reflect.DeepEqual(got, model) {
				rt.Fatalf("got  %v\nwant %v", got, model)
			}
		}
		c = reopen(t, c, path)
		if got := known(t, c); !reflect.DeepEqual(got, model) {
			rt.Fatalf("opened again: got %v\nwant %v", got, model)
		}
	})
}

// appendSome appends drawn digests for some of the chunks, in one Append.
func appendSome(t *rapid.T, c *Checkpoint, model []Digest, first, count int64) {
	digests := drawDigests(t, c.Header().Geometry)
	var runs []Run
	for _, r := range drawRuns(t, c.Header().Geometry, digests) {
		if r, ok := r.clip(first, first+count); ok && rapid.IntRange(0, 4).Draw(t, "skip") > 0 {
			runs = append(runs, r)
			copy(model[r.First:r.End()], digests[r.First:r.End()])
		}
	}
	if err := c.Append(runs); err != nil {
		t.Fatal(err)
	}
}

// Appends with gaps, filled by later ones: each chunk is found where it was appended last.
func TestCheckpointGapsFilledLater(t *testing.T) {
	c, path := create(t, small(6*4096))
	model := make([]Digest, 6)
	for i, chunks := range [][]int64{{0, 4}, {2}, {4}, {1}, {3, 5}, {0}, {1}} {
		var runs []Run
		for _, chunk := range chunks {
			model[chunk] = Digest{1, byte(i), byte(chunk)}
			runs = append(runs, Run{First: chunk, Count: 1, Digests: []Digest{model[chunk]}})
		}
		if err := c.Append(runs); err != nil {
			t.Fatal(err)
		}
		if got := known(t, c); !reflect.DeepEqual(got, model) {
			t.Fatalf("got  %v\nwant %v", got, model)
		}
	}
	if got := known(t, reopen(t, c, path)); !reflect.DeepEqual(got, model) {
		t.Fatalf("got  %v\nwant %v", got, model)
	}
}

// goldenGeometry has a short last chunk.
var goldenGeometry = Geometry{VolumeSize: 20*4096 + 512, ChunkSize: 4096, Algorithm: XXH3_128}

// goldenAppends are the appends of the golden checkpoint, one slice each.
func goldenAppends() [][]Run {
	a, b, c := Digest{0xAA, 15: 0xA1}, Digest{0xBB, 15: 0xB1}, Digest{0xCC, 15: 0xC1}
	return [][]Run{
		{{First: 0, Count: 8, Zero: true}, {First: 8, Count: 3, Digests: []Digest{a, b, c}}},
		{{First: 11, Count: 5, Digests: []Digest{b}}},
		{{First: 16, Count: 5, Zero: true}},
		{{First: 9, Count: 1, Digests: []Digest{c}}},
	}
}

func goldenCheckpoint(t testing.TB) (*Checkpoint, string) {
	t.Helper()
	c, path := create(t, goldenGeometry)
	for _, runs := range goldenAppends() {
		if err := c.Append(runs); err != nil {
			t.Fatal(err)
		}
	}
	return c, path
}

// golden compares with a file under testdata. The formats are frozen: a difference is a new version.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes differ from the %d that are frozen", name, len(got), len(want))
	}
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeFile(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(memoryDir(t), "file")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCheckpointGolden(t *testing.T) {
	c, path := goldenCheckpoint(t)
	golden(t, "checkpoint.golden", readFile(t, path))
	frozen := writeFile(t, readFile(t, filepath.Join("testdata", "checkpoint.golden")))
	opened, err := OpenCheckpoint(frozen)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	if opened.Header() != testHeader(goldenGeometry) {
		t.Errorf("header %+v", opened.Header())
	}
	if !reflect.DeepEqual(known(t, opened), known(t, c)) || !opened.Complete() {
		t.Error("the frozen file says something else")
	}
	if !bytes.Equal(readFile(t, frozen), readFile(t, path)) {
		t.Error("opening changed the file")
	}
}

func TestCheckpointInUse(t *testing.T) {
	c, path := goldenCheckpoint(t)
	if _, err := OpenCheckpoint(path); !errors.Is(err, ErrInUse) {
		t.Errorf("second open: %v", err)
	}
	reopen(t, c, path)
}

// Create replaces a checkpoint that is void.
func TestCheckpointReplaced(t *testing.T) {
	c, path := goldenCheckpoint(t)
	fresh, err := CreateCheckpoint(path, testHeader(goldenGeometry))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Append([]Run{{First: 0, Count: 1, Zero: true}}); err != nil {
		t.Error(err) // to a file without a name
	}
	if fresh = reopen(t, fresh, path); fresh.VerifiedBytes() != 0 {
		t.Error("the new checkpoint is not empty")
	}
}

func TestCheckpointRefusesAppends(t *testing.T) {
	c, path := create(t, small(MaxAppendDigests*2*4096))
	before := readFile(t, path)
	cases := map[string]struct {
		runs []Run
		want error
	}{
		"past the end": {[]Run{{First: c.Header().Chunks(), Count: 1, Zero: true}}, ErrOrder},
		"negative":     {[]Run{{First: -1, Count: 1, Zero: true}}, ErrOrder},
		"empty run":    {[]Run{{}}, ErrOrder},
		"backwards":    {[]Run{{First: 5, Count: 1, Zero: true}, {First: 0, Count: 1, Zero: true}}, ErrOrder},
		"overlap":      {[]Run{{First: 0, Count: 2, Zero: true}, {First: 1, Count: 1, Zero: true}}, ErrOrder},
		"too many": {[]Run{{First: 0, Count: MaxAppendDigests + 1,
			Digests: make([]Digest, MaxAppendDigests+1)}}, ErrTooLarge},
	}
	for name, test := range cases {
		if err := c.Append(test.runs); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := c.Invalidate(0, c.Header().Chunks()+1); !errors.Is(err, ErrOrder) {
		t.Errorf("invalidate: %v", err)
	}
	if err := errors.Join(c.Append(nil), c.Invalidate(3, 0)); err != nil {
		t.Errorf("nothing to append: %v", err)
	}
	if !bytes.Equal(before, readFile(t, path)) {
		t.Error("a refused append wrote something")
	}
	// As much as is allowed.
	digests := make([]Digest, MaxAppendDigests)
	for i := range digests {
		digests[i] = Digest{1, byte(i), byte(i >> 8)}
	}
	if err := c.Append([]Run{{First: 0, Count: MaxAppendDigests, Digests: digests}}); err != nil {
		t.Error(err)
	}
	if c = reopen(t, c, path); c.VerifiedBytes() != MaxAppendDigests*4096 {
		t.Error("lost")
	}
}

// Many zero runs with gaps are bounded too, although they hold no digest.
func TestCheckpointRefusesManyRuns(t *testing.T) {
	c, _ := create(t, small(2<<30))
	runs := make([]Run, maxAppendBytes/recordHeadSize+1)
	for i := range runs {
		runs[i] = Run{First: int64(2 * i), Count: 1, Zero: true}
	}
	if err := c.Append(runs); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	if raceEnabled {
		return
	}
	if err := c.Append(runs[:len(runs)-1]); err != nil {
		t.Error(err)
	}
}

func TestCheckpointFailureIsSticky(t *testing.T) {
	c, path := goldenCheckpoint(t)
	c.sync = fullDisk
	if err := c.Append([]Run{{First: 0, Count: 1, Zero: true}}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	c.sync = func(*os.File) error { return nil }
	for _, err := range []error{c.Append([]Run{{First: 0, Count: 1, Zero: true}}), c.Invalidate(0, 1), c.releaseRoom()} {
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("after a failure: %v", err)
		}
	}
	if !c.Complete() {
		t.Error("what was durable before is gone")
	}
	reopen(t, c, path)
}

func TestCheckpointWriteFails(t *testing.T) {
	c, path := goldenCheckpoint(t)
	readOnly, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	c.file, readOnly = readOnly, c.file
	defer readOnly.Close()
	for range 2 {
		if err := c.Append([]Run{{First: 0, Count: 1, Zero: true}}); !errors.Is(err, syscall.EBADF) {
			t.Errorf("write to a file open for reading: %v", err)
		}
	}
}

func TestCheckpointClosed(t *testing.T) {
	c, _ := goldenCheckpoint(t)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Append([]Run{{First: 0, Count: 1, Zero: true}}); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	if err := c.Close(); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	if _, err := c.Root(); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}

// The room that Create reserves is enough for the worst case: chunks of data and of zeroes in turn, in batches.
func TestCheckpointRoom(t *testing.T) {
	for _, g := range []Geometry{NewGeometry(4096 << 20), {4096 << 20, DefaultChunkSize, BLAKE3}} {
		c, path := create(t, g)
		reserved := allocated(t, path)
		if reserved < checkpointRoom(g)+manifestRoom(g) {
			t.Skipf("this file system reserves no room: %d bytes", reserved)
		}
		batch := appendChunks(g)
		for first := int64(0); first < g.Chunks(); first += batch {
			runs := make([]Run, 0, batch)
			for i := first; i < first+batch; i++ {
				r := Run{First: i, Count: 1, Zero: i%2 == 0}
				if !r.Zero {
					r.Digests = []Digest{{1, byte(i), byte(i >> 8)}}
				}
				runs = append(runs, r)
			}
			if err := c.Append(runs); err != nil {
				t.Fatal(err)
			}
		}
		if got := allocated(t, path); got != reserved {
			t.Errorf("%v: %d bytes allocated, %d were reserved", g.Algorithm, got, reserved)
		}
		if c.size() > checkpointRoom(g) {
			t.Errorf("%v: %d bytes in a room for %d", g.Algorithm, c.size(), checkpointRoom(g))
		}
		manifest := filepath.Join(t.TempDir(), "manifest")
		if _, err := WriteManifest(manifest, c, Cached, "v", testTime); err != nil {
			t.Fatal(err)
		}
		if n := int64(len(readFile(t, manifest))); n > manifestRoom(g) || n > c.size() {
			t.Errorf("%v: manifest of %d bytes in a room for %d", g.Algorithm, n, manifestRoom(g))
		}
		if got := allocated(t, path); got > c.size()+8192 {
			t.Errorf("%v: %d bytes still allocated for %d", g.Algorithm, got, c.size())
		}
		reopen(t, c, path)
	}
}

func allocated(t *testing.T, path string) int64 {
	t.Helper()
	var s syscall.Stat_t
	if err := syscall.Stat(path, &s); err != nil {
		t.Fatal(err)
	}
	return s.Blocks * 512
}

// Where there is no room for the checkpoint, there is none, and the error says so; also when the rest of the room is
// gone at the time it is opened again.
func TestCheckpointNoRoom(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("mounting a small file system: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, 0) })
	path := filepath.Join(dir, "checkpoint")
	if _, err := CreateCheckpoint(path, testHeader(NewGeometry(1<<40))); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("create: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	c, err := CreateCheckpoint(path, testHeader(NewGeometry(1<<30)))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.releaseRoom(), c.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "full"), make([]byte, 4<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if _, err := OpenCheckpoint(path); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("open: %v", err)
	}
}

// What cannot be settled on the medium is not opened.
func TestCheckpointOpenNeedsToWrite(t *testing.T) {
	c, path := goldenCheckpoint(t)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := openCheckpoint(f); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("open for reading only: %v", err)
	}
}
