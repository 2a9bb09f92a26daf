package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// badDisk is a disk of content whose blocks of 4096 bytes at these offsets cannot be read, until bad is called again.
func badDisk(t *testing.T, content []byte) (uri string, bad func(offsets ...int)) {
	t.Helper()
	dir := t.TempDir()
	disk, list := filepath.Join(dir, "disk"), filepath.Join(dir, "bad")
	write(t, disk, content)
	uri = nbdkit(t, dir, "eval", fmt.Sprintf("get_size=echo %d", len(content)), `pread=
		for b in $(cat `+list+`); do
			if [ $b -lt $(($4+$3)) ] && [ $4 -lt $((b+4096)) ]; then echo EIO bad sector >&2; exit 1; fi
		done
		dd if=`+disk+` iflag=skip_bytes,count_bytes skip=$4 count=$3 status=none`)
	return uri, func(offsets ...int) { write(t, list, []byte(strings.Trim(fmt.Sprint(offsets), "[]"))) }
}

// A disk that loses other blocks in each run: what one run has read stays, whether the checkpoint is believed or not.
func TestCopyRescues(t *testing.T) {
	const size, chunk = 4 << 20, 1 << 20
	content := noise(size)
	for _, believed := range []bool{true, false} {
		uri, bad := badDisk(t, content)
		dir := t.TempDir()
		target, errorMap := filepath.Join(dir, "t"), filepath.Join(dir, "map")
		args := []string{"copy", "--retries", "0", "--on-read-error", "skip", "--error-map", errorMap, "--checkpoint", filepath.Join(dir, "c"), "--resume"}
		if believed {
			args = append(args, "--source-unchanged")
		}
		args = append(args, uri, target)
		write(t, errorMap, []byte("# Mapfile. Of another copy\n0 + 1\n0 4194304 +\n"))

		bad(chunk+8192, chunk+65536, 3*chunk)
		if got := cvol(t.Context(), args...); got.code != exitUnreadable || !strings.Contains(got.stderr, "12 KiB in 3 places") {
			t.Fatalf("first: %+v", got)
		}
		bad(chunk+65536, chunk+12288, 3*chunk+4096)
		if got := cvol(t.Context(), args...); got.code != exitUnreadable || !strings.Contains(got.stderr, "4 KiB in one place") ||
			!strings.Contains(got.stderr, "the target keeps what it has") {
			t.Fatalf("second: %+v", got)
		}
		lost := append([]byte(nil), content...)
		clear(lost[chunk+65536 : chunk+65536+4096])
		holds(t, target, lost, true)

		good := contentOf(t, errorMap)
		write(t, errorMap, good[:len(good)-20])
		if got := cvol(t.Context(), args...); got.code == exitOK || got.code == exitUnreadable || !strings.Contains(got.stderr, "remove it to go on without it") {
			t.Errorf("a damaged map: %+v", got)
		}
		write(t, errorMap, good)
		bad(chunk + 4096)
		if got := cvol(t.Context(), args...); got.code != exitOK {
			t.Errorf("third: %+v", got)
		}
		holds(t, target, content, true)
	}
}

// Without a map too a chunk stays that was verified, though a comparison begins anew.
func TestCopyRescuesWithoutMap(t *testing.T) {
	const chunk = 1 << 20
	content := noise(2 * chunk)
	uri, bad := badDisk(t, content)
	dir := t.TempDir()
	target := filepath.Join(dir, "t")
	args := []string{"copy", "--retries", "0", "--on-read-error", "skip", "--checkpoint", filepath.Join(dir, "c"), "--resume", uri, target}
	lost := append([]byte(nil), content...)
	clear(lost[4096:8192])
	for _, at := range []int{4096, chunk + 4096} {
		bad(4096, at)
		if got := cvol(t.Context(), args...); got.code != exitUnreadable || !strings.Contains(got.stderr, "4 KiB in one place") {
			t.Fatalf("%d: %+v", at, got)
		}
		holds(t, target, lost, true)
	}
}

// A copy that fails leaves a map of what is missing, and none without a checkpoint to go on from.
func TestCopyFailsWithErrorMap(t *testing.T) {
	dir := t.TempDir()
	source, disk, errorMap := filepath.Join(dir, "s"), filepath.Join(dir, "disk"), filepath.Join(dir, "map")
	write(t, source, noise(4<<20))
	write(t, disk, make([]byte, 4<<20))
	target := nbdkit(t, dir, "eval", "get_size=echo 4194304", "can_write=exit 0", "can_flush=exit 0", "flush=exit 0",
		"pread=dd if="+disk+" iflag=skip_bytes,count_bytes skip=$4 count=$3 status=none",
		"pwrite=if [ $4 -ge 2097152 ]; then echo ENOSPC full >&2; exit 1; fi; dd of="+disk+" oflag=seek_bytes seek=$4 conv=notrunc status=none")
	args := []string{"copy", "--retries", "0", "--on-read-error", "skip", "--error-map", errorMap, source, target}
	if got := cvol(t.Context(), args...); got.code == exitOK || got.code == exitUnreadable {
		t.Fatalf("without a checkpoint: %+v", got)
	}
	if _, err := os.Stat(errorMap); !os.IsNotExist(err) {
		t.Errorf("without a checkpoint there is a map: %v", err)
	}
	if got := cvol(t.Context(), append(args, "--checkpoint", filepath.Join(dir, "c"))...); got.code == exitOK || got.code == exitUnreadable {
		t.Fatalf("with a checkpoint: %+v", got)
	}
	if text := string(contentOf(t, errorMap)); !strings.Contains(text, "?\n") || strings.Contains(text, "-\n") {
		t.Errorf("the map is %s", text)
	}
	if out := tool(t, "ddrescuelog", "-t", errorMap); !strings.Contains(out, "non-tried") {
		t.Errorf("ddrescuelog says %s", out)
	}
}
