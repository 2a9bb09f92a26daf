package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cvold/cvold/internal/program"
)

var ddSeed = flag.Uint64("dd.seed", 0, "the seed of the random command lines of dd; 0 draws one")

// ddResult is how a dd ended. In stderr times and rates are masked, and names do not say the directory.
type ddResult struct {
	code   int
	stderr string
	// handed is why we would have handed the line over; empty if we carried it out.
	handed string
}

var ddTimes = regexp.MustCompile(`copied, .*`)

func maskDD(stderr, dir string) string {
	return ddTimes.ReplaceAllString(strings.ReplaceAll(stderr, dir+"/", ""), "copied")
}

// errHanded is what the test's exec answers.
var errHanded = errors.New("handed over")

// ourDD is our dd in this process, which hands nothing over.
func ourDD(args []string, stderr *bytes.Buffer) *dd {
	refuse := func(string, []string, []string) error { return errHanded }
	return &dd{name: "dd", argv0: "dd", args: args, stderr: stderr, exec: refuse, usual: ddUsual}
}

func runOurs(t *testing.T, dir string, args []string) ddResult {
	t.Helper()
	var stderr bytes.Buffer
	code := ourDD(args, &stderr).run(t.Context())
	r := ddResult{code: code, stderr: maskDD(stderr.String(), dir)}
	if strings.Contains(r.stderr, errHanded.Error()) {
		r.handed = r.stderr
	}
	return r
}

// runTheirs is the system's dd.
func runTheirs(t *testing.T, dir string, args []string) ddResult {
	t.Helper()
	cmd := exec.Command(program.Need(t, "dd"), args...)
	cmd.Args[0] = "dd"
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return ddResult{code: cmd.ProcessState.ExitCode(), stderr: maskDD(stderr.String(), dir)}
}

// ddWorld is a directory with a source, and perhaps a target that has old data.
type ddWorld struct {
	source []byte
	target []byte // nil: none
}

// make makes the directory's files.
func (w ddWorld) make(t *testing.T, dir string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "s"), w.source, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if w.target != nil {
		if err := os.WriteFile(filepath.Join(dir, "t"), w.target, 0o640); err != nil {
			t.Fatal(err)
		}
	}
}

// line is a command line in dir: names without a slash are files there.
func ddLine(text, dir string) []string {
	args := strings.Fields(text)
	for i, arg := range args {
		for _, name := range []string{"if=", "of="} {
			if value, found := strings.CutPrefix(arg, name); found && !strings.Contains(value, "/") {
				args[i] = name + dir + "/" + value
			}
		}
	}
	return args
}

// bothDD runs a line with ours and theirs, each in a directory of its own below base, and returns both results and targets.
func bothDD(t *testing.T, base string, w ddWorld, text string) (ours, theirs ddResult, oursDir, theirsDir string) {
	t.Helper()
	oursDir, theirsDir = tempDir(t, base), tempDir(t, base)
	w.make(t, oursDir)
	ours = runOurs(t, oursDir, ddLine(text, oursDir))
	if ours.handed != "" {
		return ours, ours, oursDir, theirsDir
	}
	w.make(t, theirsDir)
	theirs = runTheirs(t, theirsDir, ddLine(text, theirsDir))
	return ours, theirs, oursDir, theirsDir
}

func tempDir(t *testing.T, base string) string {
	t.Helper()
	dir, err := os.MkdirTemp(base, "dd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// sameFiles compares what is in two files: bytes, size and mode.
func sameFiles(ours, theirs string) error {
	a, errA := os.Stat(ours)
	b, errB := os.Stat(theirs)
	switch {
	case errors.Is(errA, fs.ErrNotExist) && errors.Is(errB, fs.ErrNotExist):
		return nil
	case errA != nil || errB != nil:
		return fmt.Errorf("ours %v, theirs %v", errA, errB)
	case a.Mode() != b.Mode():
		return fmt.Errorf("mode: ours %v, theirs %v", a.Mode(), b.Mode())
	case a.Size() != b.Size():
		return fmt.Errorf("size: ours %d, theirs %d", a.Size(), b.Size())
	}
	p, errA := os.ReadFile(ours)
	q, errB := os.ReadFile(theirs)
	if err := errors.Join(errA, errB); err != nil {
		return err
	}
	for i := range p {
		if p[i] != q[i] {
			return fmt.Errorf("byte %d: ours %#x, theirs %#x", i, p[i], q[i])
		}
	}
	return nil
}

// ddPlaces are directories on a disk, and in memory.
func ddPlaces(t *testing.T) map[string]string {
	places := map[string]string{"disk": t.TempDir()}
	if dir, err := os.MkdirTemp("/dev/shm", "dd"); err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		places["tmpfs"] = dir
	} else {
		t.Logf("no tmpfs at /dev/shm: %v", err)
	}
	return places
}

// noise is n random bytes; holes has every other 64 KiB zero.
func noise(n int64) []byte {
	p := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(p)
	return p
}

func holes(n int64) []byte {
	p := noise(n)
	for off := int64(0); off < n; off += 128 << 10 {
		clear(p[off:min(n, off+64<<10)])
	}
	return p
}

// ddLines are command lines that end with ours as with theirs. Those with handed true are handed over.
var ddLines = []struct {
	text   string
	handed bool
}{
	// Cinder's.
	{"count=0 if=s of=t iflag=direct", false},
	{"count=0 if=s of=t oflag=direct", false},
	{"count=0 if=s of=new oflag=direct", false},
	{"if=s of=t count=2097152 bs=1M iflag=count_bytes,direct oflag=direct", false},
	{"if=s of=t count=2097152 bs=1M iflag=count_bytes,direct oflag=direct conv=sparse", false},
	{"if=s of=t count=2097152 bs=1M iflag=count_bytes conv=fdatasync", false},
	{"if=s of=t count=2097152 bs=1M iflag=count_bytes conv=fdatasync,sparse", false},
	{"if=/dev/zero of=t count=2097152 bs=1M iflag=count_bytes oflag=direct", false},
	{"if=/dev/zero of=t count=2097152 bs=4M iflag=count_bytes conv=fdatasync", false},
	{"count=0 if=/dev/zero of=t oflag=direct", false},
	{"if=/dev/zero of=new bs=1M count=3", false},
	// Sizes and numbers.
	{"if=s of=t", false},
	{"if=s of=new bs=1000", false},
	{"if=s of=new bs=2x3w count=100c", false},
	{"if=s of=new bs=1Kx2 count=2x3", false},
	{"if=s of=new bs=1kB count=1b", false},
	{"if=s of=new ibs=1000 obs=300000", false},
	{"if=s of=new ibs=300000 obs=1000 count=3", false},
	{"if=s of=new bs=1MiB ibs=7 obs=9", false},
	{"if=s of=new bs=1 count=1", false},
	{"if=s of=new bs=511 count=1", false},
	{"if=s of=new bs=100G count=1", true},
	{"if=s of=new count=1B", true},
	{"if=s of=new count=1GB", true},
	{"if=s of=new count=1GB iflag=count_bytes bs=1M", false},
	{"if=s of=new count=0x5", true},
	{"if=s of=new count=5m", true},
	{"if=s of=new count=", true},
	{"if=s of=new count=-1", true},
	{"if=s of=new ibs=0", true},
	{"if=s of=new count=99999999999999999999", true},
	{"if=s of=new skip=9223372036854775807", true},
	// Where.
	{"if=s of=t bs=4096 skip=3 seek=5 count=7", false},
	{"if=s of=t bs=4096 skip=3 seek=5 count=7 conv=notrunc", false},
	{"if=s of=t bs=1 skip=4097 seek=12345 count=70000 conv=notrunc", false},
	{"if=s of=t iseek=5 oseek=7 count=9 conv=notrunc", false},
	{"if=s of=t bs=1M iflag=skip_bytes skip=777 oflag=seek_bytes seek=1234567", false},
	{"if=s of=new bs=4096 seek=100", false},
	{"if=s of=t bs=4096 seek=10000 count=1 conv=notrunc", false},
	{"if=s of=t count=0 seek=5 bs=100", false},
	{"if=/dev/zero of=new bs=1 count=0 seek=10M", false},
	{"if=s of=t bs=1M skip=100", true},
	{"if=s of=t seek=1 oflag=seek_bytes", true},
	{"if=s of=t seek=1 oflag=seek_bytes conv=notrunc", false},
	{"if=s of=t bs=4096 oflag=direct skip=1 seek=3 conv=notrunc", false},
	{"if=s of=t bs=1000 oflag=direct", true},
	{"if=s of=t bs=512 iflag=direct", true},
	{"if=s of=t bs=4096 iflag=direct,count_bytes count=42", true},
	{"if=/dev/zero of=t conv=notrunc bs=1000 count=77 seek=3", false},
	{"if=/dev/zero of=t conv=notrunc bs=4k count=7 seek=3 oflag=direct", false},
	// Flags, conversions and status.
	{"if=s of=t iflag=fullblock,nonblock,noctty,dsync,sync oflag=nonblock,noctty,dsync,sync bs=64K", false},
	{"if=s of=t iflag=noatime oflag=noatime bs=64K", false},
	{"if=s of=new conv=excl,fsync bs=64K", false},
	{"if=s of=t conv=excl bs=64K", false},
	{"if=s of=t conv=nocreat bs=64K", false},
	{"if=s of=new conv=nocreat bs=64K", false},
	{"if=s of=new conv=excl,nocreat", true},
	{"if=s of=new conv=ucase", true},
	{"if=s of=new conv=noerror", true},
	{"if=s of=new conv=", true},
	{"if=s of=new oflag=append", true},
	{"if=s of=new oflag=count_bytes", true},
	{"if=s of=new iflag=seek_bytes", true},
	{"if=s of=t bs=64K status=none", false},
	{"if=s of=t bs=64K status=noxfer", false},
	{"if=s of=t status=loud", true},
	{"if=s of=new cbs=5", true},
	{"if=s of=new --help", true},
	{"if=s of=new wrong", true},
	{"if=s of=new wrong=1", true},
	// Names.
	{"if=none of=t", false},
	{"if=s of=none/t", false},
	{"if=s of=s", true},
	{"if=s", true},
	{"of=t", true},
	{"if=s of=/dev/null", true},
	{"if=/dev/zero of=new", true},
	{"if=/dev/zero iflag=direct of=t count=0", false},
	{"if=/dev/random of=t count=1", true},
	{"if=/proc/version of=t", true},
	{"if=empty of=t", true},
	{"if=/ of=t", true},
	{"if=s of=/", true},
	{"if=nbd://localhost/x of=t", false},
}

// TestDDLines: what we carry out ends as with the system's dd: exit code, messages, records, and the target.
func TestDDLines(t *testing.T) {
	for place, base := range ddPlaces(t) {
		for i, line := range ddLines {
			t.Run(fmt.Sprintf("%s/%d", place, i), func(t *testing.T) {
				w := ddWorld{source: holes(2_500_000 + 13), target: noise(3 << 20)}
				ours, theirs, a, b := bothDD(t, base, w, line.text)
				if handed := ours.handed != ""; handed != line.handed {
					t.Fatalf("%s: handed over: %v: %s", line.text, handed, ours.stderr)
				}
				compareDD(t, line.text, ours, theirs, a, b)
			})
		}
	}
}

func compareDD(t *testing.T, text string, ours, theirs ddResult, a, b string) {
	t.Helper()
	if ours != theirs {
		t.Errorf("%s:\nours   %d %s\ntheirs %d %s", text, ours.code, ours.stderr, theirs.code, theirs.stderr)
	}
	if ours.handed != "" {
		return
	}
	for _, name := range []string{"s", "t", "new"} {
		if err := sameFiles(filepath.Join(a, name), filepath.Join(b, name)); err != nil {
			t.Errorf("%s: %s: %v", text, name, err)
		}
	}
}

// TestDDRandom: random lines, of what we carry out.
func TestDDRandom(t *testing.T) {
	seed := *ddSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	rng := rand.New(rand.NewPCG(seed, seed))
	const lines = 60
	for place, base := range ddPlaces(t) {
		handed := 0
		for range lines {
			w, text := randomDD(rng)
			ours, theirs, a, b := bothDD(t, base, w, text)
			if ours.handed != "" {
				handed++
			}
			compareDD(t, text, ours, theirs, a, b)
			if t.Failed() {
				t.Fatalf("-dd.seed=%d, on %s, source of %d bytes, target of %d", seed, place, len(w.source), len(w.target))
			}
		}
		if handed > lines/2 {
			t.Errorf("-dd.seed=%d: %d of %d lines were handed over", seed, handed, lines)
		}
	}
}

// randomDD draws the files and a line. It has no conv=sparse with conv=notrunc, which theirs leaves old data under.
func randomDD(rng *rand.Rand) (ddWorld, string) {
	pick := func(choices ...string) string { return choices[rng.IntN(len(choices))] }
	size := func() int64 { return 1 + rng.Int64N(1<<uint(rng.IntN(22))) }
	w := ddWorld{source: holes(size())}
	if rng.IntN(3) > 0 {
		w.target = noise(size())
	}
	words := []string{"if=" + pick("s", "s", "s", "/dev/zero"), "of=t"}
	maybe := func(one int, choices ...string) {
		if rng.IntN(one) == 0 {
			words = append(words, pick(choices...))
		}
	}
	maybe(2, "bs=4k", "bs=64K", "bs=1M", "bs=1000", "bs=513", "bs=8192")
	maybe(4, "ibs=4096", "ibs=3000", "ibs=1b")
	maybe(4, "obs=8k", "obs=700", "obs=65536")
	words = append(words, fmt.Sprintf("count=%d", rng.IntN(1<<uint(rng.IntN(11)))))
	if rng.IntN(3) == 0 {
		words = append(words, fmt.Sprintf("skip=%d", rng.IntN(8)))
	}
	if rng.IntN(3) == 0 {
		words = append(words, fmt.Sprintf("seek=%d", rng.IntN(64)))
	}
	maybe(4, "iflag=count_bytes", "iflag=skip_bytes,count_bytes", "iflag=fullblock")
	maybe(6, "oflag=seek_bytes", "oflag=dsync")
	maybe(6, "oflag=direct", "iflag=direct")
	maybe(3, "conv=notrunc", "conv=sparse", "conv=fdatasync", "conv=fsync,sparse")
	rng.Shuffle(len(words), func(i, j int) { words[i], words[j] = words[j], words[i] })
	return w, strings.Join(words, " ")
}

// TestDDSparse: zeroes are holes in a fresh file, which gets its whole size, and hide no old data in another one.
func TestDDSparse(t *testing.T) {
	dir := t.TempDir()
	source := make([]byte, 8<<20)
	copy(source, "something")
	w := ddWorld{source: source, target: noise(9 << 20)}
	w.make(t, dir)
	for text, want := range map[string][]byte{
		"if=s of=new bs=1M conv=sparse":       source,
		"if=s of=t bs=1M conv=sparse,notrunc": append(bytes.Clone(source), w.target[8<<20:]...),
	} {
		args := ddLine(text, dir)
		if r := runOurs(t, dir, args); r.code != exitOK || r.handed != "" {
			t.Fatalf("%s: %+v", text, r)
		}
		name := strings.TrimPrefix(args[1], "of=")
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes that differ, %v", text, len(got), err)
		}
		if used := allocated(t, name); used > 3<<20 {
			t.Errorf("%s: %d bytes are allocated", text, used)
		}
	}
	if r := runOurs(t, dir, ddLine("if=s of=thick bs=1M", dir)); r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	if used := allocated(t, filepath.Join(dir, "thick")); used < 8<<20 {
		t.Errorf("without conv=sparse %d bytes are allocated", used)
	}
}
