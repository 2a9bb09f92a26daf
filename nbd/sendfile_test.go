package nbd

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/file"
)

// onFile is a device on a file of that content.
func onFile(t *testing.T, content []byte) (dataplane.Device, string) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	device, err := file.OpenPath(t.Context(), path, dataplane.Mode{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { device.Close() })
	return device, path
}

// TestReadsFromTheFile: long reads come from the device's file itself, in every form of a reply, among others that do not.
func TestReadsFromTheFile(t *testing.T) {
	content := pattern(4 << 20)
	device, _ := onFile(t, content)
	mustWrite(t, device, bytes.Repeat([]byte{7}, 4096), 1<<20) // seen at once
	copy(content[1<<20:], bytes.Repeat([]byte{7}, 4096))
	_, o := serveOne(t, device)
	simple := opened(t, o)
	for _, n := range []uint32{4096, sendLeast, 3<<20 + 1} {
		simple.sendRequest(header(cmdRead, 0, 512, n))
	}
	for _, n := range []int{4096, sendLeast, 3<<20 + 1} {
		if b := simple.receive(replySize + n); !bytes.Equal(b[replySize:], content[512:512+n]) {
			t.Errorf("a read of %d gives other bytes", n)
		}
	}
	bothForms(t, func(t *testing.T, extended bool) {
		c := chunked(t, o, extended, false)
		for _, n := range []uint64{512, sendLeast, 2 << 20} {
			reply := c.chunks(head{command: cmdRead, offset: 1<<20 - 512, length: n}, nil, extended)
			wantContents(t, reply, 1<<20-512, content[1<<20-512:1<<20-512+int(n)])
		}
	})
	d := dial(t, o)
	for off := int64(0); off < 4<<20; off += 1 << 20 {
		if got := mustRead(t, d, 1<<20, off); !bytes.Equal(got, content[off:off+1<<20]) {
			t.Errorf("our client reads other bytes at %d", off)
		}
	}
}

// TestHolesOfTheFile: a hole of the file is told as one, for it is read through a buffer.
func TestHolesOfTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 4<<20)); err != nil {
		t.Fatal(err)
	}
	device, err := file.OpenPath(t.Context(), path, dataplane.Mode{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	_, o := serveOne(t, device)
	reply := chunked(t, o, false, false).chunks(head{command: cmdRead, length: 1 << 20}, nil, false)
	if len(reply) != 1 || reply[0].kind != chunkHole {
		t.Errorf("a hole is answered with %v", kinds(reply))
	}
}

// TestFileThatEnds: a file that was cut behind the device's back fails the read, not more, where a reply can say so.
func TestFileThatEnds(t *testing.T) {
	bothForms(t, func(t *testing.T, extended bool) {
		device, path := onFile(t, pattern(1<<20))
		_, o := serveOne(t, device)
		c := chunked(t, o, extended, false)
		if err := os.Truncate(path, 256<<10); err != nil {
			t.Fatal(err)
		}
		reply := c.chunks(head{command: cmdRead, offset: 128 << 10, length: 512 << 10}, nil, extended)
		if len(reply) != 2 || reply[0].kind != chunkData || reply[1].kind != chunkError {
			t.Fatalf("answered with %v", kinds(reply))
		}
		if !bytes.Equal(reply[0].payload[8+128<<10:], make([]byte, 384<<10)) {
			t.Error("the padding is not zero")
		}
		wantContents(t, c.chunks(head{command: cmdRead, length: 128 << 10}, nil, extended), 0, pattern(1 << 20)[:128<<10])
	})
}

// TestFenceWithoutTheClient: a client that does not take what a file sends it does not keep the fence.
func TestFenceWithoutTheClient(t *testing.T) {
	device, _ := onFile(t, pattern(32<<20))
	s, o := openLimited(t, Limits{DrainTimeout: 50 * time.Millisecond}, device)
	lazy := opened(t, o)
	lazy.sendRequest(header(cmdRead, 0, 0, maxPayload))
	await(t, "it is sent", func() bool {
		sending := false
		s.find("disk").each(func(t *transmission) { sending = sending || t.outlet.sending.Load() })
		return sending
	})
	ctx, cancel := context.WithTimeout(t.Context(), lateForTests)
	defer cancel()
	if err := s.Remove(ctx, "disk"); err != nil {
		t.Error(err)
	}
}

// lateForTests is far beyond the drain time-out, and short of the stall time-out.
const lateForTests = 20 * time.Second
