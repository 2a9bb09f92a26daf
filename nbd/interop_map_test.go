package nbd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/internal/program"
)

// extent is how nbdinfo and qemu-img tell one in JSON.
type extent struct {
	Start  int64
	Offset int64
	Length int64
	Type   int
	Zero   bool
}

// TestOthersSeeOurHoles: nbdinfo and qemu-img tell the extents of our device, and copies keep them.
func TestOthersSeeOurHoles(t *testing.T) {
	device := alternating(4)
	_, o := serveOne(t, device)
	var mapped []extent
	if err := json.Unmarshal([]byte(run(t, "nbdinfo", "--map", "--json", o.uri())), &mapped); err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, e := range mapped {
		text = append(text, fmt.Sprintf("%d+%d:%d", e.Offset, e.Length, e.Type))
	}
	if got := strings.Join(text, " "); got != "0+65536:0 65536+65536:3 131072+65536:0 196608+65536:3" {
		t.Errorf("nbdinfo --map says %s", got)
	}
	if out := run(t, "nbdinfo", "--map=base:allocation", "--totals", o.uri()); !strings.Contains(out, "131072  50.0%") {
		t.Errorf("nbdinfo --totals says %s", out)
	}
	var seen []extent
	if err := json.Unmarshal([]byte(run(t, "qemu-img", "map", "-f", "raw", "--output=json", o.uri())), &seen); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 4 || seen[0].Zero || !seen[1].Zero || seen[2].Zero || !seen[3].Zero {
		t.Errorf("qemu-img map says %+v", seen)
	}
	back := filepath.Join(t.TempDir(), "back")
	run(t, "nbdcopy", "--request-size=65536", o.uri(), back)
	if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, device.contents()) {
		t.Errorf("nbdcopy read other bytes, %v", err)
	}
	if n := device.seen()["read"]; n == 0 || n > 4 {
		t.Errorf("the holes were read: %d reads", n)
	}
	run(t, "qemu-img", "convert", "-f", "raw", "-O", "raw", o.uri(), back+"2")
	if out := run(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", back+"2", o.uri()); !strings.Contains(out, "identical") {
		t.Errorf("qemu-img compare says %s", out)
	}
}

// TestNBDDumpReadsOurServer: through structured replies with holes.
func TestNBDDumpReadsOurServer(t *testing.T) {
	device := newMemory(128 << 10)
	copy(device.data[70<<10:], "here it is")
	_, o := serveOne(t, device)
	out := run(t, "nbddump", o.uri())
	if !strings.Contains(out, "here it is") || !strings.Contains(out, "*") {
		t.Errorf("nbddump says %s", out)
	}
}

// TestNBDFuseMountsOurServer: the export as a file, read and written through the kernel.
func TestNBDFuseMountsOurServer(t *testing.T) {
	program.NeedFile(t, "/dev/fuse")
	device := newMemory(1 << 20)
	copy(device.data, pattern(1<<20))
	_, o := serveOne(t, device)
	dir := t.TempDir()
	mounted := exec.CommandContext(timeLimit(t), program.Need(t, "nbdfuse"), dir, o.uri())
	if err := mounted.Start(); err != nil {
		t.Fatal(err)
	}
	defer mounted.Wait()
	defer exec.Command(program.Need(t, "fusermount3"), "-u", dir).Run()
	path := filepath.Join(dir, "nbd")
	await(t, "it is mounted", func() bool { _, err := os.Stat(path); return err == nil })
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, pattern(1<<20)) {
		t.Errorf("read other bytes, %v", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, wrote := f.WriteAt([]byte("written"), 4096)
	synced := f.Sync()
	if err := f.Close(); wrote != nil || synced != nil || err != nil {
		t.Error(wrote, synced, err)
	}
	if !bytes.Contains(device.contents()[4096:8192], []byte("written")) || device.syncs.Load() == 0 {
		t.Error("the write or the flush did not arrive")
	}
}

// TestNBDClientListsOurServer: the old client, which lists exports one reply each.
func TestNBDClientListsOurServer(t *testing.T) {
	s := startServer(t, ServerOptions{}, NewExport("one", "", newMemory(512)), NewExport("two", "", newMemory(512)))
	o := listen(t, s, "unix", ListenOptions{})
	out := run(t, "nbd-client", "-l", "-unix", o.Address)
	if !strings.Contains(out, "one\n") || !strings.Contains(out, "two\n") {
		t.Errorf("nbd-client lists %s", out)
	}
}

// TestFioVerifiesOurServer: what fio wrote at random it finds again.
func TestFioVerifiesOurServer(t *testing.T) {
	device := newMemory(16 << 20)
	_, o := serveOne(t, device)
	out := run(t, "fio", "--name=v", "--ioengine=nbd", "--uri="+o.uri(), "--rw=randrw", "--bsrange=512-64k", "--bs_unaligned=0", "--iodepth=32",
		"--size=16M", "--verify=crc32c", "--verify_state_save=0", "--verify_fatal=1", "--randseed=7")
	if !strings.Contains(out, "err= 0") {
		t.Errorf("fio says %s", out)
	}
}

// extents collects what the device tells.
func extents(t *testing.T, d dataplane.Device) string {
	t.Helper()
	size, err := d.Size()
	if err != nil {
		t.Fatal(err)
	}
	var all []dataplane.Extent
	err = d.Extents(timeLimit(t), 0, size, func(e dataplane.Extent) error {
		if last := len(all) - 1; last >= 0 && all[last].Zero == e.Zero {
			all[last].Length += e.Length
		} else {
			all = append(all, e)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(all)
}

// TestOurClientSeesTheirHoles: of nbdkit and qemu-nbd, and reads them as zeroes.
func TestOurClientSeesTheirHoles(t *testing.T) {
	path := emptyFile(t, 8<<20)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, wrote := f.WriteAt(pattern(1<<20), 2<<20)
	if err := f.Close(); err != nil || wrote != nil {
		t.Fatal(err, wrote)
	}
	want := fmt.Sprint([]dataplane.Extent{{Offset: 0, Length: 2 << 20, Zero: true}, {Offset: 2 << 20, Length: 1 << 20}, {Offset: 3 << 20, Length: 5 << 20, Zero: true}})
	socket := filepath.Join(t.TempDir(), "qemu.sock")
	startProgram(t, socket, "qemu-nbd", "--socket", socket, "--format", "raw", "--persistent", "--shared", "8", path)
	for name, o := range map[string]DialOptions{
		"nbdkit": startNBDKit(t, "file", path), "qemu-nbd": {Network: "unix", Address: socket, Timeout: patience},
	} {
		d := dial(t, o)
		if !d.Session().Structured || !d.Session().Allocation {
			t.Errorf("%s: negotiated %+v", name, d.Session())
		}
		if got := extents(t, d); got != want {
			t.Errorf("%s tells %s, want %s", name, got, want)
		}
		content := make([]byte, 8<<20)
		copy(content[2<<20:], pattern(1<<20))
		if !bytes.Equal(mustRead(t, d, 8<<20, 0), content) {
			t.Errorf("%s: read other bytes", name)
		}
	}
}
