package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cvold/cvold/test/bench"
)

// The others are called as their users call them.
func TestArguments(t *testing.T) {
	memory := &world{benchmark: &benchmark{cvol: "cvol"}, size: 5 << 20, dir: "/d"}
	disk := &world{benchmark: memory.benchmark, copyCase: copyCase{onDisk: true}, size: 5 << 20}
	served := &world{benchmark: memory.benchmark, copyCase: copyCase{serve: nbdkit()}, size: 5 << 20}
	tests := []struct {
		w    *world
		p    program
		want string
	}{
		{memory, dd, "dd if=S of=T count=5242880 bs=1M iflag=count_bytes conv=fdatasync status=none"},
		{disk, dd, "dd if=S of=T count=5242880 bs=1M iflag=count_bytes,direct oflag=direct conv=fdatasync status=none"},
		{served, dd, "dd if=S of=T count=5242880 bs=1M iflag=count_bytes conv=fdatasync,notrunc status=none"},
		{memory, qemuImg, "qemu-img convert -n -W -m 16 -f raw -O raw -t writeback S T"},
		{disk, qemuImg, "qemu-img convert -n -W -m 16 -f raw -O raw -t none -T none S T"},
		{served, nbdcopy, "nbdcopy --flush S T"},
		{memory, rsync("rsync, delta", "--no-whole-file"), "rsync --inplace --fsync --ignore-times --no-whole-file S T"},
		{memory, digesting, "cvol copy --no-progress --verify digest S T"},
		{disk, cvol(ours, "--verify", "readback"), "cvol copy --no-progress --verify readback --direct S T"},
		{memory, sinceManifest, "cvol copy --no-progress --verify digest --since /d/manifest S T"},
	}
	for _, test := range tests {
		if got := strings.Join(test.p.args(test.w, "S", "T"), " "); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

// In every case ours is first, for ratios are the first one's, and each bar has a rival.
func TestCases(t *testing.T) {
	for _, c := range cases {
		if c.programs[0].name != ours || len(c.bars) == 0 {
			t.Errorf("%s: begins with %s, %d bars", c.name, c.programs[0].name, len(c.bars))
		}
		for _, b := range c.bars {
			if !slices.ContainsFunc(c.programs[1:], func(p program) bool { return strings.HasPrefix(p.name, b.rival) }) {
				t.Errorf("%s: no %q to compare with", c.name, b.rival)
			}
		}
	}
}

func TestMakeFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := makeFile(path, 16*chunkSize, everyOther); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil || len(before) != 16*chunkSize {
		t.Fatalf("%d bytes, %v", len(before), err)
	}
	chunk := func(p []byte, i int) []byte { return p[i*chunkSize:][:chunkSize] }
	for i := range 16 {
		if hole := bytes.Count(chunk(before, i), []byte{0}) == chunkSize; hole == everyOther(int64(i)) {
			t.Errorf("chunk %d: hole %v", i, hole)
		}
	}
	if bytes.Equal(chunk(before, 0), chunk(before, 1)) {
		t.Error("two chunks are the same")
	}
	for age, same := range []bool{true, false} {
		if err := change(path, 16, 1, changed, uint64(age)); err != nil {
			t.Fatal(err)
		}
		after, err := os.ReadFile(path)
		if err != nil || bytes.Equal(chunk(before, 0), chunk(after, 0)) != same || !bytes.Equal(before[chunkSize:], after[chunkSize:]) {
			t.Errorf("age %d: %v", age, err)
		}
	}
	if err := makeFile(path, 0, nothing); !os.IsExist(err) {
		t.Errorf("over a file: %v", err)
	}
}

func TestCells(t *testing.T) {
	at := func(name string) bench.Contender { return bench.Contender{Name: name} }
	r := bench.Result{
		Contenders: []bench.Contender{at(ours), at("rsync"), at("rsync, delta"), at("dd")},
		Samples: [][]bench.Sample{{{Speed: 90, CPU: time.Second, RSS: 3 << 20}}, {{Speed: 10, CPU: 4 * time.Second, RSS: 9 << 20}},
			{{Speed: 30, CPU: 2 * time.Second, RSS: 8 << 20}}, {{Speed: 50}}},
	}
	if got := column(r, "rsync") + column(r, "nbdcopy"); got != "10 / 30-" {
		t.Errorf("columns %s", got)
	}
	cpu, rss := costs(r, func(name string) bool { return strings.HasPrefix(name, "rsync") })
	if cpu != "1.00 / 2.00" || rss != "3 / 8" {
		t.Errorf("costs %s, %s", cpu, rss)
	}
}
