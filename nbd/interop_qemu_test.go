package nbd

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// qemuSteps are commands of qemu-io to an export of 8 MiB, one after another, each run by a qemu-io of its own. Without
// fails a step must end well. calls are those that the device must see first; reads that QEMU adds to probe do not count.
var qemuSteps = []struct {
	do, says, calls string
	fails           bool
}{
	{"length", "8 MiB", "", false},
	{"info", "format name: raw", "", true}, // for any NBD server: an export has no more to tell
	{"read -P 0 0 8M", "read 8388608/8388608 bytes at offset 0", "read", false},
	{"write -P 1 0 64k", "wrote 65536/65536 bytes at offset 0", "write", false},
	{"write -q -P 1 0 4k", "", "write", false},
	{"write -C -P 1 0 4k", "4096,1,", "write", false},
	{"write -P 5 1000 24", "wrote 24/24 bytes at offset 1000", "write", false},
	{"read -P 5 1000 24", "read 24/24 bytes", "read", false},
	{"read -s 1000 -l 24 -P 5 0 4k", "read 4096/4096 bytes", "read", false},
	{"read -v 998 4", "000003e6:  01 01 05 05", "read", false},
	{"read -P 9 0 512", "Pattern verification failed at offset 0", "read", true},
	{"writev -P 2 64k 4k 8k 512", "wrote 12800/12800 bytes at offset 65536", "write", false},
	{"readv -P 2 64k 512 12k", "read 12800/12800 bytes at offset 65536", "read", false},
	{"write -f -P 4 512k 4k", "wrote 4096/4096 bytes", "write sync", false},
	{"writev -f -P 4 516k 2k 2k", "wrote 4096/4096 bytes", "write sync", false},
	{"read -P 4 512k 8k", "read 8192/8192 bytes", "read", false},
	{"write -z 1M 64k", "wrote 65536/65536 bytes", "zero unmap=false fast=false", false},
	{"write -z -f 1M 4k", "wrote 4096/4096 bytes", "zero unmap=false fast=false sync", false},
	{"write -z -u 2M 1M", "wrote 1048576/1048576 bytes", "zero unmap=true fast=false", false},
	{"write -z -n 3M 1M", "wrote 1048576/1048576 bytes", "zero unmap=false fast=true", false},
	{"write -z -u -n -f 4M 512", "wrote 512/512 bytes", "zero unmap=true fast=true sync", false},
	{"discard 4M 1M", "discard 1048576/1048576 bytes at offset 4194304", "discard", false},
	{"discard -q 5M 512", "", "discard", false},
	{"flush", "", "", false}, // nothing was written to flush
	{"write -P 6 6M 512; flush", "wrote 512/512 bytes", "write sync", false},
	{"aio_write -P 3 128k 64k; aio_write -z 192k 64k; aio_flush; aio_read -P 3 128k 64k; aio_read -P 0 192k 64k; aio_flush",
		"read 65536/65536 bytes at offset 196608", "", false},
	{"aio_write -f -P 3 256k 4k; aio_flush", "wrote 4096/4096 bytes at offset 262144", "write sync", false},
	{"aio_write -z -u 260k 4k; aio_flush", "wrote 4096/4096 bytes", "zero unmap=true fast=false", false},
	{"map", "8 MiB (0x800000) bytes     allocated at offset 0 bytes", "", false},
	{"alloc 1M 1M", "1048576/1048576 bytes allocated at offset 1 MiB", "", false},
	{"truncate 16M", "Cannot grow NBD nodes", "", true},
	{"read 8M 512", "read failed: Input/output error", "", true},
	{"write 8388000 1000", "write failed: Input/output error", "", true},
	{"reopen -r; write 0 512", "Block node is read-only", "", true},
	{"reopen -r; reopen -w; write -P 1 0 512", "wrote 512/512 bytes", "sync write", false},
	{"sleep 1; read -P 1 0 512; close", "read 512/512 bytes", "read", false},
	{"write -P 8 7M 512; sigraise 9", "", "write", true},
	{"write -P 8 7M 1k; abort", "", "write", true},
	{"read -P 8 7M 1k; quit", "read 1024/1024 bytes", "read", false},
}

// TestQemuIODoesEverything: each command of qemu-io that there is for an image, and what comes of it at the device.
func TestQemuIODoesEverything(t *testing.T) {
	device := newMemory(8 << 20)
	_, o := serveOne(t, device)
	for _, step := range qemuSteps {
		args := []string{"-f", "raw", "-t", "writeback"}
		for command := range strings.SplitSeq(step.do, "; ") {
			args = append(args, "-c", command)
		}
		before := len(device.called())
		out, err := try(t, "qemu-io", append(args, o.uri())...)
		if (err != nil) != step.fails || !strings.Contains(out, step.says) {
			t.Errorf("%s: %v, says %s", step.do, err, out)
		}
		if got := strings.Join(device.called()[before:], " "); !strings.HasPrefix(got, step.calls) {
			t.Errorf("%s: the device saw %s, want %s", step.do, got, step.calls)
		}
	}
	want := make([]byte, 8<<20)
	for _, w := range []struct {
		value byte
		at, n int
	}{
		{1, 0, 64 << 10}, {5, 1000, 24}, {1, 0, 512}, {2, 64 << 10, 12800}, {4, 512 << 10, 8 << 10}, {6, 6 << 20, 512}, {3, 128 << 10, 64 << 10},
		{3, 256 << 10, 4 << 10}, {8, 7 << 20, 1 << 10},
	} {
		copy(want[w.at:], bytes.Repeat([]byte{w.value}, w.n))
	}
	if !bytes.Equal(device.contents(), want) {
		t.Error("the device holds other bytes than were written")
	}
}

// TestQemuImgDoesMore: what of qemu-img the other tests do not do: writes out of order, holes to and fro, differences, parts, an
// overlay over an export and its commit.
func TestQemuImgDoesMore(t *testing.T) {
	device := newMemory(8 << 20)
	_, o := serveOne(t, device)
	dir := t.TempDir()
	local, overlay := filepath.Join(dir, "local"), filepath.Join(dir, "overlay.qcow2")
	content := pattern(8 << 20)
	clear(content[2<<20 : 5<<20])
	if err := os.WriteFile(local, content, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "qemu-img", "convert", "-n", "-m", "8", "-W", "-S", "64k", "-f", "raw", "-O", "raw", local, o.uri())
	if !bytes.Equal(device.contents(), content) {
		t.Error("convert wrote other bytes")
	}
	run(t, "qemu-img", "dd", "-f", "raw", "-O", "raw", "bs=1M", "skip=6", "if="+o.uri(), "of="+local+"2")
	if got, err := os.ReadFile(local + "2"); err != nil || !bytes.Equal(got, content[6<<20:]) {
		t.Errorf("dd read other bytes, %v", err)
	}
	run(t, "qemu-img", "create", "-f", "qcow2", "-b", o.uri(), "-F", "raw", overlay)
	run(t, "qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 64k", overlay)
	out, err := try(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", o.uri(), overlay)
	if err == nil || !strings.Contains(out, "Content mismatch at offset 1048576!") {
		t.Errorf("compare says %s, %v", out, err)
	}
	run(t, "qemu-img", "commit", "-f", "qcow2", overlay)
	copy(content[1<<20:], bytes.Repeat([]byte{7}, 64<<10))
	if !bytes.Equal(device.contents(), content) {
		t.Error("commit wrote other bytes")
	}
	if out := run(t, "qemu-img", "info", "-f", "raw", o.uri()); !strings.Contains(out, "virtual size: 8 MiB (8388608 bytes)") {
		t.Errorf("info says %s", out)
	}
	if out := run(t, "qemu-img", "bench", "-f", "raw", "-c", "200", "-d", "32", "-s", "4k", "-w", "--flush-interval", "50", o.uri()); !strings.Contains(out, "Run completed") {
		t.Errorf("bench says %s", out)
	}
}
