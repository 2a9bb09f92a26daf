package file

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/internal/program"
)

// TestUnfit: what cannot be a volume says why, as a candidate and when it is adopted all the same, and is not touched.
func TestUnfit(t *testing.T) {
	everywhere(t, func(t *testing.T, d *Driver) {
		for name, size := range map[string]int64{"empty": 0, "odd": 1000, "linked": 4096} {
			if err := os.WriteFile(d.path(name), make([]byte, size), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(os.Link(d.path("linked"), d.path("linked2")), unix.Mkfifo(d.path("pipe"), 0o600),
			os.Mkdir(d.path("directory"), 0o700), os.Symlink("empty", d.path("link"))); err != nil {
			t.Fatal(err)
		}
		says := map[string]string{"empty": "empty", "odd": "truncate --size=%512", "linked": "2 names", "linked2": "2 names"}
		err := d.Manageable(bg, func(c dataplane.Candidate) error {
			if want := says[c.Name]; want == "" || !strings.Contains(c.Unfit, want) {
				t.Errorf("%+v, want %q", c, want)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]error{
			"empty": dataplane.ErrNotSupported, "odd": dataplane.ErrNotSupported, "linked": dataplane.ErrNotSupported,
			"pipe": dataplane.ErrNotSupported, "none": dataplane.ErrNotFound, ".cvold-lock": ErrName, "../x": ErrName,
		} {
			_, err := d.Adopt(bg, dataplane.Volume{ID: "A", Name: "volume-A"}, name, markFor("A"))
			if !errors.Is(err, want) || !strings.Contains(err.Error(), says[name]) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		}
		for _, name := range []string{"directory", "link"} {
			if _, err := d.Adopt(bg, dataplane.Volume{ID: "A", Name: "volume-A"}, name, markFor("A")); err == nil {
				t.Errorf("%s was adopted", name)
			}
		}
		if got := listed(t, d); got != "" {
			t.Errorf("listed %q", got)
		}
	})
}

// TestAdoptBusy: a file that somebody else has open, with a lock as QEMU has or without any, is not taken.
func TestAdoptBusy(t *testing.T) {
	program.Need(t, "qemu-io")
	d := open(t, t.TempDir(), nil)
	if err := os.WriteFile(d.path("found"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	adopt := func() error {
		_, err := d.Adopt(bg, dataplane.Volume{ID: "A", Name: "volume-A"}, "found", markFor("A"))
		return err
	}
	f, err := os.Open(d.path("found"))
	if err != nil {
		t.Fatal(err)
	}
	if err := adopt(); !errors.Is(err, dataplane.ErrBusy) {
		t.Errorf("a reader has it open: %v", err)
	}
	f.Close()
	qemu := exec.Command("qemu-io", "-f", "raw", d.path("found"))
	in, err := qemu.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := qemu.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := qemu.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 16)); err != nil { // its prompt
		t.Fatal(err)
	}
	if err := adopt(); !errors.Is(err, dataplane.ErrBusy) {
		t.Errorf("QEMU has it open: %v", err)
	}
	in.Close()
	_ = qemu.Wait()
	if err := adopt(); err != nil {
		t.Errorf("nobody has it open: %v", err)
	}
}

// TestCopyOfAnObject: cp --archive copies the mark. The copy is nobody's until the mark is taken off.
func TestCopyOfAnObject(t *testing.T) {
	d := open(t, t.TempDir(), nil)
	v := volumeOf(t, d, "volume-N", 1<<20)
	if out, err := exec.Command("cp", "--archive", d.path(v.Name), d.path("copy")).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	_, err := d.Adopt(bg, dataplane.Volume{ID: "A", Name: "volume-A"}, "copy", markFor("A"))
	if !errors.Is(err, dataplane.ErrNotOurs) || !strings.Contains(err.Error(), "remove the attribute user.cvold.mark") {
		t.Errorf("%v", err)
	}
	if err := unix.Removexattr(d.path("copy"), markName); err != nil {
		t.Fatal(err)
	}
	if _, err = d.Adopt(bg, dataplane.Volume{ID: "A", Name: "volume-A"}, "copy", markFor("A")); err != nil {
		t.Error(err)
	}
}
