package catalog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// inTmpfs runs a child with a mount namespace of its own, where path's directory becomes a file system of 24 MiB.
func inTmpfs(t *testing.T, part string) {
	t.Helper()
	cmd := child(t, part, storePath(t))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	}
	var text strings.Builder
	cmd.Stderr = &text
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err != nil && (!errors.As(err, &exit) || strings.Contains(text.String(), errMount.Error())):
		if os.Getenv("CI") != "" {
			t.Fatalf("no file system of its own for the test: %v %s", err, text.String())
		}
		t.Skipf("no file system of its own for the test: %v %s", err, text.String())
	case err != nil:
		t.Fatalf("%v: %s", err, text.String())
	}
}

var errMount = errors.New("mount tmpfs")

func mountTmpfs(dir string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("%w: %w", errMount, err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"); err != nil {
		return fmt.Errorf("%w: %w", errMount, err)
	}
	return nil
}

// fillUp writes until the file system of dir is full, and returns the file that did it.
func fillUp(dir string) (string, error) {
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		return "", err
	}
	for size := 1 << 20; size > 0; size >>= 1 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			return "", err
		}
	}
	return f.Name(), f.Close()
}

// TestFullFileSystem: the room that is held ready lets commits go on when the file system is full, also after the store
// was opened anew; new work is refused meanwhile; and when the room is used up as well nothing is lost, and all works
// again with the space there.
func TestFullFileSystem(t *testing.T) { inTmpfs(t, "full") }

func fullChild(path string) error {
	if err := mountTmpfs(filepath.Dir(path)); err != nil {
		return err
	}
	b, err := OpenBolt(path, BoltOptions{})
	if err != nil {
		return err
	}
	if err := errors.Join(b.Room(), commitMany(b, 200, 1000)); err != nil {
		return err
	}
	filler, err := fillUp(filepath.Dir(path))
	if err != nil {
		return err
	}
	if err := commitMany(b, 500, 1000); err != nil {
		return fmt.Errorf("change records on a full file system: %w", err)
	}
	if err := b.Close(); err != nil {
		return err
	}
	if b, err = OpenBolt(path, BoltOptions{}); err != nil {
		return fmt.Errorf("open on a full file system: %w", err)
	}
	if err := commitMany(b, 100, 1000); err != nil {
		return fmt.Errorf("change records after opening on a full file system: %w", err)
	}
	return errors.Join(useUp(b, filler), b.Close())
}

// commitMany changes the same twenty records again and again.
func commitMany(b *Bolt, n, size int) error {
	for i := range n {
		if err := putText(b, fmt.Sprintf("volume-%d", i%20), strings.Repeat("x", size)); err != nil {
			return err
		}
	}
	return nil
}

// useUp adds large records until the room is gone too.
func useUp(b *Bolt, filler string) error {
	const least = 12 // of the largest records, as docs/STORAGE.md says
	err, added := error(nil), 0
	for ; err == nil && added < 1000; added++ {
		err = putText(b, fmt.Sprintf("more-%d", added), strings.Repeat("y", MaxRecord))
	}
	if !errors.Is(err, ErrNoSpace) {
		return fmt.Errorf("a commit without room, the %dth: %v, want ErrNoSpace", added, err)
	}
	if added < least {
		return fmt.Errorf("the room was used up after %d large records, want %d", added, least)
	}
	if err := b.Room(); !errors.Is(err, ErrNoSpace) {
		return fmt.Errorf("room when there is none: %v, want ErrNoSpace", err)
	}
	all, err := texts(b)
	if err != nil || len(all) != 20+added-1 {
		return fmt.Errorf("%d records after a failed commit, want %d: %v", len(all), 20+added-1, err)
	}
	if err := os.Remove(filler); err != nil {
		return err
	}
	if err := errors.Join(b.Room(), commitMany(b, 20, 1000)); err != nil {
		return fmt.Errorf("after space was made: %w", err)
	}
	if s := b.Stats(); s.RoomBytes < DefaultReserve || s.Failures != 1 {
		return fmt.Errorf("after space was made: %+v", s)
	}
	return nil
}

// TestSparseCopy: a file that was put back with holes gets its room when it is opened.
func TestSparseCopy(t *testing.T) { inTmpfs(t, "sparsely") }

func sparseChild(path string) error {
	dir := filepath.Dir(path)
	if err := mountTmpfs(dir); err != nil {
		return err
	}
	b, err := OpenBolt(path, BoltOptions{})
	if err != nil {
		return err
	}
	if err := errors.Join(commitMany(b, 50, 1000), b.Close()); err != nil {
		return err
	}
	if err := punchFree(path, b.Stats().UsedBytes); err != nil {
		return err
	}
	if b, err = OpenBolt(path, BoltOptions{}); err != nil {
		return err
	}
	if _, err := fillUp(dir); err != nil {
		return err
	}
	if err := errors.Join(b.Room(), commitMany(b, 200, 1000)); err != nil {
		return fmt.Errorf("on a full file system: %w", err)
	}
	return b.Close()
}

// punchFree makes the file a sparse copy of itself.
func punchFree(path string, used int64) error {
	old, err := os.Open(path)
	if err != nil {
		return err
	}
	defer old.Close()
	if err := os.Remove(path); err != nil {
		return err
	}
	sparse, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyN(sparse, old, used)
	return errors.Join(err, sparse.Truncate(1<<30), sparse.Close())
}

// TestRoomStats: the room is there from the start and is kept ahead of a growing store.
func TestRoomStats(t *testing.T) {
	b := openBolt(t, storePath(t), BoltOptions{Reserve: 1 << 20})
	for i := range 12 {
		if s := b.Stats(); s.RoomBytes < 1<<20 || s.UsedBytes == 0 {
			t.Fatalf("after %d commits: %+v", i, s)
		}
		if err := putText(b, fmt.Sprint(i), strings.Repeat("z", MaxRecord)); err != nil {
			t.Fatal(err)
		}
	}
	if err := Room(b); err != nil {
		t.Error(err)
	}
	if err := Room(struct{ Store }{b}); err != nil {
		t.Errorf("a store that holds no room ready: %v", err)
	}
	closeBolt(t, b)
	if err := b.Room(); !errors.Is(err, ErrClosed) {
		t.Errorf("room of a closed store: %v, want ErrClosed", err)
	}
}

// TestNoAllocation: a file that cannot be allocated ahead is no error, a full file system is.
func TestNoAllocation(t *testing.T) {
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	r := room{reserve: 1}
	if err := r.keep(null); err == nil || errors.Is(err, syscall.EOPNOTSUPP) {
		t.Errorf("a device: %v, want the reason why not", err)
	}
	pipe, other, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	other.Close()
	pipe.Close()
	if err := r.keep(pipe); err == nil {
		t.Error("a closed file has room")
	}
}
