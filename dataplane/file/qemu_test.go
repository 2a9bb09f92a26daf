package file

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/internal/program"
)

// TestQEMUMeetsOurLocks: qemu-io cannot open what we exclude it from.
func TestQEMUMeetsOurLocks(t *testing.T) {
	qemu := program.Need(t, "qemu-io")
	d := open(t, t.TempDir(), nil)
	v := volumeOf(t, d, "volume-1", 1<<20)
	for _, tt := range []struct {
		name   string
		mode   dataplane.Mode
		writes bool // qemu-io as a writer works
		reads  bool // and as a reader
	}{
		{"writer", dataplane.Mode{}, false, true},
		{"reader", dataplane.Mode{ReadOnly: true}, true, true},
		{"exclusive", dataplane.Mode{Exclusive: true}, false, false},
		{"exclusive reader", dataplane.Mode{Exclusive: true, ReadOnly: true}, false, false},
		{"medium", dataplane.Mode{Medium: true}, true, true},
	} {
		dev := deviceOf(t, d, v, tt.mode)
		for args, works := range map[string]bool{"-f raw": tt.writes, "-r -f raw": tt.reads} {
			cmd := exec.Command(qemu, append(strings.Fields(args), "-c", "read 0 512", d.path(v.Name))...)
			out, err := cmd.CombinedOutput()
			if (err == nil) != works {
				t.Errorf("%s: qemu-io %s works: %v, want %v\n%s", tt.name, args, err == nil, works, out)
			}
			if err != nil && !strings.Contains(string(out), "lock") {
				t.Errorf("%s: qemu-io %s failed for another reason:\n%s", tt.name, args, out)
			}
		}
		if err := dev.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(qemu, "-f", "raw", "-c", "write 0 512", d.path(v.Name)).CombinedOutput(); err != nil {
		t.Errorf("qemu-io when all have closed: %v\n%s", err, out)
	}
}

// TestWeMeetQEMUsLocks: we cannot open what qemu-io has open in a way that excludes us.
func TestWeMeetQEMUsLocks(t *testing.T) {
	d := open(t, t.TempDir(), nil)
	v := volumeOf(t, d, "volume-1", 1<<20)
	for _, tt := range []struct {
		args string
		busy map[dataplane.Mode]bool
	}{
		{"-f raw", map[dataplane.Mode]bool{
			{}: true, {ReadOnly: true}: false, {Medium: true}: false, {Exclusive: true}: true,
			{Exclusive: true, ReadOnly: true}: true,
		}},
		{"-r -f raw", map[dataplane.Mode]bool{
			{}: false, {ReadOnly: true}: false, {Medium: true}: false, {Exclusive: true}: true,
		}},
	} {
		stop := startQEMU(t, append(strings.Fields(tt.args), d.path(v.Name)))
		for mode, busy := range tt.busy {
			dev, err := d.Open(bg, v, mode)
			if err == nil {
				_ = dev.Close()
			}
			if errors.Is(err, dataplane.ErrBusy) != busy || !busy && err != nil {
				t.Errorf("beside qemu-io %s: open %+v: %v, want busy %v", tt.args, mode, err, busy)
			}
		}
		if err := d.Delete(bg, v); !errors.Is(err, dataplane.ErrBusy) {
			t.Errorf("beside qemu-io %s: delete: %v, want ErrBusy", tt.args, err)
		}
		stop()
	}
	if dev, err := d.Open(bg, v, dataplane.Mode{Exclusive: true}); err != nil {
		t.Errorf("when qemu-io has gone: %v", err)
	} else {
		_ = dev.Close()
	}
}

// startQEMU starts qemu-io, waits until it has the file open, and returns what ends it.
func startQEMU(t *testing.T, args []string) (stop func()) {
	t.Helper()
	cmd := exec.Command(program.Need(t, "qemu-io"), args...)
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	cmd.Stderr = os.Stderr
	if err := errors.Join(inErr, outErr, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, "length\n"); err != nil {
		t.Fatal(err)
	}
	for p, seen := make([]byte, 256), ""; !strings.Contains(seen, "1 MiB"); {
		n, err := out.Read(p)
		if err != nil {
			t.Fatalf("qemu-io %v: %v after %q", args, err, seen)
		}
		seen += string(p[:n])
	}
	return func() {
		_ = in.Close()
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			t.Errorf("qemu-io %v: %v", args, err)
		}
	}
}

// TestExclusiveSeesOpensWithoutLocks: dd, a loop device and the like take no locks; the kernel knows of them.
func TestExclusiveSeesOpensWithoutLocks(t *testing.T) {
	everywhere(t, func(t *testing.T, d *Driver) {
		v := volumeOf(t, d, "volume-1", 1<<20)
		for name, flags := range map[string]int{"reader": os.O_RDONLY, "writer": os.O_RDWR} {
			f, err := os.OpenFile(d.path(v.Name), flags, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.Open(bg, v, dataplane.Mode{Exclusive: true}); !errors.Is(err, dataplane.ErrBusy) {
				t.Errorf("beside a %s: %v, want ErrBusy", name, err)
			}
			if err := d.Delete(bg, v); !errors.Is(err, dataplane.ErrBusy) {
				t.Errorf("delete beside a %s: %v, want ErrBusy", name, err)
			}
			if err := deviceOf(t, d, v, dataplane.Mode{}).Close(); err != nil {
				t.Errorf("beside a %s, not exclusive: %v", name, err)
			}
			_ = f.Close()
		}
		deviceOf(t, d, v, dataplane.Mode{Exclusive: true})
		if n := len(d.volumes); n != 1 {
			t.Errorf("%d volumes are counted as open", n)
		}
	})
}

// TestWholeFileLock: a program that locks all of the file excludes us.
func TestWholeFileLock(t *testing.T) {
	d := open(t, t.TempDir(), nil)
	v := volumeOf(t, d, "volume-1", 1<<20)
	for _, tt := range []struct {
		kind   int16
		writer error
	}{{unix.F_WRLCK, dataplane.ErrBusy}, {unix.F_RDLCK, dataplane.ErrBusy}, {unix.F_UNLCK, nil}} {
		f, err := os.OpenFile(d.path(v.Name), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		lock := unix.Flock_t{Type: tt.kind}
		if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
			t.Fatal(err)
		}
		dev, err := d.Open(bg, v, dataplane.Mode{})
		if !errors.Is(err, tt.writer) {
			t.Errorf("lock %d: %v, want %v", tt.kind, err, tt.writer)
		}
		if err == nil {
			_ = dev.Close()
		}
		_ = f.Close()
	}
	if len(d.volumes) != 0 {
		t.Error("refused opens are still counted")
	}
}
