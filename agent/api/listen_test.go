package api

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestListenPrivate: who may connect is the kernel's decision, asked with real processes of other users. The umask lets
// everyone in, so that only the socket's own mode keeps them out.
func TestListenPrivate(t *testing.T) {
	asRoot(t)
	const group = 4242
	nobody := syscall.Credential{Uid: 65534, Gid: 65534}
	member := syscall.Credential{Uid: 65534, Gid: 65534, Groups: []uint32{1, group}}
	denied := int(syscall.EACCES)
	for _, c := range []struct {
		group          string
		mode           os.FileMode
		gid            uint32
		nobody, member int
	}{
		{"", 0o600, uint32(os.Getegid()), denied, denied},
		{strconv.Itoa(group), 0o660, group, denied, 0},
	} {
		path := filepath.Join(openDirectory(t), "run", "nbd.sock")
		old := syscall.Umask(0)
		l, err := ListenPrivate(path, c.group)
		syscall.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if gid := st.Sys().(*syscall.Stat_t).Gid; st.Mode().Perm() != c.mode || gid != c.gid {
			t.Errorf("group %q: mode %o gid %d", c.group, st.Mode().Perm(), gid)
		}
		for who, want := range map[*syscall.Credential]int{&nobody: c.nobody, &member: c.member, {Uid: 0, Gid: 0}: 0} {
			if got := askAs(t, *who, path, dialOnly); !slices.Equal(got, []int{want}) {
				t.Errorf("group %q: %+v: errno %v, want %d", c.group, who, got, want)
			}
		}
		if _, err := ListenPrivate(path, c.group); !errors.Is(err, ErrSocketInUse) {
			t.Errorf("a live socket: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestBoundClosed: before anyone opens it, the socket is its owner's alone, whatever the umask is.
func TestBoundClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nbd.sock")
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	l, err := listen(path, func() error {
		st, err := os.Stat(path)
		if err == nil && st.Mode().Perm() != 0o600 {
			t.Errorf("bound with mode %o", st.Mode().Perm())
		}
		return errors.Join(err, os.ErrPermission)
	})
	if !errors.Is(err, os.ErrPermission) {
		t.Errorf("%v %v", l, err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a socket that could not be opened stays: %v", err)
	}
}

func TestListenPrivateRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "nbd.sock")
	if _, err := ListenPrivate(path, "no-such-group"); err == nil || !strings.Contains(err.Error(), "no such group") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("refused, and there all the same: %v", err)
	}
	if l, err := ListenPrivate(dir, ""); err == nil {
		l.Close()
		t.Error("a directory was taken")
	}
}

func TestListen(t *testing.T) {
	dir := openDirectory(t)
	path := filepath.Join(dir, "a", "b", "cvold.sock")
	old := syscall.Umask(0o077)
	l, err := Listen(path)
	syscall.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	mode := func(p string) os.FileMode {
		st, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		return st.Mode().Perm()
	}
	if mode(path) != 0o666 || mode(filepath.Dir(path)) != 0o755 {
		t.Errorf("modes %o %o", mode(path), mode(filepath.Dir(path)))
	}
	if _, err := Listen(path); !errors.Is(err, ErrSocketInUse) {
		t.Errorf("a live socket: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as a crash leaves it
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, err = Listen(path)
	if err != nil {
		t.Fatalf("a stale socket: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket outlives its listener: %v", err)
	}
}

func TestListenLeavesOtherFilesAlone(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link, dir, filepath.Join(file, "sock"), filepath.Join(dir, strings.Repeat("x", 120))} {
		if l, err := Listen(path); err == nil {
			l.Close()
			t.Errorf("%s was taken", path)
		}
	}
	if p, _ := os.ReadFile(file); string(p) != "precious" {
		t.Errorf("%q", p)
	}
}
