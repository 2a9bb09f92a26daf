package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/internal/program"
	"github.com/cvold/cvold/transfer"
)

// tree is all that is below a directory.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var text strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.HasSuffix(path, ".pid") {
			return err
		}
		content, err := os.ReadFile(path)
		fmt.Fprintf(&text, "%s %d %x\n", path, len(content), sha256.Sum256(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// copyRefusal is a command line that is refused; DIR is a directory that manifests made and setup completed.
type copyRefusal struct {
	args  string
	code  int
	says  string
	setup func(t *testing.T, dir string)
}

// someCheckpoint is one of disk.raw and written.raw.
func someCheckpoint(t *testing.T, dir string) {
	half(t, filepath.Join(dir, "disk.raw"), filepath.Join(dir, "written.raw"), filepath.Join(dir, "c"), 2)
}

// links are other names of disk.raw, and one of nothing.
func links(t *testing.T, dir string) {
	disk := filepath.Join(dir, "disk.raw")
	err := errors.Join(os.Symlink(disk, filepath.Join(dir, "soft")), os.Link(disk, filepath.Join(dir, "hard")),
		os.Symlink(filepath.Join(dir, "nowhere"), filepath.Join(dir, "dangling")))
	if err != nil {
		t.Fatal(err)
	}
}

// What cannot be a source or a target.
var copyEndRefusals = []copyRefusal{
	{"DIR/disk.raw DIR/disk.raw", exitRefused, "one and the same", nil},
	{"DIR/disk.raw DIR/../" + "NAME/disk.raw", exitRefused, "one and the same", nil},
	{"DIR/disk.raw DIR/soft", exitRefused, "one and the same", links},
	{"DIR/hard DIR/disk.raw", exitRefused, "one and the same", links},
	{"DIR/disk.raw DIR/dangling", exitNotFound, "no such file", links},
	{"DIR/none DIR/new", exitNotFound, "no such file", nil},
	{"DIR DIR/new", exitRefused, "neither a file nor a block device", nil},
	{"/dev/zero DIR/new", exitRefused, "neither a file nor a block device", nil},
	{"DIR/disk.raw DIR", exitRefused, "neither a file nor a block device", nil},
	{"DIR/disk.raw /dev/null", exitRefused, "neither a file nor a block device", nil},
	{"DIR/disk.raw DIR/none/new", exitOther, "make target", nil},
	{"http://example.org/ DIR/new", exitRefused, "scheme", nil},
	{"DIR/disk.raw nbd+unix:///", exitRefused, "socket is missing", nil},
	{"DIR/disk.raw nbd+unix:///?socket=DIR/none", exitOther, "no such file", nil},
}

// What cannot be meant.
var copyFlagRefusals = []copyRefusal{
	{"DIR/disk.raw", exitUsage, "too few", nil},
	{"null: DIR/new", exitUsage, "can only be TARGET", nil},
	{"- -", exitUsage, "has to be a device", nil},
	{"--verify md5 DIR/disk.raw DIR/new", exitUsage, "none of readback", nil},
	{"--on-read-error retry DIR/disk.raw DIR/new", exitUsage, "neither fail nor skip", nil},
	{"--error-map DIR/m DIR/disk.raw DIR/new", exitUsage, "goes with", nil},
	{"--verify none --manifest DIR/m DIR/disk.raw DIR/new", exitUsage, "makes no digests", nil},
	{"--verify none --checkpoint DIR/c DIR/disk.raw DIR/new", exitUsage, "makes no digests", nil},
	{"--resume DIR/disk.raw DIR/new", exitUsage, "needs --checkpoint", nil},
	{"--source-unchanged DIR/disk.raw DIR/new", exitUsage, "goes with --resume", nil},
	{"--since DIR/m --target-is-zero DIR/disk.raw DIR/new", exitUsage, "exclude each other", nil},
	{"--sparse=false --target-is-zero DIR/disk.raw DIR/new", exitUsage, "--sparse=false allocates", nil},
	{"--on-read-error skip --manifest DIR/m DIR/disk.raw DIR/new", exitUsage, "what SOURCE held", nil},
	{"--progress --no-progress DIR/disk.raw DIR/new", exitUsage, "exclude each other", nil},
	{"--progress=x DIR/disk.raw DIR/new", exitUsage, "no number of an open file", nil},
	{"--progress=99999 DIR/disk.raw DIR/new", exitUsage, "bad file descriptor", nil},
	{"--connections 0 DIR/disk.raw DIR/new", exitUsage, "--connections 0", nil},
	{"--requests 65 DIR/disk.raw DIR/new", exitUsage, "--requests 65", nil},
	{"--retries 17 DIR/disk.raw DIR/new", exitUsage, "--retries 17", nil},
	{"--iops -1 DIR/disk.raw DIR/new", exitUsage, "--iops -1", nil},
	{"--reconnect -1s DIR/disk.raw DIR/new", exitUsage, "not negative", nil},
	{"--timeout -1s DIR/disk.raw DIR/new", exitUsage, "not negative", nil},
	{"--digest md5 DIR/disk.raw DIR/new", exitUsage, "md5", nil},
	{"--rate fast DIR/disk.raw DIR/new", exitUsage, "no rate", nil},
	{"--request-size 1000 DIR/disk.raw DIR/new", exitUsage, "multiple of 4K", nil},
	{"--request-size 2M DIR/disk.raw DIR/new", exitUsage, "multiple of 4K", nil},
	{"--request-size x DIR/disk.raw DIR/new", exitUsage, "multiple of 4K", nil},
	{"--checkpoint DIR/c - DIR/new", exitUsage, "written twice", nil},
	{"--since DIR/disk.manifest DIR/disk.raw -", exitUsage, "written twice", nil},
	{"--on-read-error skip DIR/disk.raw -", exitUsage, "written twice", nil},
	{"--manifest DIR/m DIR/disk.raw -", exitUsage, "cvol checksum", nil},
	{"--json DIR/disk.raw -", exitUsage, "standard output has the bytes", nil},
	{"--direct - DIR/new", exitRefused, "--direct of a stream", nil},
	{"--checkpoint DIR/c DIR/disk.raw null:", exitUsage, "holds nothing", nil},
}

// Files for two things, and files of others.
var copyFileRefusals = []copyRefusal{
	{"--checkpoint DIR/new DIR/disk.raw DIR/new", exitUsage, "TARGET and --checkpoint are one", nil},
	{"--manifest DIR/disk.raw DIR/disk.raw DIR/new", exitUsage, "SOURCE and --manifest are one", nil},
	{"--manifest DIR/hard DIR/disk.raw DIR/new", exitUsage, "SOURCE and --manifest are one", links},
	{"--checkpoint DIR/x --manifest DIR/x DIR/disk.raw DIR/new", exitUsage, "--checkpoint and --manifest are one", nil},
	{"--manifest DIR/odd.raw DIR/disk.raw DIR/new", exitRefused, "there already", nil},
	{"--manifest DIR/none/m DIR/disk.raw DIR/new", exitOther, "make DIR/none/m", nil},
	{"--on-read-error skip --error-map DIR/odd.raw DIR/disk.raw DIR/new", exitRefused, "no mapfile", nil},
	{"--on-read-error skip --error-map DIR/none/m DIR/disk.raw DIR/new", exitOther, "make DIR/none/m", nil},
}

// Manifests that say nothing about this copy.
var copyManifestRefusals = []copyRefusal{
	{"--since DIR/none DIR/disk.raw DIR/written.raw", exitNotFound, "manifest", nil},
	{"--since DIR/damaged.manifest DIR/disk.raw DIR/written.raw", exitOther, "corrupt", nil},
	{"--since DIR/cut.manifest DIR/disk.raw DIR/written.raw", exitOther, "manifest", nil},
	{"--since DIR/odd.raw DIR/disk.raw DIR/written.raw", exitOther, "odd.raw", nil},
	{"--since DIR/disk.manifest DIR/odd.raw DIR/written.raw", exitRefused, "is of 3 MiB (3146240 bytes)", nil},
	{"--since DIR/fine.manifest DIR/disk.raw DIR/written.raw", exitRefused, "in chunks of 4 KiB by blake3", nil},
	{"--since DIR/disk.manifest --digest blake3 DIR/disk.raw DIR/written.raw", exitRefused, "by xxh3-128", nil},
	{"--since DIR/disk.manifest DIR/disk.raw DIR/new", exitRefused, "is not there, and --since", nil},
	{"--since DIR/disk.manifest DIR/disk.raw DIR/odd.raw", exitRefused, "the target only 1000 B", nil},
}

// Checkpoints of another copy, or that cannot be.
var copyCheckpointRefusals = []copyRefusal{
	{"--checkpoint DIR/c DIR/disk.raw DIR/written.raw", exitRefused, "--resume goes on", someCheckpoint},
	{"--checkpoint DIR/none/c DIR/disk.raw DIR/new", exitOther, "create checkpoint", nil},
	{"--checkpoint DIR/odd.raw/c DIR/disk.raw DIR/new", exitOther, "create checkpoint", nil},
	{"--checkpoint DIR/c --resume DIR/disk.raw DIR/odd.raw", exitRefused, "of another target", someCheckpoint},
	{"--checkpoint DIR/c --resume DIR/odd.raw DIR/written.raw", exitRefused, "of another source", someCheckpoint},
	{"--checkpoint DIR/c --resume DIR/disk.raw DIR/new", exitRefused, "is not there, and checkpoint", someCheckpoint},
	{"--checkpoint DIR/c --resume --digest blake3 DIR/disk.raw DIR/written.raw", exitRefused, "by xxh3-128, not of", someCheckpoint},
	{"--checkpoint DIR/c --resume --verify digest DIR/disk.raw DIR/written.raw", exitRefused, "may have changed", func(t *testing.T, dir string) {
		someCheckpoint(t, dir)
		change(t, filepath.Join(dir, "disk.raw"), 0, 1)
	}},
	{"--checkpoint DIR/c --resume DIR/disk.raw DIR/written.raw", exitRefused, "of 3 MiB (3146240 bytes) in", func(t *testing.T, dir string) {
		someCheckpoint(t, dir)
		if err := os.Truncate(filepath.Join(dir, "disk.raw"), 2<<20); err != nil {
			t.Fatal(err)
		}
	}},
	{"--checkpoint DIR/c --resume DIR/disk.raw DIR/written.raw", exitOther, "corrupt", func(t *testing.T, dir string) {
		someCheckpoint(t, dir)
		change(t, filepath.Join(dir, "c"), 0, 1)
	}},
	{"--checkpoint DIR/odd.raw --resume DIR/disk.raw DIR/written.raw", exitOther, "remove it to begin anew", nil},
	{"--checkpoint DIR/c --resume DIR/disk.raw DIR/written.raw", exitRefused, "is in use", func(t *testing.T, dir string) {
		someCheckpoint(t, dir)
		c, err := transfer.OpenCheckpoint(filepath.Join(dir, "c"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}},
}

// Each refusal has its exit code, says why in one line, perhaps the way out in a second one, and has touched nothing.
func TestCopyRefuses(t *testing.T) {
	for _, test := range slices.Concat(copyEndRefusals, copyFlagRefusals, copyFileRefusals, copyManifestRefusals, copyCheckpointRefusals) {
		t.Run(test.args+" "+test.says, func(t *testing.T) {
			dir := manifests(t)
			if test.setup != nil {
				test.setup(t, dir)
			}
			before := tree(t, dir)
			args := strings.NewReplacer("DIR", dir, "NAME", filepath.Base(dir)).Replace(test.args)
			got := cvol(t.Context(), append([]string{"copy"}, strings.Fields(args)...)...)
			if got.code != test.code || !strings.Contains(got.stderr, strings.ReplaceAll(test.says, "DIR", dir)) || got.stdout != "" || strings.Count(got.stderr, "\n") > 2 {
				t.Errorf("got %+v, want exit code %d", got, test.code)
			}
			if after := tree(t, dir); after != before {
				t.Errorf("before:\n%safter:\n%s", before, after)
			}
		})
	}
}

// What the machine refuses: directories and disks without room, and immutable files.
func TestCopyWithoutRoom(t *testing.T) {
	dir := devices(t)
	t.Run("no directory for temporary files", func(t *testing.T) {
		t.Setenv("TMPDIR", filepath.Join(dir, "none"))
		for _, args := range [][]string{{filepath.Join(dir, "disk.raw"), filepath.Join(dir, "new")}, {"-", filepath.Join(dir, "new")}} {
			got := cvol(t.Context(), append([]string{"copy"}, args...)...)
			if got.code != exitOther || !strings.Contains(got.stderr, "set TMPDIR to another directory") {
				t.Errorf("got %+v", got)
			}
		}
	})
	small := mounted(t, "tmpfs", "size=1m")
	target := filepath.Join(small, "new")
	for name, args := range map[string][]string{
		"target":     {filepath.Join(dir, "disk.raw"), target},
		"checkpoint": {"--checkpoint", filepath.Join(small, "c"), filepath.Join(dir, "large"), filepath.Join(dir, "new")},
	} {
		if err := os.WriteFile(filepath.Join(dir, "large"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filepath.Join(dir, "large"), 64<<30); err != nil {
			t.Fatal(err)
		}
		got := cvol(t.Context(), append([]string{"copy"}, args...)...)
		if got.code != exitOther || !strings.Contains(got.stderr, "no space left") {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	stdin, err := os.Open(filepath.Join(dir, "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	if got := piped(t.Context(), stdin, "copy", "-", target); got.code != exitOther || !strings.Contains(got.stderr, "no space left") {
		t.Errorf("stream: got %+v", got)
	}
	if left := tree(t, small); left != "" {
		t.Errorf("left over: %s", left)
	}
	if _, err := os.Stat(filepath.Join(dir, "new")); !os.IsNotExist(err) {
		t.Errorf("left over: %v", err)
	}
}

// A file that QEMU has open for writing is left alone, and is not made longer or shorter either.
func TestCopyToAFileInUse(t *testing.T) {
	dir := devices(t)
	_, stop := qemuNBD(t, dir, "raw", filepath.Join(dir, "odd.raw"))
	defer stop()
	before := tree(t, dir)
	stdin, err := os.Open(filepath.Join(dir, "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	for _, source := range []string{filepath.Join(dir, "disk.raw"), "-"} {
		got := piped(t.Context(), stdin, "copy", source, filepath.Join(dir, "odd.raw"))
		if got.code != exitRefused || !strings.Contains(got.stderr, "object is in use") {
			t.Errorf("got %+v", got)
		}
	}
	if after := tree(t, dir); after != before {
		t.Errorf("before:\n%safter:\n%s", before, after)
	}
}

// qemuNBD serves an image until stop is called.
func qemuNBD(t *testing.T, dir, format, path string) (uri string, stop func()) {
	t.Helper()
	socket := filepath.Join(dir, "qemu.sock")
	command := exec.Command(program.Need(t, "qemu-nbd"), "--persistent", "--socket", socket, "-f", format, path)
	var stderr strings.Builder
	command.Stderr = &stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	tool(t, "sh", "-c", fmt.Sprintf("while [ ! -S %s ] && kill -0 %d; do sleep 0.02; done", socket, command.Process.Pid))
	return "nbd+unix:///?socket=" + socket, func() {
		_ = command.Process.Signal(os.Interrupt)
		if err := command.Wait(); err != nil {
			t.Errorf("%v: %s", err, stderr.String())
		}
	}
}

func TestCopyRefusesBlockDevices(t *testing.T) {
	dir := t.TempDir()
	device := loopDevice(t, noise(4<<20))
	backing := strings.TrimSpace(tool(t, "losetup", "--noheadings", "--output", "BACK-FILE", device))
	other := filepath.Join(dir, "s")
	write(t, other, noise(5<<20))
	for _, args := range [][]string{{backing, device}, {device, backing}, {device, device}} {
		if got := cvol(t.Context(), append([]string{"copy"}, args...)...); got.code != exitRefused || !strings.Contains(got.stderr, "one and the same") {
			t.Errorf("%q: got %+v", args, got)
		}
	}
	if got := cvol(t.Context(), "copy", other, device); got.code != exitRefused || !strings.Contains(got.stderr, "5 MiB (5242880 bytes), the target only 4 MiB (4194304 bytes)") {
		t.Errorf("got %+v", got)
	}
	tool(t, "mkfs.ext4", "-q", device)
	at := t.TempDir()
	if out, err := exec.Command("mount", device, at).CombinedOutput(); err != nil {
		t.Skipf("nothing can be mounted here: %v: %s", err, out)
	}
	defer func() {
		if err := unix.Unmount(at, 0); err != nil {
			t.Error(err)
		}
	}()
	write(t, other, noise(1<<20))
	if got := cvol(t.Context(), "copy", other, device); got.code != exitRefused || !strings.Contains(got.stderr, "in use") {
		t.Errorf("got %+v", got)
	}
}

func TestOverlaps(t *testing.T) {
	file, other := [2]uint64{1, 2}, [2]uint64{1, 3}
	disk, part1, part2 := place{device: 10}, place{device: 11, disk: 10}, place{device: 12, disk: 10}
	whole := place{file: file, to: 100}
	tests := []struct {
		a, b place
		want bool
	}{
		{disk, disk, true}, {disk, part1, true}, {part1, part2, false}, {part1, part1, true}, {disk, place{device: 20}, false},
		{whole, whole, true}, {whole, place{file: other, to: 100}, false}, {place{}, place{}, false},
		{whole, place{device: 7, file: file, from: 50, to: 60}, true},
		{place{device: 7, file: file, to: 50}, place{device: 8, file: file, from: 50, to: 100}, false},
		{place{device: 21, disk: 7, file: file, to: 100}, place{device: 22, disk: 7, file: file, to: 100}, false},
		{place{device: 21, disk: 7, file: file, to: 100}, whole, true},
	}
	for _, test := range tests {
		if test.a.overlaps(test.b) != test.want || test.b.overlaps(test.a) != test.want {
			t.Errorf("%+v, %+v: not %v", test.a, test.b, test.want)
		}
	}
}

func TestDiskName(t *testing.T) {
	sys := t.TempDir()
	for path, text := range map[string]string{
		"8:0/wwid": "naa.5000 c500\n", "8:0/diskseq": "7\n", "8:0/sda1/partition": "1\n", "252:0/dm/uuid": "LVM-x\n", "253:0/serial": "\n", "253:0/diskseq": "9\n",
	} {
		path = filepath.Join(sys, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, path, []byte(text))
	}
	if err := os.Symlink("8:0/sda1", filepath.Join(sys, "8:1")); err != nil {
		t.Fatal(err)
	}
	for number, want := range map[[2]uint32]string{
		{8, 0}: "naa.5000 c500", {8, 1}: "naa.5000 c500 partition 1", {252, 0}: "LVM-x", {253, 0}: "253:0 disk 9", {9, 9}: "9:9 disk ",
	} {
		if got := diskName(sys, number[0], number[1]); got != want {
			t.Errorf("%v is %q, not %q", number, got, want)
		}
	}
}

func TestIdentify(t *testing.T) {
	long := "nbd://host/" + strings.Repeat("x", transfer.MaxIdentity)
	a, errA := identify(long+"a", nullDevice{})
	b, errB := identify(long+"b", nullDevice{})
	if errA != nil || errB != nil || a.known || a.name == b.name || len(a.name) > transfer.MaxIdentity {
		t.Errorf("%v, %v: %q, %q", errA, errB, a.name, b.name)
	}
	if _, err := identify("x", told{Device: nullDevice{}, info: dataplane.Info{Path: "/none"}}); err == nil {
		t.Error("a file that is not there")
	}
}
