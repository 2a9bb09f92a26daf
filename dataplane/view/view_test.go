package view

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/faulty"
)

// The tests look at the view through programs, never by themselves: the test's process is the one that serves it.

// killedMount is the environment variable with the mountpoint of the child that mounts and waits to be killed.
const killedMount = "CVOLD_TEST_VIEW_KILLED"

func TestMain(m *testing.M) {
	if point := os.Getenv(killedMount); point != "" {
		if _, err := Mount(context.Background(), point, newSource(), Options{}); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("mounted")
		select {}
	}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Println(err)
		code = 1
	}
	os.Exit(code)
}

// mounted mounts a view of s for the test, or skips it.
func mounted(t *testing.T, s Source, options Options) *View {
	t.Helper()
	return mountedOn(t, t.TempDir(), s, options)
}

func mountedOn(t *testing.T, point string, s Source, options Options) *View {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skipf("the kernel has no FUSE: %v", err)
	}
	v, err := Mount(t.Context(), point, s, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(context.Background()); err != nil && !errors.Is(err, dataplane.ErrClosed) {
			t.Errorf("close: %v", err)
		}
		if kind, err := mountedAt(v.Mountpoint()); kind == mountType || err != nil {
			t.Errorf("after close %q is mounted, %v", kind, err)
		}
	})
	return v
}

// run runs a program and wants it to succeed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := try(name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func try(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func TestCopy(t *testing.T) {
	for name, info := range map[string]dataplane.Info{
		"bytes": {}, "sectors": {MinBlock: 512}, "blocks of 4096, at most 64 KiB": {MinBlock: 4096, MaxBlock: 64 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSource()
			want := s.add(t, "volume-1", 9<<20, info)
			v := mounted(t, s, Options{})
			path, copied := filepath.Join(v.Mountpoint(), "volume-1"), filepath.Join(t.TempDir(), "copy")
			run(t, "cp", path, copied)
			got, err := os.ReadFile(copied)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("the copy has %d bytes of %d, or others: %v", len(got), len(want), err)
			}
			// Odd offsets and lengths, and past the end.
			for _, r := range [][2]int64{{1, 1000}, {4095, 2}, {9<<20 - 7, 100}, {3<<20 + 1, 2<<20 + 5}, {9 << 20, 10}} {
				out, err := exec.Command("dd", "if="+path, "iflag=skip_bytes,count_bytes,fullblock", "bs=300000",
					fmt.Sprint("skip=", r[0]), fmt.Sprint("count=", r[1]), "status=none").Output()
				if err != nil || !bytes.Equal(out, want[r[0]:min(r[0]+r[1], 9<<20)]) {
					t.Errorf("%d+%d: %d bytes, %v", r[0], r[1], len(out), err)
				}
			}
		})
	}
}

// TestCopyOfFiles is the view of what it is for: volumes of a driver, on the disk and on a tmpfs.
func TestCopyOfFiles(t *testing.T) {
	for name, dir := range map[string]string{"disk": t.TempDir(), "tmpfs": "/dev/shm"} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp(dir, "cvold-test-")
			if err != nil {
				t.Skipf("no directory: %v", err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			s := filesIn(t, dir)
			v := mounted(t, s, Options{})
			copied := filepath.Join(t.TempDir(), "copy")
			run(t, "cp", filepath.Join(v.Mountpoint(), s.volume.Name), copied)
			run(t, "cmp", copied, s.path)
			var st unix.Stat_t
			if err := unix.Stat(copied, &st); err != nil || st.Size != s.volume.Size || st.Blocks*512 > 1<<20 {
				t.Errorf("the copy has %d bytes and takes %d, %v", st.Size, st.Blocks*512, err)
			}
		})
	}
}

// TestCopyKeepsHoles: cp finds them by SEEK_DATA without being told to look.
func TestCopyKeepsHoles(t *testing.T) {
	s := newSource()
	want := s.add(t, "volume-1", 64<<20, dataplane.Info{MinBlock: 512})
	v := mounted(t, s, Options{})
	copied := filepath.Join(t.TempDir(), "copy")
	run(t, "cp", "--sparse=auto", filepath.Join(v.Mountpoint(), "volume-1"), copied)
	got, err := os.ReadFile(copied)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the copy has %d bytes of %d, or others: %v", len(got), len(want), err)
	}
	var st unix.Stat_t
	if err := unix.Stat(copied, &st); err != nil || st.Blocks*512 > 1<<20 {
		t.Errorf("the copy takes %d bytes, %v", st.Blocks*512, err)
	}
}

func TestStatAndList(t *testing.T) {
	s := newSource()
	s.add(t, "volume-1", 1<<20, dataplane.Info{})
	s.add(t, "späß", 512, dataplane.Info{})
	for _, name := range []string{"", ".", "..", "a/b", "nul\x00", strings.Repeat("x", 256), "volume-1"} {
		s.extra = append(s.extra, Entry{Name: name, Size: 1 << 20})
	}
	v := mounted(t, s, Options{})
	path := filepath.Join(v.Mountpoint(), "volume-1")
	if got := run(t, "ls", "-A", v.Mountpoint()); got != "sp\303\244\303\237\nvolume-1" {
		t.Errorf("ls: %q", got)
	}
	if got := run(t, "stat", "-c", "%s %a %F %h %u %g", path); got != "1048576 400 regular file 1 0 0" {
		t.Errorf("stat: %s", got)
	}
	if got := run(t, "stat", "-c", "%a %F", v.Mountpoint()); got != "500 directory" {
		t.Errorf("stat of the directory: %s", got)
	}
	before := run(t, "stat", "-c", "%i", path)
	s.add(t, "aaa", 512, dataplane.Info{}) // before it in the list
	if after := run(t, "stat", "-c", "%i", path); after != before {
		t.Errorf("the inode number went from %s to %s", before, after)
	}
	if got := run(t, "ls", v.Mountpoint()); !strings.HasPrefix(got, "aaa\n") {
		t.Errorf("a new volume is not there: %q", got)
	}
	s.mu.Lock()
	delete(s.devices, "volume-1")
	s.extra = nil
	s.mu.Unlock()
	if out, err := try("stat", path); err == nil || !strings.Contains(out, "No such file") {
		t.Errorf("stat of what is gone: %q, %v", out, err)
	}
}

func TestGroup(t *testing.T) {
	s := newSource()
	s.add(t, "volume-1", 512, dataplane.Info{})
	v := mounted(t, s, Options{Group: 4711})
	path := filepath.Join(v.Mountpoint(), "volume-1")
	if got := run(t, "stat", "-c", "%a %u %g", path, v.Mountpoint()); got != "440 0 4711\n550 0 4711" {
		t.Errorf("stat: %s", got)
	}
	if err := os.Chmod(filepath.Dir(v.Mountpoint()), 0o755); err != nil { // the test's directory is root's own
		t.Fatal(err)
	}
	for group, may := range map[uint32]bool{4711: true, 4712: false} {
		cmd := exec.Command("cat", path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: group}}
		out, err := cmd.CombinedOutput()
		if (err == nil) != may {
			t.Errorf("a member of %d may read: %v\n%s", group, err == nil, out)
		}
	}
}

func TestNothingCanBeWritten(t *testing.T) {
	s := newSource()
	s.add(t, "volume-1", 1<<20, dataplane.Info{})
	v := mounted(t, s, Options{})
	path := filepath.Join(v.Mountpoint(), "volume-1")
	for _, cmd := range []string{
		"echo x > " + path, "echo x >> " + path, "truncate -s 5 " + path, "rm -f " + path, "touch " + path + "2",
		"mkdir " + path + "3", "mv " + path + " " + path + "4", "ln -s x " + path + "5", "chmod 777 " + path,
	} {
		if out, err := try("sh", "-c", cmd); err == nil || !strings.Contains(out, "Read-only file system") {
			t.Errorf("%s: %q, %v", cmd, out, err)
		}
	}
	if s.opens() != 0 {
		t.Errorf("%d devices are open", s.opens())
	}
}

func TestErrors(t *testing.T) {
	s := newSource()
	s.add(t, "volume-1", 1<<20, dataplane.Info{})
	v := mounted(t, s, Options{})
	path := filepath.Join(v.Mountpoint(), "volume-1")
	for err, want := range map[error]string{
		dataplane.ErrBusy: "Device or resource busy", dataplane.ErrNotFound: "No such file", dataplane.ErrIO: "Input/output error",
		dataplane.ErrNotOurs: "Stale file handle", dataplane.ErrDisconnected: "Input/output error",
		context.DeadlineExceeded: "timed out",
	} {
		s.mu.Lock()
		s.openErr = err
		s.mu.Unlock()
		if out, cmdErr := try("cat", path); cmdErr == nil || !strings.Contains(out, want) {
			t.Errorf("%v: %q, want %q", err, out, want)
		}
	}
	s.mu.Lock()
	s.openErr = nil
	s.wrap = func(dev dataplane.Device) dataplane.Device {
		return faulty.Wrap(dev, faulty.NewPlan(1).Add(faulty.Rule{Ops: faulty.Read | faulty.Extents | faulty.Size, Action: faulty.Fail(nil)}))
	}
	s.mu.Unlock()
	for _, cmd := range [][]string{{"cat", path}, {"cp", path, filepath.Join(t.TempDir(), "copy")}} {
		if out, err := try(cmd[0], cmd[1:]...); err == nil || !strings.Contains(out, "Input/output error") {
			t.Errorf("%s of a failing device: %q, %v", cmd[0], out, err)
		}
	}
	s.mu.Lock()
	s.listErr = dataplane.ErrIO
	s.mu.Unlock()
	if out, err := try("ls", v.Mountpoint()); err == nil || !strings.Contains(out, "Input/output error") {
		t.Errorf("ls of a failing source: %q, %v", out, err)
	}
}

// holder is a program that has a file of the view open until release.
func holder(t *testing.T, path string) (in io.WriteCloser, cmd *exec.Cmd) {
	t.Helper()
	cmd = exec.Command("sh", "-c", `exec 3<"$1"; echo open; read line; cat <&3 >/dev/null`, "sh", path)
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if err := errors.Join(inErr, outErr, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 16)
	if n, err := out.Read(p); string(p[:n]) != "open\n" {
		t.Fatalf("the holder said %q, %v", p[:n], err)
	}
	return in, cmd
}

// TestOpenHoldsADevice: one an open, closed at release.
func TestOpenHoldsADevice(t *testing.T) {
	s := newSource()
	s.add(t, "volume-1", 1<<20, dataplane.Info{})
	v := mounted(t, s, Options{})
	path := filepath.Join(v.Mountpoint(), "volume-1")
	in1, cmd1 := holder(t, path)
	in2, cmd2 := holder(t, path)
	if s.opens() != 2 || v.Stats().Open != 2 {
		t.Errorf("%d devices, %d files are open", s.opens(), v.Stats().Open)
	}
	for i, in := range []io.Closer{in1, in2} {
		_ = in.Close()
		if err := []*exec.Cmd{cmd1, cmd2}[i].Wait(); err != nil {
			t.Errorf("reader %d: %v", i, err)
		}
	}
	// The kernel releases after close has returned to the program; an unmount waits for it.
	if err := v.Close(t.Context()); err != nil {
		t.Errorf("close: %v", err)
	}
	if s.opens() != 0 || v.Stats().Open != 0 {
		t.Errorf("%d devices, %d files are open", s.opens(), v.Stats().Open)
	}
	if err := v.Close(t.Context()); !errors.Is(err, dataplane.ErrClosed) {
		t.Errorf("second close: %v", err)
	}
}

// TestCloseWhileOpen: the view goes all the same, says so, and whoever had a file open gets an error at once.
func TestCloseWhileOpen(t *testing.T) {
	s := newSource()
	s.add(t, "volume-1", 1<<20, dataplane.Info{})
	v := mounted(t, s, Options{})
	in, cmd := holder(t, filepath.Join(v.Mountpoint(), "volume-1"))
	if err := v.Close(t.Context()); !errors.Is(err, dataplane.ErrBusy) {
		t.Errorf("close: %v, want ErrBusy", err)
	}
	if s.opens() != 0 {
		t.Errorf("%d devices are open", s.opens())
	}
	_ = in.Close()
	if err := cmd.Wait(); err == nil {
		t.Error("the reader did not notice")
	}
	if kind, err := mountedAt(v.Mountpoint()); kind != "" || err != nil {
		t.Errorf("%q is mounted, %v", kind, err)
	}
}

// TestCloseWhileReading: a device that hangs does not keep the view.
func TestCloseWhileReading(t *testing.T) {
	s := newSource()
	s.add(t, "volume-1", 1<<20, dataplane.Info{})
	reading := make(chan struct{})
	s.wrap = func(dev dataplane.Device) dataplane.Device {
		return faulty.Wrap(noting{dev, sync.OnceFunc(func() { close(reading) })},
			faulty.NewPlan(1).Add(faulty.Rule{Ops: faulty.Read, Action: faulty.Delay(make(chan struct{}))}))
	}
	v := mounted(t, s, Options{})
	cmd := exec.Command("cat", filepath.Join(v.Mountpoint(), "volume-1"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-reading
	if err := v.Close(t.Context()); !errors.Is(err, dataplane.ErrBusy) {
		t.Errorf("close: %v, want ErrBusy", err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the reader did not notice")
	}
}

// noting tells of the first Size, with which each read begins.
type noting struct {
	dataplane.Device
	note func()
}

func (n noting) Size() (int64, error) {
	n.note()
	return n.Device.Size()
}

// TestUnmountedByOthers: an operator's umount is no error of Close.
func TestUnmountedByOthers(t *testing.T) {
	v := mounted(t, newSource(), Options{})
	run(t, "umount", v.Mountpoint())
	if err := v.Close(t.Context()); err != nil {
		t.Errorf("close: %v", err)
	}
}

// TestMountAfterAKill: a view that a killed process left is taken away, also two of them.
func TestMountAfterAKill(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	point := filepath.Join(t.TempDir(), "with space\tand tab")
	if err := os.Mkdir(point, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		leaveStale(t, point)
	}
	if out, err := try("ls", point); err == nil || !strings.Contains(out, "not connected") {
		t.Fatalf("the mount left behind is not dead: %q, %v", out, err)
	}
	s := newSource()
	s.add(t, "volume-1", 512, dataplane.Info{})
	v := mountedOn(t, point, s, Options{})
	if got := run(t, "ls", point); got != "volume-1" {
		t.Errorf("ls: %q", got)
	}
	// One that lives is left alone.
	if _, err := Mount(t.Context(), point, s, Options{}); !errors.Is(err, dataplane.ErrBusy) {
		t.Errorf("mount over a living view: %v, want ErrBusy", err)
	}
	if got := run(t, "ls", v.Mountpoint()); got != "volume-1" {
		t.Errorf("ls after that: %q", got)
	}
}

// leaveStale has a child mount and kills it.
func leaveStale(t *testing.T, point string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), killedMount+"="+point)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(point, unix.MNT_DETACH) })
	p := make([]byte, 256)
	if n, err := out.Read(p); string(p[:n]) != "mounted\n" {
		t.Fatalf("the child said %q, %v", p[:n], err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}

// TestOtherMounts: another file system of FUSE at the point is left alone, one that is not of FUSE is mounted over.
func TestOtherMounts(t *testing.T) {
	v := mounted(t, newSource(), Options{})
	if _, err := Mount(t.Context(), filepath.Join(v.Mountpoint(), "none"), newSource(), Options{}); err == nil {
		t.Error("a mount where there is no directory succeeded")
	}
	point := t.TempDir()
	if err := unix.Mount("cvold-test", point, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("mount tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(point, unix.MNT_DETACH) })
	over := mountedOn(t, point, newSource(), Options{})
	if err := over.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if kind, err := mountedAt(point); kind != "tmpfs" || err != nil {
		t.Errorf("left is %q, %v", kind, err)
	}
}
