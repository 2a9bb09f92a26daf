package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/faulty"
	"github.com/cvold/cvold/internal/program"
)

func allocated(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// loopDevice is a block device over a file with the content. Who is not root, or in a container without loop devices,
// has none.
func loopDevice(t *testing.T, content []byte, options ...string) string {
	t.Helper()
	losetup := program.Need(t, "losetup")
	if os.Geteuid() != 0 {
		t.Skip("loop devices need root")
	}
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(losetup, append(options, "--find", "--show", path)...).CombinedOutput()
	if err != nil {
		t.Skipf("no loop device here: %v: %s", err, out)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command(losetup, "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	return device
}

// contentOf reads a file or device, past the page cache of what was written to the file behind a device.
func contentOf(t *testing.T, path string) []byte {
	t.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ddDeviceLines are lines with block devices: D is the device, of 2 MiB, s a file.
var ddDeviceLines = []struct {
	text   string
	handed bool
}{
	{"count=0 if=s of=D oflag=direct", false},
	{"count=0 if=D of=D2 iflag=direct", false},
	{"if=D of=D2 count=2097152 bs=1M iflag=count_bytes,direct oflag=direct", false},
	{"if=D of=D2 count=2097152 bs=1M iflag=count_bytes,direct oflag=direct conv=sparse", false},
	{"if=D of=D2 count=1048576 bs=1M iflag=count_bytes", false},
	{"if=s of=D2 count=1048576 bs=1M iflag=count_bytes,direct oflag=direct conv=fdatasync", false},
	{"if=D of=new count=2097152 bs=1M iflag=count_bytes,direct oflag=direct conv=sparse", false},
	{"if=/dev/zero of=D count=1048576 bs=1M iflag=count_bytes oflag=direct", false},
	{"if=/dev/zero of=D bs=1M oflag=direct", false}, // to the end, which is an error
	{"if=/dev/zero of=D bs=300000", false},
	{"if=s of=D bs=64K", false}, // the source is larger
	{"if=s of=D bs=300000", false},
	{"if=s of=D ibs=1000 obs=300000", false},
	{"if=s of=D ibs=300000 obs=1000", false},
	{"if=s of=D bs=1M seek=2 count=1", false},
	{"if=s of=D bs=1M seek=3 count=1", true},
	{"if=D of=t bs=1M skip=2", false},
	{"if=D of=t bs=1M skip=3", true},
	{"if=s of=D bs=1000 count=7", false}, // a tail that is no sector
	{"if=D of=t bs=1000 count=7", false},
	{"if=D of=D2 bs=512 skip=3 seek=5 count=77", false},
	{"if=D of=D2 bs=1000 skip=3 count=77", true},
	{"if=s of=D bs=1M oflag=direct count=1000001 iflag=count_bytes", false},
	{"if=D of=D bs=1M", true},
	{"if=s of=D conv=excl", false},
}

// TestDDDevices: block devices, as with the system's dd.
func TestDDDevices(t *testing.T) {
	for i, line := range ddDeviceLines {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			const size = 2 << 20
			old := noise(size)
			w := ddWorld{source: noise(2_500_000), target: noise(100)}
			run := func(runDD func(*testing.T, string, []string) ddResult) (ddResult, string, [][]byte) {
				dir := t.TempDir()
				w.make(t, dir)
				first := holes(size)
				d, d2 := loopDevice(t, first), loopDevice(t, old)
				args := ddLine(strings.NewReplacer("=D2", "="+d2, "=D ", "="+d+" ").Replace(line.text+" "), dir)
				r := runDD(t, dir, args)
				r.stderr = strings.NewReplacer(d2, "D2", d, "D").Replace(r.stderr)
				return r, dir, [][]byte{contentOf(t, d), contentOf(t, d2)}
			}
			ours, a, oursHold := run(runOurs)
			if handed := ours.handed != ""; handed != line.handed {
				t.Fatalf("%s: handed over: %v: %s", line.text, handed, ours.stderr)
			}
			if line.handed {
				return
			}
			theirs, b, theirsHold := run(runTheirs)
			compareDD(t, line.text, ours, theirs, a, b)
			if strings.Contains(line.text, "of=D2") && strings.Contains(line.text, "sparse") {
				theirsHold[1] = holes(size) // theirs leaves the old data under
			}
			for i := range oursHold {
				if !bytes.Equal(oursHold[i], theirsHold[i]) {
					t.Errorf("%s: device %d differs", line.text, i)
				}
			}
		})
	}
}

// TestDDCinder is Cinder's copy as its volume_utils makes it: a probe of each side, then the copy with what they allow.
func TestDDCinder(t *testing.T) {
	const size = 4 << 20
	dir := t.TempDir()
	content := holes(size)
	copy(content[size-64<<10:], make([]byte, 64<<10)) // ends in a hole
	source := filepath.Join(dir, "s")
	if err := os.WriteFile(source, content, 0o600); err != nil {
		t.Fatal(err)
	}
	targets := map[string]func(*testing.T) string{
		"file":   func(t *testing.T) string { return filepath.Join(t.TempDir(), "t") },
		"device": func(t *testing.T) string { return loopDevice(t, noise(size)) },
	}
	for name, target := range targets {
		for _, sparse := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/sparse=%v", name, sparse), func(t *testing.T) {
				target := target(t)
				if name == "file" {
					if err := os.WriteFile(target, noise(size+100), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				cinderCopy(t, source, target, size, sparse)
				if !bytes.Equal(contentOf(t, target), content) {
					t.Error("the copy differs")
				}
				cinderCopy(t, "/dev/zero", target, size, false)
				if !bytes.Equal(contentOf(t, target), make([]byte, size)) {
					t.Error("the wipe left something")
				}
			})
		}
	}
}

func cinderCopy(t *testing.T, source, target string, size int64, sparse bool) {
	t.Helper()
	run := func(args ...string) bool {
		r := runOurs(t, "", args)
		if r.handed != "" {
			t.Errorf("%q is handed over: %s", args, r.handed)
		}
		return r.code == exitOK
	}
	args := []string{"if=" + source, "of=" + target, fmt.Sprintf("count=%d", size), "bs=1M", "iflag=count_bytes"}
	direct := false
	if source != "/dev/zero" && run("count=0", "if="+source, "of="+target, "iflag=direct") {
		args[4], direct = "iflag=count_bytes,direct", true
	}
	if run("count=0", "if="+source, "of="+target, "oflag=direct") {
		args, direct = append(args, "oflag=direct"), true
	}
	var conv []string
	if !direct {
		conv = append(conv, "fdatasync")
	}
	if sparse {
		conv = append(conv, "sparse")
	}
	if conv != nil {
		args = append(args, "conv="+strings.Join(conv, ","))
	}
	if !run(args...) {
		t.Errorf("%q failed", args)
	}
}

// TestDDWipeFaults: whatever the target does, a wipe that says it is done is one.
func TestDDWipeFaults(t *testing.T) {
	const size = 3<<20 + 700
	always := func(op faulty.Op, a faulty.Action) faulty.Rule { return faulty.Rule{Ops: op, Action: a} }
	once := func(op faulty.Op, a faulty.Action) faulty.Rule { return faulty.Rule{Ops: op, Action: a, Times: 1} }
	for name, test := range map[string]struct {
		rules []faulty.Rule
		want  int
	}{
		"zeroes get lost":           {[]faulty.Rule{always(faulty.Zero, faulty.Lose())}, exitOK}, // written instead
		"zeroes are garbage":        {[]faulty.Rule{always(faulty.Zero, faulty.Garbage())}, exitOK},
		"zeroes and writes lost":    {[]faulty.Rule{always(faulty.Zero|faulty.Write, faulty.Lose())}, exitOther},
		"zeroes fail":               {[]faulty.Rule{always(faulty.Zero, faulty.Fail(nil))}, exitOther},
		"zeroes fail once":          {[]faulty.Rule{once(faulty.Zero, faulty.Fail(nil))}, exitOther},
		"the tail gets lost":        {[]faulty.Rule{{Ops: faulty.Write, Offset: 3<<20 + 512, Length: 1, Action: faulty.Lose()}}, exitOther},
		"the tail fails":            {[]faulty.Rule{{Ops: faulty.Write, Offset: 3<<20 + 512, Length: 1, Action: faulty.Fail(unix.ENOSPC)}}, exitOther},
		"sync fails":                {[]faulty.Rule{once(faulty.Sync, faulty.Fail(nil))}, exitOther},
		"the last sync fails":       {[]faulty.Rule{{Ops: faulty.Sync, Nth: 2, Action: faulty.Fail(nil)}}, exitOther},
		"a write is corrupted once": {[]faulty.Rule{once(faulty.Zero, faulty.Lose()), once(faulty.Write, faulty.Corrupt())}, exitOK},
	} {
		for _, kind := range []string{"device", "file"} {
			t.Run(kind+"/"+name, func(t *testing.T) {
				args := []string{"if=/dev/zero", "bs=4k", "iflag=count_bytes", fmt.Sprintf("count=%d", size), "conv=notrunc"}
				target := filepath.Join(t.TempDir(), "t")
				if kind == "device" {
					target = loopDevice(t, noise(4<<20))
				} else if err := os.WriteFile(target, noise(4<<20), 0o600); err != nil {
					t.Fatal(err)
				}
				plan := faulty.NewPlan(1).Add(test.rules...)
				var stderr bytes.Buffer
				d := ourDD(append(args, "of="+target), &stderr)
				// In a file a wipe overwrites: there every zero is a write.
				d.wrap = func(dev dataplane.Device) dataplane.Device { return faulty.Wrap(dev, plan) }
				code := d.run(t.Context())
				holds := contentOf(t, target)
				if code == exitOK && !bytes.Equal(holds[:size], make([]byte, size)) {
					t.Error("it says that it is done, and is not")
				}
				if !bytes.Equal(holds[size:], noise(4 << 20)[size:]) {
					t.Error("it went too far")
				}
				if kind == "device" && code != test.want {
					t.Errorf("exit code %d: %s", code, stderr.String())
				}
				if (code != exitOK) != strings.Contains(stderr.String(), "dd: ") {
					t.Errorf("exit code %d: %s", code, stderr.String())
				}
			})
		}
	}
}

// TestDDFailures: the error is said in dd's words, and a file ends where the good bytes do.
func TestDDFailures(t *testing.T) {
	fail := faulty.Fail(unix.EIO)
	for name, test := range map[string]struct {
		rule faulty.Rule
		want string
	}{
		"write":   {faulty.Rule{Ops: faulty.Write, Nth: 3, Action: fail}, "dd: error writing 't': Input/output error\n"},
		"full":    {faulty.Rule{Ops: faulty.Write, Action: faulty.Fail(dataplane.ErrNoSpace)}, "dd: error writing 't': No space left on device\n"},
		"sync":    {faulty.Rule{Ops: faulty.Sync, Action: fail}, "dd: fdatasync failed for 't': Input/output error\n"},
		"differs": {faulty.Rule{Ops: faulty.Write, Action: faulty.Lose()}, "dd: error verifying 't': "},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			ddWorld{source: noise(5 << 20), target: noise(9 << 20)}.make(t, dir)
			var stderr bytes.Buffer
			d := ourDD(ddLine("if=s of=t bs=1M", dir), &stderr)
			d.wrap = func(dev dataplane.Device) dataplane.Device { return faulty.Wrap(dev, faulty.NewPlan(1).Add(test.rule)) }
			code := d.run(t.Context())
			said := maskDD(stderr.String(), dir)
			if code != exitOther || !strings.HasPrefix(said, test.want) || !strings.Contains(said, "0+0 records out\n0 bytes copied") {
				t.Errorf("exit code %d: %s", code, said)
			}
			if info, err := os.Stat(filepath.Join(dir, "t")); err != nil || info.Size() != 0 {
				t.Errorf("the target has %d bytes, %v", info.Size(), err)
			}
		})
	}
}

// TestDDInterrupted: a signal ends it, with what was done.
func TestDDInterrupted(t *testing.T) {
	dir := t.TempDir()
	ddWorld{source: noise(5 << 20)}.make(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stderr bytes.Buffer
	if code := ourDD(ddLine("if=s of=t bs=1M", dir), &stderr).run(ctx); code != exitInterrupted {
		t.Errorf("exit code %d", code)
	}
	if said := maskDD(stderr.String(), dir); said != "0+0 records in\n0+0 records out\n0 bytes copied\n" {
		t.Errorf("it says %s", said)
	}
	if r := cvol(ctx, append([]string{"dd"}, ddLine("if=s of=t bs=1M", dir)...)...); r.code != exitInterrupted {
		t.Errorf("got %+v", r)
	}
}

// mounted is a directory with a file system of that kind.
func mounted(t *testing.T, kind, options string) string {
	t.Helper()
	mount := program.Need(t, "mount")
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	if out, err := exec.Command(mount, "-t", kind, "-o", options, "cvol-dd", dir).CombinedOutput(); err != nil {
		t.Skipf("no %s can be mounted here: %v: %s", kind, err, out)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestDDWithoutDirect: on a file system without direct I/O, and without holes or allocation, a probe for it fails, and
// without it all works.
func TestDDWithoutDirect(t *testing.T) {
	base := mounted(t, "ramfs", "mode=700")
	w := ddWorld{source: holes(2_500_000), target: noise(3 << 20)}
	for _, text := range []string{
		"count=0 if=s of=t iflag=direct",
		"count=0 if=s of=t oflag=direct",
		"count=0 if=s of=new oflag=direct",
		"if=s of=t count=2097152 bs=1M iflag=count_bytes conv=fdatasync",
		"if=s of=new bs=1M conv=sparse",
		"if=/dev/zero of=t bs=1000 count=777 conv=notrunc",
	} {
		ours, theirs, a, b := bothDD(t, base, w, text)
		if ours.handed != "" || strings.Contains(text, "direct") != (ours.code == exitOther) {
			t.Errorf("%s: %+v", text, ours)
		}
		compareDD(t, text, ours, theirs, a, b)
	}
}

// TestDDLargeSectors: a tail on a device whose sectors are larger than those of the copy.
func TestDDLargeSectors(t *testing.T) {
	device := loopDevice(t, noise(2<<20), "--sector-size", "4096")
	dir := t.TempDir()
	w := ddWorld{source: holes(1_000_001)}
	w.make(t, dir)
	for _, flags := range []string{"", "oflag=direct iflag=direct"} {
		want := append(bytes.Clone(w.source), noise(2 << 20)[len(w.source):]...)
		r := runOurs(t, dir, append(ddLine("if=s bs=8k "+flags, dir), "of="+device))
		if r.code != exitOK || r.handed != "" || !bytes.Equal(contentOf(t, device), want) {
			t.Errorf("%s: %+v", flags, r)
		}
	}
	if r := runOurs(t, dir, append(ddLine("if=s bs=512 seek=1", dir), "of="+device)); r.handed == "" {
		t.Errorf("within a sector: %+v", r)
	}
}

// TestDDFull: a file system that is full.
func TestDDFull(t *testing.T) {
	full := mounted(t, "tmpfs", "size=1M")
	dir := t.TempDir()
	ddWorld{source: noise(5 << 20)}.make(t, dir)
	for _, conv := range []string{"fsync", "sparse"} {
		target := filepath.Join(full, conv)
		r := runOurs(t, dir, append(ddLine("if=s bs=1M conv="+conv, dir), "of="+target))
		if want := "dd: error writing '" + target + "': No space left on device\n"; r.code != exitOther || !strings.HasPrefix(r.stderr, want) {
			t.Errorf("conv=%s: %+v", conv, r)
		}
		if err := os.Remove(target); err != nil {
			t.Error(err)
		}
	}
}

// TestDDExports: the URIs of NBD exports, on both sides, in cvol dd.
func TestDDExports(t *testing.T) {
	dir := t.TempDir()
	ddWorld{source: holes(3<<20 + 1536), target: noise(4 << 20)}.make(t, dir)
	s := serve(t, "--socket", filepath.Join(dir, "socket"), filepath.Join(dir, "t"))
	got := cvol(t.Context(), append(ddLine("dd if=s bs=1M conv=sparse", dir), "of="+s.uri)...)
	if got.code != exitOK || !strings.Contains(got.stderr, "3+1 records out") {
		t.Fatalf("got %+v", got)
	}
	got = cvol(t.Context(), append(ddLine("dd of=back bs=512 count=6147", dir), "if="+s.uri)...)
	if got.code != exitOK {
		t.Fatalf("got %+v", got)
	}
	if err := sameFiles(filepath.Join(dir, "s"), filepath.Join(dir, "back")); err != nil && !strings.Contains(err.Error(), "mode") {
		t.Error(err)
	}
	got = cvol(t.Context(), append(ddLine("dd if=s conv=ucase", dir), "of="+s.uri)...)
	if got.code != exitOther || !strings.Contains(got.stderr, "not possible with an NBD export") {
		t.Errorf("got %+v", got)
	}
	got = cvol(t.Context(), append(ddLine("dd if=s", dir), "of=nbd+unix:///?socket=/nonexistent")...)
	if got.code != exitOther || !strings.Contains(got.stderr, "cvol dd: failed to open 'nbd+unix:///?socket=/nonexistent': No such file or directory\n") {
		t.Errorf("got %+v", got)
	}
}
