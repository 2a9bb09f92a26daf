package transfer

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cvold/cvold/internal/program"
)

// readMapfiles are mapfiles of a source of 64 KiB, and what is not finished in them.
var readMapfiles = []struct {
	name, text string
	want       []ErrorRange
	err        error
}{
	{"all states, C numbers, comments", "# Mapfile.\n0x0 ?\n0 0x1000 +\n0x1000 4096 -\n8192 4096 *\n0x3000 010000 / # odd\n16384 4096 +\n20480 45056 ?\n",
		[]ErrorRange{{Offset: 4096, Length: 12288}, {Offset: 20480, Length: 45056}}, nil},
	{"not from the beginning, not to the end", "0 + 1\n4096 4096 +\n", []ErrorRange{{Offset: 0, Length: 4096}, {Offset: 8192, Length: 57344}}, nil},
	{"bad from later on", "0 F 2\n4096 61440 -\n", []ErrorRange{{Offset: 0, Length: 65536}}, nil},
	{"as long as files can be", "0 G 1\n0 4096 +\n4096 0x7FFFFFFFFFFFEFFF ?\n", []ErrorRange{{Offset: 4096, Length: 61440}}, nil},
	{"nothing", "", nil, ErrCorrupt},
	{"no blocks", "0 + 1\n", nil, ErrCorrupt},
	{"no status line", "0 4096 +\n4096 61440 -\n", nil, ErrCorrupt},
	{"no such status", "0 x 1\n0 65536 +\n", nil, ErrCorrupt},
	{"no such pass", "0 + x\n0 65536 +\n", nil, ErrCorrupt},
	{"no such block status", "0 + 1\n0 65536 F\n", nil, ErrCorrupt},
	{"two fields", "0 + 1\n0 65536\n", nil, ErrCorrupt},
	{"negative", "0 + 1\n-1 65536 +\n", nil, ErrCorrupt},
	{"negative size", "0 + 1\n0 -1 +\n", nil, ErrCorrupt},
	{"empty block", "0 + 1\n0 0 +\n", nil, ErrCorrupt},
	{"past all files", "0 + 1\n1 0x7FFFFFFFFFFFFFFF -\n", nil, ErrCorrupt},
	{"a gap", "0 + 1\n0 4096 +\n8192 4096 +\n", nil, ErrCorrupt},
	{"an overlap", "0 + 1\n0 4096 +\n0 4096 +\n", nil, ErrCorrupt},
	{"of a longer source", "0 + 1\n0 65537 +\n", nil, ErrCorrupt},
	{"a long line", "# " + strings.Repeat("x", 1<<20), nil, ErrCorrupt},
	{"a long file", strings.Repeat("#\n", maxMapFile/2+1), nil, ErrTooLarge},
}

func TestReadErrorMap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "map")
	for _, test := range readMapfiles {
		if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := ReadErrorMap(path, 65536)
		if !errors.Is(err, test.err) || err != nil && test.err == nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if err == nil && !slices.Equal(m.Ranges(), test.want) {
			t.Errorf("%s: %v", test.name, m.Ranges())
		}
	}
	if _, err := ReadErrorMap(path+"none", 0); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// What is written is read again, also after ddrescuelog has written it.
func TestReadErrorMapRoundTrip(t *testing.T) {
	for _, test := range mapfiles {
		for _, untried := range []bool{false, true} {
			m := ErrorMap{ranges: test.ranges, untried: untried}
			path := filepath.Join(t.TempDir(), "map")
			if err := m.WriteFile(path, test.size); err != nil {
				t.Fatal(err)
			}
			mustBeRead(t, path, test.size, test.ranges)
		}
	}
}

func TestReadErrorMapDdrescuelog(t *testing.T) {
	ddrescuelog := program.Need(t, "ddrescuelog")
	for _, test := range mapfiles {
		m := ErrorMap{ranges: test.ranges}
		path := filepath.Join(t.TempDir(), "map")
		if err := m.WriteFile(path, test.size); err != nil {
			t.Fatal(err)
		}
		theirs, err := exec.CommandContext(t.Context(), ddrescuelog, "--change-types=-,*", path).Output()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, theirs, 0o600); err != nil {
			t.Fatal(err)
		}
		mustBeRead(t, path, test.size, test.ranges)
	}
}

func mustBeRead(t *testing.T, path string, size int64, want []ErrorRange) {
	t.Helper()
	m, err := ReadErrorMap(path, size)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(m.Ranges(), want) {
		t.Errorf("read %v, want %v", m.Ranges(), want)
	}
}

// FuzzErrorMap: no input makes the reader panic; what it takes lies in the source, and is the same again when it is written.
func FuzzErrorMap(f *testing.F) {
	const size = 65536
	for _, test := range readMapfiles {
		if len(test.text) < 1<<10 {
			f.Add([]byte(test.text))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseErrorMap(bytes.NewReader(b), size)
		if err != nil {
			return
		}
		var text bytes.Buffer
		if err := m.write(&text, size); err != nil {
			t.Fatal(err)
		}
		again, err := parseErrorMap(&text, size)
		if err != nil || !slices.Equal(again.Ranges(), m.Ranges()) {
			t.Errorf("%v, %v; want %v", again, err, m.Ranges())
		}
	})
}
