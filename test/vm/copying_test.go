package vm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cvold/cvold/transfer"
)

// copying is a running `cvol copy`, or another command that reads or writes devices without the agent.
type copying struct {
	*process
	stdout bytes.Buffer // once it is over
	stderr safeBuffer
}

// startCopy starts `cvol copy --json`.
func startCopy(t *testing.T, disks []*suspendable, args ...string) *copying {
	t.Helper()
	return startCvol(t, disks, append([]string{"copy", "--json"}, args...)...)
}

// startCvol starts cvol. It ends with the test at the latest; for that the disks go on.
func startCvol(t *testing.T, disks []*suspendable, args ...string) *copying {
	t.Helper()
	c := &copying{}
	cmd := exec.Command("cvol", args...)
	cmd.Stdout, cmd.Stderr = &c.stdout, io.MultiWriter(os.Stderr, &c.stderr)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.process = watch(cmd)
	t.Cleanup(func() {
		for _, d := range disks {
			d.resume()
		}
		_ = cmd.Process.Kill()
		<-c.ended
	})
	return c
}

// verifiedBytes is how much the checkpoint of a copy that may be under way calls verified, each chunk of it compared with what the
// medium holds now.
func verifiedBytes(t *testing.T, checkpoint, medium string) int64 {
	t.Helper()
	text, err := os.ReadFile(checkpoint)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(text) == 0 {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	unlocked := filepath.Join(t.TempDir(), "checkpoint")
	if err := os.WriteFile(unlocked, text, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := transfer.OpenCheckpoint(unlocked)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f, err := os.Open(medium)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := c.Runs(func(r transfer.Run) error { return sameChunks(f, c.Header().Geometry, r) }); err != nil {
		t.Error(err)
	}
	return c.VerifiedBytes()
}

// sameChunks compares chunks that are no zeroes and all differ.
func sameChunks(r io.ReaderAt, g transfer.Geometry, run transfer.Run) error {
	for i, digest := range run.Digests {
		off, n := g.Range(run.First + int64(i))
		p := make([]byte, n)
		if _, err := r.ReadAt(p, off); err != nil {
			return err
		}
		if g.Sum(p) != digest {
			return fmt.Errorf("the chunk at %d is called verified, and is not on the medium", off)
		}
	}
	if int64(len(run.Digests)) != run.Count {
		return fmt.Errorf("%d chunks from %d have %d digests", run.Count, run.First, len(run.Digests))
	}
	return nil
}
