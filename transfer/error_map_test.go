package transfer

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/cvold/cvold/internal/program"
)

// Property: whatever comes in whatever order, the map has the stretches that a naive bitmap has.
func TestErrorMapProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const size = 200
		var m ErrorMap
		var naive [size]bool
		for range rapid.IntRange(0, 60).Draw(rt, "ranges") {
			r := ErrorRange{Offset: rapid.Int64Range(0, size-1).Draw(rt, "offset")}
			r.Length = rapid.Int64Range(1, min(size-r.Offset, 20)).Draw(rt, "length")
			if err := m.Add(r); err != nil {
				rt.Fatal(err)
			}
			for i := r.Offset; i < r.End(); i++ {
				naive[i] = true
			}
		}
		var want []ErrorRange
		bytes := int64(0)
		for i, bad := range naive {
			switch {
			case !bad:
				continue
			case i > 0 && naive[i-1]:
				want[len(want)-1].Length++
			default:
				want = append(want, ErrorRange{Offset: int64(i), Length: 1})
			}
			bytes++
		}
		if got := m.Ranges(); !slices.Equal(got, want) || m.Bytes() != bytes {
			rt.Fatalf("%v of %d bytes, want %v of %d", got, m.Bytes(), want, bytes)
		}
	})
}

// A full map takes what belongs to a range that it has, and nothing else; closing a gap makes room.
func TestErrorMapLimit(t *testing.T) {
	var m ErrorMap
	for i := range int64(maxErrorRanges) {
		if err := m.Add(ErrorRange{Offset: 3 * i, Length: 1}); err != nil {
			t.Fatal(err)
		}
	}
	more := ErrorRange{Offset: 3 * maxErrorRanges, Length: 1}
	if err := m.Add(more); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one range more: %v", err)
	}
	if n := m.Bytes(); n != maxErrorRanges {
		t.Errorf("%d bytes, the refused one among them", n)
	}
	if err := m.Add(ErrorRange{Offset: 1, Length: 1}); err != nil {
		t.Errorf("beside a range: %v", err)
	}
	if err := m.Add(ErrorRange{Offset: 2, Length: 1}); err != nil {
		t.Errorf("between two ranges: %v", err)
	}
	if err := m.Add(more); err != nil {
		t.Errorf("into the room: %v", err)
	}
}

func TestErrorMapConcurrent(t *testing.T) {
	var m ErrorMap
	var g sync.WaitGroup
	for worker := range int64(8) {
		g.Go(func() {
			for i := range int64(100) {
				if err := m.Add(ErrorRange{Offset: (i*8 + worker) * 512, Length: 512}); err != nil {
					t.Error(err)
				}
				_, _ = m.Bytes(), m.Ranges()
			}
		})
	}
	g.Wait()
	if got := m.Ranges(); !slices.Equal(got, []ErrorRange{{Offset: 0, Length: 800 * 512}}) {
		t.Errorf("%v", got)
	}
}

// mapfiles are maps and what is written of them.
var mapfiles = []struct {
	name   string
	size   int64
	ranges []ErrorRange
	text   string
}{
	{"nothing lost", 1 << 20, nil, "0x00000000  0x00100000  +\n"},
	{"all lost", 4096, []ErrorRange{{Offset: 0, Length: 4096}}, "0x00000000  0x00001000  -\n"},
	{"both ends", 1 << 20, []ErrorRange{{Offset: 0, Length: 4096}, {Offset: 1<<20 - 512, Length: 512}},
		"0x00000000  0x00001000  -\n0x00001000  0x000FEE00  +\n0x000FFE00  0x00000200  -\n"},
	{"beyond 4 GiB", 1 << 40, []ErrorRange{{Offset: 1 << 36, Length: 4096}},
		"0x00000000  0x1000000000  +\n0x1000000000  0x00001000  -\n0x1000001000  0xEFFFFFF000  +\n"},
}

func TestErrorMapFile(t *testing.T) {
	for _, test := range mapfiles {
		var m ErrorMap
		for _, r := range test.ranges {
			if err := m.Add(r); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(t.TempDir(), "map")
		if err := m.WriteFile(path, test.size); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, blocks, _ := bytes.Cut(text, []byte("#      pos        size  status\n"))
		if string(blocks) != test.text {
			t.Errorf("%s: %s", test.name, text)
		}
	}
	var m ErrorMap
	if err := m.WriteFile("/no/such/directory/map", 512); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a directory: %v", err)
	}
}

// ddrescuelog reads the map, finds all of the source in it, and what is lost where it was put.
func TestErrorMapDdrescuelog(t *testing.T) {
	ddrescuelog := program.Need(t, "ddrescuelog")
	run := func(args ...string) string {
		out, err := exec.CommandContext(t.Context(), ddrescuelog, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
		return string(out)
	}
	for _, test := range mapfiles {
		var m ErrorMap
		want := ""
		for _, r := range test.ranges {
			if err := m.Add(r); err != nil {
				t.Fatal(err)
			}
			for off := r.Offset; off < r.End(); off += 512 {
				want += strconv.FormatInt(off/512, 10) + "\n"
			}
		}
		path := filepath.Join(t.TempDir(), "map")
		if err := m.WriteFile(path, test.size); err != nil {
			t.Fatal(err)
		}
		run("--show-status", path)
		if got := run("--list-blocks=-", path); got != want {
			t.Errorf("%s: bad blocks %q, want %q", test.name, got, want)
		}
		if got := run("--list-blocks=?*/", path); got != "" {
			t.Errorf("%s: blocks that are neither finished nor bad: %q", test.name, got)
		}
	}
}
