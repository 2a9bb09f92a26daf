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

// run runs a program to its end and returns its output; try does for one that may fail.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := try(t, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func try(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(timeLimit(t), program.Need(t, name), args...).CombinedOutput()
	return string(out), err
}

// uri is how other programs dial it.
func (o DialOptions) uri() string {
	return URI{Network: o.Network, Address: o.Address, Export: o.Export, TLS: o.TLS != nil}.String()
}

func TestNBDInfoReadsOurServer(t *testing.T) {
	device := newMemory(1 << 20)
	device.info.MinBlock, device.info.PreferredBlock = 512, 8192
	s := startServer(t, ServerOptions{}, NewExport("disk", "the description", device), NewExport("other", "", newMemory(512)))
	readOnly := NewExport("fixed", "", newMemory(512))
	readOnly.ReadOnly = true
	if err := s.Add(readOnly); err != nil {
		t.Fatal(err)
	}
	o := listen(t, s, "unix", ListenOptions{})
	o.Export = "disk"
	var info struct {
		Exports []map[string]any
	}
	if err := json.Unmarshal([]byte(run(t, "nbdinfo", "--json", o.uri())), &info); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"export-name": "disk", "description": "the description", "export-size": 1048576.0, "is_read_only": false,
		"can_flush": true, "can_fua": true, "can_trim": true, "can_zero": true, "can_fast_zero": true, "can_multi_conn": true,
		"block_size_minimum": 512.0, "block_size_preferred": 8192.0, "block_size_maximum": 33554432.0,
	} {
		if got := info.Exports[0][key]; got != want {
			t.Errorf("%s is %v, want %v", key, got, want)
		}
	}
	if err := json.Unmarshal([]byte(run(t, "nbdinfo", "--json", "--list", o.uri())), &info); err != nil {
		t.Fatal(err)
	}
	names := map[any]any{}
	for _, e := range info.Exports {
		names[e["export-name"]] = e["is_read_only"]
	}
	if fmt.Sprint(names) != "map[disk:false fixed:true other:false]" {
		t.Errorf("listed %v", names)
	}
	if out := run(t, "qemu-nbd", "--list", "-k", o.Address); !strings.Contains(out, "exports available: 3") {
		t.Errorf("qemu-nbd lists %s", out)
	}
}

func TestNBDCopyThroughOurServer(t *testing.T) {
	device := newMemory(33 << 20)
	_, o := serveOne(t, device)
	content := pattern(33 << 20)
	clear(content[5<<20 : 9<<20])
	local := filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(local, content, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "nbdcopy", "--flush", "--allocated", local, o.uri())
	if !bytes.Equal(device.contents(), content) || device.syncs.Load() == 0 {
		t.Errorf("nbdcopy wrote other bytes, or did not flush: %d", device.syncs.Load())
	}
	back := filepath.Join(t.TempDir(), "back")
	run(t, "nbdcopy", "--connections=4", o.uri(), back)
	got, err := os.ReadFile(back)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("nbdcopy read other bytes, %v", err)
	}
}

func TestQemuUsesOurServer(t *testing.T) {
	device := newMemory(8 << 20)
	_, o := serveOne(t, device)
	out := run(t, "qemu-io", "-f", "raw", "-c", "write -P 0x5a 0 1M", "-c", "write -f -P 0x5b 1M 64k", "-c", "write -z 2M 1M",
		"-c", "write -z -u 3M 1M", "-c", "discard 4M 1M", "-c", "flush", "-c", "read -P 0x5a 0 1M", "-c", "read -P 0x5b 1M 64k",
		"-c", "read -P 0 2M 2M", "-c", "aio_write -P 7 5M 2M", "-c", "aio_read 0 4M", "-c", "aio_flush", o.uri())
	if strings.Contains(out, "failed") || strings.Contains(out, "error") {
		t.Errorf("qemu-io says\n%s", out)
	}
	seen := device.seen()
	for _, call := range []string{"read", "write", "sync", "discard", "zero unmap=false fast=false", "zero unmap=true fast=false"} {
		if seen[call] == 0 {
			t.Errorf("no %s reached the device: %v", call, seen)
		}
	}
	image := filepath.Join(t.TempDir(), "image.qcow2")
	run(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", o.uri(), image)
	if out := run(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", o.uri(), image); !strings.Contains(out, "Images are identical") {
		t.Errorf("qemu-img compare says %s", out)
	}
	want := device.contents()
	if err := dial(t, o).ZeroAt(0, 8<<20, dataplane.ZeroMode{}); err != nil {
		t.Fatal(err)
	}
	run(t, "qemu-img", "convert", "-n", "-f", "qcow2", "-O", "raw", image, o.uri())
	if !bytes.Equal(device.contents(), want) {
		t.Error("qemu-img wrote other bytes back")
	}
}

func TestOthersSeeOurErrors(t *testing.T) {
	device := newMemory(1 << 20)
	device.setHook(on("read", func() error { return fmt.Errorf("the disk: %w", dataplane.ErrIO) }))
	_, o := serveOne(t, device)
	out, err := try(t, "qemu-io", "-f", "raw", "-c", "read 0 4k", o.uri())
	if err == nil || !strings.Contains(out, "Input/output error") {
		t.Errorf("qemu-io says %s, %v", out, err)
	}
	device.setHook(on("write", func() error { return dataplane.ErrNoSpace }))
	if out, _ := try(t, "qemu-io", "-f", "raw", "-c", "write 0 4k", o.uri()); !strings.Contains(out, "No space left") {
		t.Errorf("qemu-io says %s", out)
	}
}

// TestOthersCopyOverTLS: what comes through is what was there. Who is let in is TestEveryClientUsesTLS.
func TestOthersCopyOverTLS(t *testing.T) {
	a := newAuthority(t)
	device := newMemory(3 << 20)
	copy(device.data, pattern(3<<20))
	s := startServer(t, ServerOptions{TLS: a.serverConfig()}, NewExport("disk", "", device))
	o := listen(t, s, "tcp", ListenOptions{RequireTLS: true})
	u := URI{TLS: true, Network: "tcp", Address: o.Address, Export: "disk", TLSCertificates: a.dir}
	back := filepath.Join(t.TempDir(), "back")
	run(t, "nbdcopy", u.String(), back)
	if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, device.contents()) {
		t.Errorf("nbdcopy over TLS read other bytes, %v", err)
	}
	clear(device.data)
	run(t, "nbdcopy", "--flush", back, u.String())
	if !bytes.Equal(device.contents(), pattern(3<<20)) {
		t.Error("nbdcopy over TLS wrote other bytes")
	}
}
