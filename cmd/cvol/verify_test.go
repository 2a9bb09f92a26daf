package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cvold/cvold/transfer"
)

// manifests makes disk.manifest and, of chunks of 4 KiB, fine.manifest of disk.raw, and some that are damaged.
func manifests(t *testing.T) (dir string) {
	t.Helper()
	dir = devices(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, args := range []string{"--manifest DIR/disk.manifest", "--chunk-size 4K --digest blake3 --manifest DIR/fine.manifest"} {
		if got, _ := inDir(t, dir, "checksum DIR/disk.raw "+args); got.code != exitOK {
			t.Fatalf("got %+v", got)
		}
	}
	whole, err := os.ReadFile(at("disk.manifest"))
	if err != nil {
		t.Fatal(err)
	}
	damaged := append([]byte(nil), whole...)
	damaged[len(damaged)-40]++
	newer := append([]byte(nil), whole...)
	newer[9]++
	for name, text := range map[string][]byte{"damaged.manifest": damaged, "cut.manifest": whole[:len(whole)-1], "newer.manifest": newer} {
		if err := os.WriteFile(at(name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// change changes a byte in each of n chunks of 4 KiB, of which no two are neighbours, from off on.
func change(t *testing.T, path string, off int64, n int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range n {
		if _, err := f.WriteAt([]byte{1}, off+int64(i)*8192); err != nil {
			t.Fatal(err)
		}
	}
}

func TestVerify(t *testing.T) {
	tests := []struct {
		name, args string
		changes    int
		code       int
	}{
		{"equal", "verify DIR/disk.raw DIR/disk.manifest", 0, exitOK},
		{"equal-without-hole", "verify DIR/written.raw DIR/disk.manifest --read-holes", 0, exitOK},
		{"equal-json", "verify --json DIR/disk.raw DIR/disk.manifest", 0, exitOK},
		{"differs", "verify DIR/disk.raw DIR/disk.manifest", 1, exitDiffers},
		{"differs-json", "verify --json DIR/disk.raw DIR/disk.manifest", 1, exitDiffers},
		{"many", "verify DIR/disk.raw DIR/fine.manifest", 25, exitDiffers},
		{"many-all", "verify --all DIR/disk.raw DIR/fine.manifest", 25, exitDiffers},
		{"other-size", "verify DIR/odd.raw DIR/disk.manifest", 0, exitDiffers},
		{"damaged", "verify DIR/disk.raw DIR/damaged.manifest", 0, exitOther},
		{"cut-short", "verify DIR/disk.raw DIR/cut.manifest", 0, exitOther},
		{"newer", "verify DIR/disk.raw DIR/newer.manifest", 0, exitOther},
		{"no-manifest", "verify DIR/disk.raw DIR/written.raw", 0, exitOther},
		{"missing-manifest", "verify DIR/disk.raw DIR/none", 0, exitNotFound},
		{"missing", "verify DIR/none DIR/disk.manifest", 0, exitNotFound},
		{"bad-connections", "verify --connections 1000 DIR/disk.raw DIR/disk.manifest", 0, exitUsage},
		{"too-few", "verify DIR/disk.raw", 0, exitUsage},
		{"manifest", "manifest --file DIR/disk.manifest", 0, exitOK},
		{"manifest-json", "manifest --file --json DIR/disk.manifest", 0, exitOK},
		{"manifest-damaged", "manifest --file DIR/damaged.manifest", 0, exitOther},
		{"manifest-missing", "manifest --file DIR/none", 0, exitNotFound},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := manifests(t)
			change(t, filepath.Join(dir, "disk.raw"), 2<<20, test.changes)
			got, text := inDir(t, dir, test.args)
			if got.code != test.code {
				t.Errorf("exit code %d, want %d", got.code, test.code)
			}
			golden(t, filepath.Join("verify", test.name), created.ReplaceAllString(text, "TIME"))
		})
	}
}

// The JSON has all ranges with --all, 20 without, and counts them all.
func TestVerifyJSON(t *testing.T) {
	dir := manifests(t)
	change(t, filepath.Join(dir, "disk.raw"), 0, 30)
	for args, shown := range map[string]int{"verify --json": maxShownRanges, "verify --json --all": 30} {
		got, _ := inDir(t, dir, args+" DIR/disk.raw DIR/fine.manifest")
		var answer struct {
			verdict
			Shown []transfer.Difference `json:"ranges"`
		}
		if err := json.Unmarshal([]byte(got.stdout), &answer); err != nil {
			t.Fatalf("%v: %+v", err, got)
		}
		last := answer.Shown[len(answer.Shown)-1]
		if got.code != exitDiffers || len(answer.Shown) != shown || answer.Ranges != 30 || answer.Bytes != 30*4096 || answer.Equal ||
			last.Offset != int64(shown-1)*8192 || last.Length != 4096 || last.Manifest == last.Device {
			t.Errorf("%s: got %+v", args, answer)
		}
	}
}

// What is read over NBD is verified all the same, and with the bar of a terminal, if not both write to it.
func TestVerifyOverNBD(t *testing.T) {
	dir := manifests(t)
	s := serve(t, "--socket", filepath.Join(dir, "s"), "--read-only", filepath.Join(dir, "written.raw"))
	tty, screen := pty(t)
	var stdout strings.Builder
	if code := run(t.Context(), []string{"verify", "--all", s.uri, filepath.Join(dir, "fine.manifest")}, nil, &stdout, tty); code != exitOK ||
		!strings.Contains(stdout.String(), "class server-readback") {
		t.Errorf("exit code %d: %s", code, stdout.String())
	}
	if got := screen(); !strings.Contains(got, "verifying") {
		t.Errorf("on the terminal: %q", got)
	}
	change(t, filepath.Join(dir, "written.raw"), 0, 2)
	tty, screen = pty(t)
	code := run(t.Context(), []string{"verify", "--all", s.uri, filepath.Join(dir, "fine.manifest")}, nil, tty, tty)
	if got := screen(); code != exitDiffers || strings.Contains(got, "verifying") || !strings.Contains(got, "8192+4096: the manifest") {
		t.Errorf("exit code %d, on the terminal: %q", code, got)
	}
}

// Output that gets lost is an error, and no verdict.
func TestVerifyLostOutput(t *testing.T) {
	dir := manifests(t)
	disk := filepath.Join(dir, "disk.raw")
	for i, args := range []string{"checksum DISK", "checksum --json DISK", "verify DISK MANIFEST", "verify --json DISK MANIFEST", "verify --all DISK MANIFEST"} {
		change(t, disk, 0, min(i/4, 1))
		args = strings.NewReplacer("DISK", disk, "MANIFEST", filepath.Join(dir, "disk.manifest")).Replace(args)
		var stderr strings.Builder
		code := run(t.Context(), strings.Fields(args), nil, fullDisk{}, &stderr)
		if code != exitOther || !strings.Contains(stderr.String(), "write the result: no space left on device") {
			t.Errorf("%s: got %d, %s", args, code, stderr.String())
		}
	}
}

// A device that becomes unreadable midway ends it with its error.
func TestVerifyReadError(t *testing.T) {
	dir := manifests(t)
	uri := nbdkit(t, dir, "eval", "get_size=echo 3146240", "pread=case $4 in 2???*) echo EIO >&2; exit 1;; esac; dd if="+filepath.Join(dir, "disk.raw")+
		" iflag=skip_bytes,count_bytes skip=$4 count=$3 status=none")
	for _, command := range []string{"checksum " + uri, "verify " + uri + " DIR/disk.manifest"} {
		got, _ := inDir(t, dir, command)
		if got.code != exitOther || !strings.Contains(got.stderr, "read device at 2097152") || got.stdout != "" {
			t.Errorf("%s: got %+v", command, got)
		}
	}
}
