package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Servers and clients of others: what one wrote the other reads, and qemu-img finds it equal.
func TestCopyWithOthers(t *testing.T) {
	dir := t.TempDir()
	source, back := filepath.Join(dir, "s"), filepath.Join(dir, "back")
	content := holes(9<<20 + 512)
	write(t, source, content)
	t.Run("nbdkit memory", func(t *testing.T) {
		uri := nbdkit(t, t.TempDir(), "memory", "12M")
		answer, _ := copied(t, source, uri)
		if answer.Class != "server-readback" {
			t.Errorf("got %+v", answer)
		}
		tool(t, "nbdcopy", uri, back)
		holds(t, back, content, false)
		if err := os.Remove(back); err != nil {
			t.Fatal(err)
		}
		copied(t, "--connections", "1", uri, back)
		holds(t, back, append(content, make([]byte, 12<<20-len(content))...), true)
	})
	t.Run("nbdkit file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "far")
		write(t, path, noise(12<<20))
		copied(t, "--request-size", "64K", source, nbdkit(t, filepath.Dir(path), "file", path))
		holds(t, path, append(content, noise(12 << 20)[len(content):]...), true)
	})
	t.Run("qemu-nbd of qcow2", func(t *testing.T) {
		dir := t.TempDir()
		image := filepath.Join(dir, "far.qcow2")
		tool(t, "qemu-img", "create", "-q", "-f", "qcow2", image, "9437696")
		uri, stop := qemuNBD(t, dir, "qcow2", image)
		copied(t, source, uri)
		copied(t, uri, filepath.Join(dir, "again"))
		stop()
		holds(t, filepath.Join(dir, "again"), content, true)
		if out := tool(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", source, image); !strings.Contains(out, "identical") {
			t.Errorf("qemu-img says %s", out)
		}
	})
	t.Run("cvol with TLS", func(t *testing.T) {
		dir := t.TempDir()
		certificates(t, dir)
		path := filepath.Join(dir, "far")
		write(t, path, make([]byte, len(content)))
		s := serve(t, "--listen", "127.0.0.1:0", "--tls-certificates", dir, path)
		uri := strings.Replace(s.uri, "127.0.0.1", "localhost", 1)
		got := cvol(t.Context(), "copy", source, strings.Replace(uri, "nbds", "nbd", 1))
		if got.code != exitRefused || !strings.Contains(got.stderr, "TLS") {
			t.Errorf("without TLS: %+v", got)
		}
		copied(t, source, uri+"?tls-certificates="+dir)
		holds(t, path, content, true)
	})
}

// What a server cannot do is refused before anything is written.
func TestCopyRefusesServers(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "s")
	write(t, source, noise(1<<20))
	readOnly := serve(t, "--socket", filepath.Join(dir, "ro"), "--read-only", image(t, 1<<20))
	small := nbdkit(t, dir, "memory", "512K")
	unflushed := nbdkit(t, dir, "eval", "get_size=echo 1048576", "can_write=exit 0", "can_flush=exit 3",
		"pwrite=cat >>"+filepath.Join(dir, "written"), "pread=head -c $3 /dev/zero")
	for uri, says := range map[string]string{
		readOnly.uri: "device is read-only\n",
		small:        "the source has 1 MiB (1048576 bytes), the target only 512 KiB (524288 bytes)\n",
		unflushed:    "not supported\ncvol: what is written there is never known to be durable: --verify none copies all the same\n",
	} {
		got := cvol(t.Context(), "copy", source, uri)
		if got.code != exitRefused || !strings.HasSuffix(got.stderr, says) {
			t.Errorf("got %+v", got)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "written")); !os.IsNotExist(err) {
		t.Errorf("it was written to: %v", err)
	}
	copied(t, "--verify", "none", source, unflushed)
	if got := piped(t.Context(), strings.NewReader("abc"), "copy", "--verify", "none", "-", unflushed); got.code != exitOK {
		t.Errorf("a stream: %+v", got)
	}
}

// A disk with bad sectors: all else is copied, it is said what is missing, ddrescue understands it, and once the sectors can
// be read again a resumed copy has them.
func TestCopyOfABadDisk(t *testing.T) {
	const size, bad, blocks = 8 << 20, 3<<20 + 8192, 30 // blocks of 4096 from bad on, every other one
	dir := t.TempDir()
	disk, target := filepath.Join(dir, "disk"), filepath.Join(dir, "t")
	errorMap, checkpoint := filepath.Join(dir, "map"), filepath.Join(dir, "c")
	content := noise(size)
	write(t, disk, content)
	uri := nbdkit(t, dir, "eval", "get_size=echo 8388608", `pread=
		if [ ! -e `+dir+`/healed ]; then
			b=3153920
			while [ $b -lt 3399680 ]; do
				if [ $b -lt $(($4+$3)) ] && [ $4 -lt $((b+4096)) ]; then echo EIO bad sector >&2; exit 1; fi
				b=$((b+8192))
			done
		fi
		dd if=`+disk+` iflag=skip_bytes,count_bytes skip=$4 count=$3 status=none`)
	flags := []string{"copy", "--retries", "0", "--on-read-error", "skip", "--error-map", errorMap, "--checkpoint", checkpoint, "--resume", "--source-unchanged"}

	if got := cvol(t.Context(), "copy", "--retries", "0", uri, target); got.code != exitOther || !strings.Contains(got.stderr, "read source at 3145728") {
		t.Errorf("without skip: %+v", got)
	}
	if _, err := os.Stat(target); !os.IsNotExist(err) {
		t.Errorf("without skip something is left: %v", err)
	}

	for run := range 2 {
		got := cvol(t.Context(), append(flags, "--json", uri, target)...)
		if got.code != exitUnreadable || !strings.Contains(got.stdout, `"unreadable_bytes": 122880,`) || strings.Contains(got.stdout, "root") {
			t.Errorf("got %+v", got)
		}
		for _, says := range []string{"cannot be read, offset", "there is more, which is not told of", "120 KiB in 30 places", errorMap + " says where; the same command with --resume tries them again"} {
			if !strings.Contains(got.stderr, says) || strings.Count(got.stderr, "\n") != maxTold+3 {
				t.Errorf("run %d does not say %q: %s", run, says, got.stderr)
			}
		}
		lost := append([]byte(nil), content...)
		for i := range blocks {
			clear(lost[bad+i*8192 : bad+i*8192+4096])
		}
		holds(t, target, lost, true)
	}

	// Both say what ddrescue thinks of it: it goes on from there, with the disk's content meanwhile readable.
	if out := tool(t, "ddrescuelog", "-t", errorMap); !strings.Contains(out, "122880 B") {
		t.Errorf("ddrescuelog says %s", out)
	}
	rescued, theirMap := filepath.Join(dir, "rescued"), filepath.Join(dir, "theirs")
	write(t, rescued, contentOf(t, target))
	write(t, theirMap, contentOf(t, errorMap))
	tool(t, "ddrescue", "--quiet", "--retry-passes=1", disk, rescued, theirMap)
	holds(t, rescued, content, true)

	write(t, filepath.Join(dir, "healed"), nil)
	if got := cvol(t.Context(), append(flags, uri, target)...); got.code != exitOK || got.stderr != "" || !strings.Contains(got.stdout, "resumed 7 MiB") {
		t.Errorf("healed: %+v", got)
	}
	holds(t, target, content, true)
	if text := string(contentOf(t, errorMap)); !strings.Contains(text, "0x00000000  0x00800000  +") {
		t.Errorf("the map is %s", text)
	}
	if _, err := os.Stat(checkpoint); !os.IsNotExist(err) {
		t.Errorf("the checkpoint: %v", err)
	}
}
