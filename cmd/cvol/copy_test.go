package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// copied runs a copy that has to succeed, and gives what --json says.
func copied(t *testing.T, args ...string) (answer copyResult, stderr string) {
	t.Helper()
	got := cvol(t.Context(), append([]string{"copy", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(got.stdout), &answer); err != nil || got.code != exitOK {
		t.Fatalf("cvol copy %q: %v, %+v", args, err, got)
	}
	return answer, got.stderr
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// holds fails the test unless the file or device begins with the content; whole: it has nothing else.
func holds(t *testing.T, path string, content []byte, whole bool) {
	t.Helper()
	found := contentOf(t, path)
	if len(found) < len(content) || whole && len(found) > len(content) {
		t.Errorf("%s has %d bytes, not %d", path, len(found), len(content))
		return
	}
	for i := range content {
		if found[i] != content[i] {
			t.Errorf("%s: byte %d is %#x, not %#x", path, i, found[i], content[i])
			return
		}
	}
}

// In all sizes, on disk and in memory, in all ways to verify, with and without the page cache.
func TestCopyOfAllSizes(t *testing.T) {
	for place, base := range ddPlaces(t) {
		source, target := filepath.Join(base, "s"), filepath.Join(base, "t")
		for _, size := range []int64{0, 1, 511, 512, 513, 4095, 4097, 1 << 20, 1<<20 + 1, 3<<20 + 4096 + 7} {
			content := holes(size)
			write(t, source, content)
			for _, flags := range []string{"", "--verify digest", "--verify none", "--direct", "--read-holes", "--digest blake3",
				"--request-size 4K --requests 3", "--sparse=false", "--rate 1T --iops 1000000"} {
				if place == "tmpfs" && flags == "--direct" {
					continue // not before Linux 6.6
				}
				answer, stderr := copied(t, append(strings.Fields(flags), source, target)...)
				if stderr != "" || answer.SizeBytes != size || answer.SentBytes+answer.ZeroBytes != size {
					t.Errorf("%s, %d bytes, %s: %+v, %s", place, size, flags, answer, stderr)
				}
				holds(t, target, content, true)
				if err := os.Remove(target); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// What is there is overwritten, kept behind the source's size, and grows to it; who may read it does not change.
func TestCopyToAFileThatIsThere(t *testing.T) {
	dir := t.TempDir()
	source, target := filepath.Join(dir, "s"), filepath.Join(dir, "t")
	content, old := holes(2<<20+5), noise(5<<20)
	write(t, source, content)
	for name, before := range map[string][]byte{"longer": old, "shorter": old[:1<<20+9], "as long": old[:len(content)], "empty": nil} {
		write(t, target, before)
		_, stderr := copied(t, source, target)
		want := content
		if len(before) > len(content) {
			want = append(bytes.Clone(content), before[len(content):]...)
		}
		holds(t, target, want, true)
		if told := strings.Contains(stderr, "is longer than the source"); told != (name == "longer") {
			t.Errorf("%s: it says %q", name, stderr)
		}
		if info, err := os.Stat(target); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

// A target that is made can be read by those who can read the source, and written by who made it.
func TestCopyMakesNothingPublic(t *testing.T) {
	dir := t.TempDir()
	source, target := filepath.Join(dir, "s"), filepath.Join(dir, "t")
	write(t, source, noise(1000))
	for mode, want := range map[os.FileMode]os.FileMode{0o600: 0o600, 0o400: 0o600, 0o640: 0o640, 0o755: 0o644} {
		if err := os.Chmod(source, mode); err != nil {
			t.Fatal(err)
		}
		copied(t, source, target)
		info, err := os.Stat(target)
		if err != nil || info.Mode().Perm()&^want != 0 || info.Mode().Perm()&0o600 != 0o600 {
			t.Errorf("of %v: %v, %v", mode, info.Mode(), err)
		}
		if err := os.Remove(target); err != nil {
			t.Fatal(err)
		}
	}
	if mode := modeLike("/dev/null"); mode != 0o666 {
		t.Errorf("of a device: %v", mode)
	}
}

// Holes stay holes, zeroes become some, and --sparse=false has neither.
func TestCopySparse(t *testing.T) {
	dir := t.TempDir()
	sparse, dense, target := filepath.Join(dir, "sparse"), filepath.Join(dir, "dense"), filepath.Join(dir, "t")
	const size = 16 << 20
	content := make([]byte, size)
	copy(content[4<<20:], noise(1<<20))
	write(t, dense, content)
	if err := os.WriteFile(sparse, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(sparse, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(content[4<<20:5<<20], 4<<20); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{sparse, dense} {
		for _, there := range []bool{false, true} {
			for _, wish := range []bool{true, false} {
				_ = os.Remove(target)
				if there {
					write(t, target, noise(size))
				}
				answer, _ := copied(t, fmt.Sprintf("--sparse=%v", wish), source, target)
				holds(t, target, content, true)
				if answer.SentBytes != 1<<20 || answer.ZeroBytes != 15<<20 {
					t.Errorf("%s: %+v", source, answer)
				}
				if took := allocated(t, target); wish && took > 2<<20 || !wish && took < size {
					t.Errorf("%s, there %v, sparse %v: it takes %d", source, there, wish, took)
				}
			}
		}
	}
}

// --target-is-zero is the user's word; where it is read back, a lie is found and made good.
func TestCopyTargetIsZero(t *testing.T) {
	dir := t.TempDir()
	source, target := filepath.Join(dir, "s"), filepath.Join(dir, "t")
	content := make([]byte, 4<<20)
	copy(content, noise(1<<20))
	write(t, source, content)
	write(t, target, make([]byte, 4<<20))
	answer, _ := copied(t, "--target-is-zero", source, target)
	if answer.Mismatches != 0 {
		t.Errorf("got %+v", answer)
	}
	holds(t, target, content, true)
	write(t, target, noise(4<<20))
	answer, stderr := copied(t, "--target-is-zero", source, target)
	if answer.Mismatches != 3 || !strings.Contains(stderr, "target differs") {
		t.Errorf("got %+v, %s", answer, stderr)
	}
	holds(t, target, content, true)
	write(t, target, noise(4<<20))
	copied(t, "--target-is-zero", "--verify", "digest", source, target)
	holds(t, target, append(noise(1<<20), noise(4 << 20)[1<<20:]...), true)
}

func TestCopyBlockDevices(t *testing.T) {
	dir := t.TempDir()
	content := holes(4<<20 + 512)
	near, far := loopDevice(t, content), loopDevice(t, noise(6<<20), "--sector-size", "4096")
	for _, flags := range []string{"", "--direct", "--sparse=false", "--verify none"} {
		copied(t, append(strings.Fields(flags), near, far)...)
		holds(t, far, content, false)
	}
	file := filepath.Join(dir, "t")
	copied(t, "--direct", near, file)
	holds(t, file, content, true)
	write(t, file, content[:1<<20+7])
	copied(t, file, far)
	holds(t, far, content[:1<<20+7], false)
}

func TestCopyToNull(t *testing.T) {
	dir := devices(t)
	if answer, _ := copied(t, filepath.Join(dir, "disk.raw"), "null:"); answer.Verify != "digest" || answer.Class != "" || answer.SentBytes != 2<<20+512 {
		t.Errorf("got %+v", answer)
	}
	if _, err := os.Stat("null:"); err == nil {
		t.Error("null: is a file now")
	}
}

var (
	copyTimes  = regexp.MustCompile(`"seconds": .*`)
	copyPaces  = regexp.MustCompile(`time [^,\n]*(, rate [^,\n]*)?`)
	identities = regexp.MustCompile(`file [0-9]+ on [^,]*, born [0-9.]*`)
)

// What is shown in the end, for people and for programs, and what is said when it does not begin.
func TestCopyTranscripts(t *testing.T) {
	tests := []struct {
		name, args string
		code       int
	}{
		{"human", "DIR/disk.raw DIR/new", exitOK},
		{"json", "--json DIR/disk.raw DIR/new", exitOK},
		{"none", "--verify none DIR/disk.raw DIR/new", exitOK},
		{"none-json", "--json --verify none DIR/disk.raw DIR/new", exitOK},
		{"blake3", "--digest blake3 --verify digest DIR/disk.raw DIR/new", exitOK},
		{"since", "--since DIR/disk.manifest DIR/disk.raw DIR/written.raw", exitOK},
		{"null", "DIR/disk.raw null:", exitOK},
		{"same", "DIR/disk.raw DIR/disk.raw", exitRefused},
		{"checkpoint-there", "--checkpoint DIR/c DIR/disk.raw DIR/new", exitRefused},
		{"checkpoint-of-another", "--checkpoint DIR/c --resume DIR/disk.raw DIR/written.raw", exitRefused},
		{"usage", "--resume DIR/disk.raw DIR/new", exitUsage},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := manifests(t)
			if strings.HasPrefix(test.name, "checkpoint") {
				half(t, filepath.Join(dir, "disk.raw"), filepath.Join(dir, "odd.raw"), filepath.Join(dir, "c"), 1)
			}
			got, text := inDir(t, dir, "copy "+test.args)
			if got.code != test.code {
				t.Errorf("exit code %d, want %d", got.code, test.code)
			}
			text = copyPaces.ReplaceAllString(copyTimes.ReplaceAllString(text, `"seconds": SECONDS`), "time TIME")
			golden(t, filepath.Join("copy", test.name), identities.ReplaceAllString(text, "IDENTITY"))
		})
	}
}

// ended is a context that has ended, as after Ctrl-C.
func ended(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
