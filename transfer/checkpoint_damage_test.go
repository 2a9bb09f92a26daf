package transfer

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// prefixes are what a checkpoint may know when only the first appends are there.
func prefixes(t testing.TB) (states [][]Digest) {
	t.Helper()
	c, _ := create(t, goldenGeometry)
	states = append(states, known(t, c))
	for _, runs := range goldenAppends() {
		if err := c.Append(runs); err != nil {
			t.Fatal(err)
		}
		states = append(states, known(t, c))
	}
	return states
}

// Cut off at each byte, the file opens with the appends that are whole, or not at all; and it can be gone on with.
func TestCheckpointTruncated(t *testing.T) {
	_, path := goldenCheckpoint(t)
	whole := readFile(t, path)
	states := prefixes(t)
	for n := range whole {
		if n > 100 && n < checkpointHeadSize-100 {
			continue // the header, padded
		}
		cut := writeFile(t, whole[:n])
		c, err := OpenCheckpoint(cut)
		if n < checkpointHeadSize {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%d bytes: %v", n, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if want := states[(n-checkpointHeadSize)/sector]; !reflect.DeepEqual(known(t, c), want) {
			t.Fatalf("%d bytes: wrong content", n)
		}
		if n%31 != 0 {
			_ = c.Close()
			continue // going on costs many flushes
		}
		for _, runs := range goldenAppends() {
			if err := c.Append(runs); err != nil {
				t.Fatal(err)
			}
		}
		if c = reopen(t, c, cut); !reflect.DeepEqual(known(t, c), states[4]) {
			t.Fatalf("%d bytes: wrong content after going on", n)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A byte changed in the header or in any append but the last is reported; in the last it cannot be told from an
// interrupted write, and the append is cut off.
func TestCheckpointFlipped(t *testing.T) {
	_, path := goldenCheckpoint(t)
	whole := readFile(t, path)
	states := prefixes(t)
	last := len(whole) - sector
	for at := range whole {
		if at > 120 && at < checkpointHeadSize && at%97 != 0 {
			continue // the header's padding, sampled
		}
		b := bytes.Clone(whole)
		b[at] ^= 0x10
		c, err := OpenCheckpoint(writeFile(t, b))
		switch {
		case at < last && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion):
			t.Fatalf("byte %d: %v", at, err)
		case at >= last && err != nil:
			t.Fatalf("byte %d: %v", at, err)
		case at >= last && !reflect.DeepEqual(known(t, c), states[3]):
			t.Fatalf("byte %d: wrong content", at)
		}
		if err == nil {
			_ = c.Close()
		}
	}
}

// A torn append: any of its sectors did not reach the disk.
func TestCheckpointTorn(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		g := small(1000 * 4096)
		c, path := create(t, g)
		if err := c.Append([]Run{{First: 0, Count: 10, Zero: true}}); err != nil {
			rt.Fatal(err)
		}
		durable := c.size()
		digests := make([]Digest, 200)
		for i := range digests {
			digests[i] = Digest{1, byte(i)}
		}
		if err := c.Append([]Run{{First: 10, Count: 200, Digests: digests}}); err != nil {
			rt.Fatal(err)
		}
		b := readFile(t, path)
		lost := 0
		for at := int(durable); at < len(b); at += sector {
			if rapid.Bool().Draw(rt, "lost") {
				clear(b[at : at+sector])
				lost++
			}
		}
		torn, err := OpenCheckpoint(writeFile(t, b))
		if err != nil {
			rt.Fatal(err)
		}
		defer torn.Close()
		want := int64(10)
		if lost == 0 {
			want = 210
		}
		if got := torn.VerifiedBytes() / g.ChunkSize; got != want {
			rt.Fatalf("%d sectors lost: %d chunks verified", lost, got)
		}
	})
}

// Two appends damaged, the last one among them: the whole one between them, or nothing, tells.
func TestCheckpointDamageBehindDamage(t *testing.T) {
	_, path := goldenCheckpoint(t)
	b := readFile(t, path)
	b[checkpointHeadSize+sector] ^= 1
	b[checkpointHeadSize+3*sector] ^= 1
	if _, err := OpenCheckpoint(writeFile(t, b)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a whole append lies behind the damage: %v", err)
	}
}

// forge writes an append with good checksums and these records.
func forge(t *testing.T, records []byte) string {
	t.Helper()
	page, crc := testHeader(goldenGeometry).encode()
	l := appendLog{geometry: goldenGeometry, headCRC: crc}
	return writeFile(t, append(page, l.encode(0, records)...))
}

// Records with good checksums that make no sense were not interrupted: they are reported even at the end.
func TestCheckpointNonsense(t *testing.T) {
	zero := func(first, count int64) []byte { return appendRawRecord(nil, kindZero, first, count, nil) }
	cases := map[string][]byte{
		"past the end":  zero(20, 2),
		"negative":      zero(-1, 2),
		"none":          zero(3, 0),
		"overflow":      zero(1, 1<<63-1),
		"unknown kind":  appendRawRecord(nil, 77, 0, 1, nil),
		"end record":    appendRawRecord(nil, kindEnd, 0, 1, make([]byte, 32)),
		"long distinct": appendRawRecord(nil, kindDistinct, 0, maxRunDigests+1, nil),
		"bad checksum":  append(zero(0, 1)[:23], 9),
		"cut short":     zero(0, 1)[:10],
		"no digests":    appendRawRecord(nil, kindDistinct, 0, 2, nil),
		"backwards":     append(zero(5, 2), zero(0, 2)...),
		"overlap":       append(zero(0, 2), zero(1, 2)...),
	}
	for name, records := range cases {
		if _, err := OpenCheckpoint(forge(t, records)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheckpointHeaderRefused(t *testing.T) {
	change := func(at int, to ...byte) []byte {
		page, _ := testHeader(goldenGeometry).encode()
		copy(page[at:], to)
		page, _ = sealHead(page)
		return page
	}
	cases := map[string]struct {
		page []byte
		want error
	}{
		"empty":             {nil, ErrCorrupt},
		"other file":        {bytes.Repeat([]byte("x"), 8192), ErrCorrupt},
		"later version":     {change(8, 0, 2), ErrVersion},
		"unknown algorithm": {change(10, 7), ErrCorrupt},
		"negative size":     {change(16, 0xFF), ErrCorrupt},
		"odd chunk size":    {change(31, 1), ErrCorrupt},
		"long identity":     {change(56, 0xFF), ErrCorrupt},
		"long identity 2":   {change(58, 0xFF), ErrCorrupt},
	}
	for name, c := range cases {
		if _, err := OpenCheckpoint(writeFile(t, c.page)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := OpenCheckpoint(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	h := testHeader(goldenGeometry)
	h.SourceIdentity = string(make([]byte, MaxIdentity+1))
	if _, err := CreateCheckpoint(filepath.Join(t.TempDir(), "c"), h); !errors.Is(err, ErrInvalid) {
		t.Errorf("long identity: %v", err)
	}
}

// A file damaged while it is open is found when it is read.
func TestCheckpointDamagedWhileOpen(t *testing.T) {
	c, path := goldenCheckpoint(t)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{0xFF}, checkpointHeadSize+appendHeadSize+30); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Root(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("damaged: %v", err)
	}
	if err := f.Truncate(checkpointHeadSize); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Root(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("cut off: %v", err)
	}
	stop := errors.New("stop")
	whole, _ := goldenCheckpoint(t)
	if err := whole.Runs(func(Run) error { return stop }); err != stop {
		t.Errorf("error of fn: %v", err)
	}
}

// FuzzOpenCheckpoint: no input makes it panic or take memory without bound, and what it opens says the same when it is
// opened again. Opening flushes, so run it with -fuzzminimizetime=10x: the default spends its time on shrinking inputs.
func FuzzOpenCheckpoint(f *testing.F) {
	whole, err := os.ReadFile(filepath.Join("testdata", "checkpoint.golden"))
	if err != nil {
		f.Fatal(err)
	}
	page := whole[:checkpointHeadSize]
	f.Add(whole[checkpointHeadSize:], uint8(0), uint16(0))
	f.Add(whole[checkpointHeadSize:len(whole)-100], uint8(3), uint16(30))
	f.Add(whole[checkpointHeadSize+sector:], uint8(0), uint16(7))
	f.Add([]byte{}, uint8(200), uint16(40))
	f.Fuzz(func(t *testing.T, log []byte, value uint8, at uint16) {
		head := bytes.Clone(page)
		if value != 0 && int(at) < len(head)-headCRCSize {
			head[at] = value
			head, _ = sealHead(head)
		}
		if h, _, err := decodeCheckpointHeader(head); len(log) > 1<<20 || err == nil && h.Chunks() > 1<<12 {
			return // opening would reserve room for all of it
		}
		path := writeFile(t, append(head, log...))
		c, err := OpenCheckpoint(path)
		if err != nil {
			return
		}
		before := c.VerifiedBytes()
		known(t, c)
		if c = reopen(t, c, path); c.VerifiedBytes() != before {
			t.Errorf("%d bytes verified, then %d", before, c.VerifiedBytes())
		}
		_ = c.Close()
	})
}
