package file

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
)

func goodRecord() record {
	return record{
		Version: markVersion, Object: newObjectID(), Inode: 7, Born: 1,
		Mark: dataplane.Mark{StoreID: "s", VolumeID: "v", MigrationID: "m"},
	}
}

func TestRecordRoundTrip(t *testing.T) {
	want := goodRecord()
	p, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := parseRecord(p); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if a, b := newObjectID(), newObjectID(); a == b || len(a) != 2*objectIDSize {
		t.Errorf("object ids %s, %s", a, b)
	}
}

// badRecords are marks that make an object not ours.
var badRecords = map[string]string{
	"empty":           "",
	"no JSON":         "probe",
	"another version": `{"version":2,"object":"000102030405060708090a0b0c0d0e0f","inode":1}`,
	"no object":       `{"version":1,"inode":1}`,
	"short object":    `{"version":1,"object":"00","inode":1}`,
	"no hex":          `{"version":1,"object":"zz0102030405060708090a0b0c0d0e0f","inode":1}`,
	"negative inode":  `{"version":1,"object":"000102030405060708090a0b0c0d0e0f","inode":-1}`,
	"trailing bytes":  `{"version":1,"object":"000102030405060708090a0b0c0d0e0f","inode":1}{}`,
	"too long":        `{"version":1,"object":"000102030405060708090a0b0c0d0e0f"` + strings.Repeat(" ", maxMark) + `}`,
}

func TestBadRecords(t *testing.T) {
	d := open(t, t.TempDir(), nil)
	if err := os.WriteFile(d.path("volume-1"), make([]byte, sector), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, p := range badRecords {
		if _, err := parseRecord([]byte(p)); !errors.Is(err, dataplane.ErrNotOurs) {
			t.Errorf("%s: %v, want ErrNotOurs", name, err)
		}
		if err := unix.Setxattr(d.path("volume-1"), markName, []byte(p), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Lookup(bg, dataplane.Volume{Name: "volume-1"}); !errors.Is(err, dataplane.ErrNotOurs) {
			t.Errorf("%s on a file: %v, want ErrNotOurs", name, err)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	p, err := json.Marshal(goodRecord())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p)
	for _, bad := range badRecords {
		f.Add([]byte(bad))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		r, err := parseRecord(p)
		if err != nil {
			if !errors.Is(err, dataplane.ErrNotOurs) {
				t.Errorf("%v is not ErrNotOurs", err)
			}
			return
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := parseRecord(again); len(again) <= maxMark && (err != nil || back != r) {
			t.Errorf("%+v came back as %+v, %v", r, back, err)
		}
	})
}

func FuzzSidecarOf(f *testing.F) {
	for _, name := range []string{sidecarName(0), sidecarName(1<<64 - 1), ".cvold-mark-007", ".cvold-mark-", "x", newPrefix} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if inode, ok := sidecarOf(name); ok && (sidecarName(inode) != name || unfinished(name)) {
			t.Errorf("%q is taken for the mark of %d", name, inode)
		}
	})
}

// TestInodeUsedAgain: a foreign file that got the inode of one of ours, removed behind our back, is not ours.
func TestInodeUsedAgain(t *testing.T) {
	d := open(t, t.TempDir(), sidecarMarks{})
	v := volumeOf(t, d, "volume-1", sector)
	var st unix.Stat_t
	if err := unix.Stat(d.path(v.Name), &st); err != nil {
		t.Fatal(err)
	}
	for range 100 { // until the file system uses the inode again
		if err := errors.Join(os.Remove(d.path(v.Name)), os.WriteFile(d.path(v.Name), []byte("theirs"), 0o600)); err != nil {
			t.Fatal(err)
		}
		var now unix.Stat_t
		if err := unix.Stat(d.path(v.Name), &now); err != nil {
			t.Fatal(err)
		}
		if now.Ino == st.Ino {
			break
		}
	}
	if _, err := d.Lookup(bg, v); !errors.Is(err, dataplane.ErrNotOurs) {
		t.Errorf("lookup: %v, want ErrNotOurs", err)
	}
	if err := d.Delete(bg, v); !errors.Is(err, dataplane.ErrNotOurs) {
		t.Errorf("delete: %v, want ErrNotOurs", err)
	}
}
