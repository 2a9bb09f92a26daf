package config

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/cvold/cvold/internal/ini"
)

// put writes a file below dir.
func put(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	cinder := put(t, dir, "cinder.conf", least+"[cvold]\nlog_level = debug\n")
	ours := put(t, dir, "cvold.conf", "[DEFAULT]\nhost = later\n[cvold]\nlog_level = error\n")
	c, err := Load([]Source{{Path: cinder}, {Path: ours}})
	if err != nil || c.Node != "later" || c.LogLevel != slog.LevelError || len(c.Backends) != 1 {
		t.Errorf("two files: %+v, %v", c, err)
	}
	if c, err = Load([]Source{{Path: cinder}}); err != nil || c.Node == "" {
		t.Errorf("the machine's own name: %+v, %v", c, err)
	}
	bad, missing := put(t, dir, "bad.conf", "[x"), filepath.Join(dir, "missing")
	_, err = Load([]Source{{Path: cinder}, {Path: bad}, {Path: missing}})
	if err == nil || !strings.Contains(err.Error(), bad+":1: ") || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("bad files: %v, want both", err)
	}
	if _, err := Load(nil); err == nil || !strings.Contains(err.Error(), "enabled_backends") {
		t.Errorf("no file: %v", err)
	}
}

// TestLoadDirectories: a directory's *.conf count in the order of their names, where the command line has the directory.
func TestLoadDirectories(t *testing.T) {
	dir := t.TempDir()
	for name, host := range map[string]string{
		"10.conf": "ten", "9.conf": "nine", ".99.conf": "hidden", "99.conf~": "old", "99.CONF": "upper", "99.conf.rpmnew": "new",
	} {
		put(t, dir, name, "[DEFAULT]\nhost = "+host+"\n")
	}
	file := put(t, t.TempDir(), "cvold.conf", least+"[DEFAULT]\nhost = file\n")
	empty := t.TempDir()
	for _, test := range []struct {
		sources []Source
		want    string
	}{
		{[]Source{{file, false}, {dir, true}}, "nine"},
		{[]Source{{dir, true}, {file, false}}, "file"},
		{[]Source{{dir, true}, {file, false}, {dir + "/", true}}, "nine"},
		{[]Source{{file, false}, {empty, true}}, "file"},
	} {
		if c, err := Load(test.sources); err != nil || c.Node != test.want {
			t.Errorf("%v: %+v, %v, want %s", test.sources, c, err, test.want)
		}
	}
}

// TestFilesThatCannotBe: one sentence each, with the name of the file and the way out.
func TestFilesThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	file := put(t, dir, "file", least)
	sub := filepath.Join(dir, "sub")
	if err := errors.Join(os.Mkdir(sub, 0o700), os.Mkdir(filepath.Join(sub, "x.conf"), 0o700), os.Symlink(filepath.Join(dir, "loop"), filepath.Join(dir, "loop"))); err != nil {
		t.Fatal(err)
	}
	crowd := t.TempDir()
	for i := range maxFiles + 1 {
		put(t, crowd, fmt.Sprintf("%03d.conf", i), "")
	}
	for _, test := range []struct {
		name   string
		source Source
		want   string
	}{
		{"missing file", Source{dir + "/no", false}, dir + "/no: no such file or directory: make it, or name another one with --config-file"},
		{"missing directory", Source{dir + "/no", true}, dir + "/no: no such file or directory: make it, or name another one with --config-dir"},
		{"directory as file", Source{dir, false}, dir + ": is a directory: name it with --config-dir"},
		{"directory in a directory", Source{sub, true}, sub + "/x.conf: is a directory: name it with --config-dir"},
		{"file as directory", Source{file, true}, file + ": not a directory: name a file with --config-file"},
		{"below a file", Source{file + "/x", false}, file + "/x: cannot be read: not a directory"},
		{"loop", Source{dir + "/loop", false}, dir + "/loop: cannot be read: too many levels of symbolic links"},
		{"endless", Source{"/dev/zero", false}, "/dev/zero: longer than 4194304 bytes: name a configuration file, or leave out its comments"},
		{"too many", Source{crowd, true}, crowd + "/256.conf: this is the configuration file number 257, at most 256 can be: put them together, or name another --config-dir"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := Load([]Source{test.source}); err == nil || err.Error() != test.want {
				t.Errorf("got %v\nwant %s", err, test.want)
			}
		})
	}
	if err := os.Remove(filepath.Join(crowd, "256.conf")); err != nil {
		t.Fatal(err)
	}
	if _, err := Load([]Source{{crowd, true}}); err == nil || !strings.Contains(err.Error(), "enabled_backends") {
		t.Errorf("as many as can be: %v", err)
	}
}

// TestUnreadable: files of another user.
func TestUnreadable(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be another user for a moment")
	}
	dir := t.TempDir()
	file, closed := put(t, dir, "file", least), filepath.Join(dir, "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	result := make(chan error)
	go func() {
		// Not unlocked: the thread has another user from now on, and ends with the goroutine.
		runtime.LockOSThread()
		const nobody = 65534
		err := syscall.Setfsuid(nobody)
		if err == nil {
			_, err = Load([]Source{{file, false}, {closed, true}})
		}
		result <- err
	}()
	err := <-result
	for _, path := range []string{file, closed} {
		if want := path + ": permission denied for user 0: run cvold as its own user, or let that user read it"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestManyProblems: what is said stays short, and does not take long.
func TestManyProblems(t *testing.T) {
	var text strings.Builder
	text.WriteString(least + "[cvold]\n")
	for i := range 100_000 {
		fmt.Fprintf(&text, "key%d = x\n", i)
	}
	file, err := ini.Parse("c.conf", strings.NewReader(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	_, err = build(file, machine)
	if err == nil || strings.Count(err.Error(), "\n") != maxProblems || !strings.HasSuffix(err.Error(), "\nand 99900 more") {
		t.Errorf("%d problems", strings.Count(err.Error(), "\n"))
	}
}
