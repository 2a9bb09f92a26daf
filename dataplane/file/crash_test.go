package file

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
)

// The environment of the child that does one call and kills itself after a step of it.
const (
	crashCall  = "CVOLD_TEST_CRASH_CALL"  // create, extend, delete, rename
	crashStep  = "CVOLD_TEST_CRASH_STEP"  // a name of Driver.step
	crashDir   = "CVOLD_TEST_CRASH_DIR"   // the backend's directory
	crashMarks = "CVOLD_TEST_CRASH_MARKS" // "sidecar", or empty
)

func TestMain(m *testing.M) {
	if os.Getenv(crashCall) != "" {
		fmt.Println("survived:", crashHere())
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// crashHere is the child's life.
func crashHere() error {
	step := os.Getenv(crashStep)
	var m marks
	if os.Getenv(crashMarks) != "" {
		m = sidecarMarks{}
	}
	d, err := newDriver(Config{Name: "child", Directory: os.Getenv(crashDir)}, m, func(now string) {
		if now == step {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	})
	if err != nil {
		return err
	}
	return crashCalls[os.Getenv(crashCall)](d)
}

// crashCalls are the changing calls, each of which may be made again after any crash.
var crashCalls = map[string]func(d *Driver) error{
	"create": func(d *Driver) error {
		_, err := d.Create(bg, dataplane.Volume{ID: "new", Name: "volume-new", Size: 1 << 20}, markFor("new"))
		return err
	},
	"extend": func(d *Driver) error { return d.Extend(bg, known(d), 2<<20) },
	"delete": func(d *Driver) error { return d.Delete(bg, known(d)) },
	"adopt": func(d *Driver) error {
		found := d.path("found")
		if _, err := os.Stat(d.path("volume-A")); errors.Is(err, fs.ErrNotExist) {
			if err := os.WriteFile(found, bytes.Repeat([]byte("data"), 1<<18), 0o600); err != nil {
				return err
			}
		}
		_, err := d.Adopt(bg, dataplane.Volume{ID: "A", Name: "volume-A"}, "found", markFor("A"))
		return err
	},
	"disown": func(d *Driver) error { return d.Disown(bg, known(d)) },
	"rename": func(d *Driver) error {
		_, err := d.UpdateMigratedVolume(bg, dataplane.Volume{ID: "S", Name: "volume-S"}, known(d), "available")
		return err
	},
}

// known is the volume as the catalog knows it: its identity was kept when it was made.
func known(d *Driver) dataplane.Volume {
	identity, err := os.ReadFile(filepath.Join(filepath.Dir(d.config.Directory), "identity"))
	if err != nil {
		panic(err)
	}
	return dataplane.Volume{ID: "volume-N", Name: "volume-N", Size: 1 << 20, Identity: string(identity)}
}

// crash runs a call in a child and has it killed after step.
func crash(t *testing.T, d *Driver, call, step string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), crashCall+"="+call, crashStep+"="+step, crashDir+"="+d.config.Directory)
	if d.marks == (sidecarMarks{}) {
		cmd.Env = append(cmd.Env, crashMarks+"=sidecar")
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child was not killed: %v\n%s", err, out)
	}
}

// TestKilledBetweenSteps kills a process after each step of each call (SAFETY: every changing call may be made twice).
// What was done is done or not done, nothing foreign is touched, and the next call finishes and leaves nothing over.
func TestKilledBetweenSteps(t *testing.T) {
	const keeper = ".cvold-new-but-not-ours"
	for _, m := range []marks{xattrMarks{}, sidecarMarks{}} {
		for _, tt := range []struct {
			call, step string
			after      string // what is there when the call was made again
		}{
			{"create", "created", "volume-N volume-new"},
			{"create", "sized", "volume-N volume-new"},
			{"create", "marked", "volume-N volume-new"},
			{"create", "synced", "volume-N volume-new"},
			{"create", "renamed", "volume-N volume-new"},
			{"extend", "extended", "volume-N"},
			{"delete", "unlinked", ""},
			{"delete", "unlink synced", ""},
			{"rename", "renamed", "volume-S"},
			{"adopt", "marked", "volume-A volume-N"},
			{"adopt", "adopted", "volume-A volume-N"},
			{"adopt", "renamed", "volume-A volume-N"},
		} {
			t.Run(fmt.Sprintf("%T %s %s", m, tt.call, tt.step), func(t *testing.T) {
				d, want := prepareCrash(t, m, keeper)
				crash(t, d, tt.call, tt.step)
				if err := crashCalls[tt.call](d); err != nil {
					t.Fatalf("the call made again: %v", err)
				}
				if got := listed(t, d); got != tt.after {
					t.Errorf("listed %q, want %q", got, tt.after)
				}
				if p, err := os.ReadFile(d.path(keeper)); err != nil || string(p) != "theirs" {
					t.Errorf("the foreign file: %q, %v", p, err)
				}
				holdNothingOver(t, d, strings.Fields(tt.after), keeper)
				if tt.call != "delete" && !bytes.Contains(contentOf(t, d, strings.Fields(tt.after)[0]), want) {
					t.Error("the data is lost")
				}
			})
		}
	}
}

// TestKilledInDisown: the mark is gone, the file stays as it was.
func TestKilledInDisown(t *testing.T) {
	for _, m := range []marks{xattrMarks{}, sidecarMarks{}} {
		d, want := prepareCrash(t, m, "keeper")
		crash(t, d, "disown", "erased")
		if err := crashCalls["disown"](d); err != nil {
			t.Fatalf("%T: the call made again: %v", m, err)
		}
		if got := listed(t, d); got != "" {
			t.Errorf("%T: listed %q", m, got)
		}
		if !bytes.Contains(contentOf(t, d, "volume-N"), want) || len(left(t, d)) != 2 {
			t.Errorf("%T: left are %q", m, left(t, d))
		}
	}
}

// prepareCrash makes a backend with one volume and a foreign file with a name like ours.
func prepareCrash(t *testing.T, m marks, keeper string) (*Driver, []byte) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "volumes")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d := open(t, dir, m)
	v := volumeOf(t, d, "volume-N", 1<<20)
	want := bytes.Repeat([]byte("data"), 1024)
	dev := deviceOf(t, d, v, dataplane.Mode{})
	if _, err := dev.WriteAt(want, 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(dev.Sync(), dev.Close()); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"../identity": v.Identity, keeper: "theirs"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return d, want
}

func listed(t *testing.T, d *Driver) string {
	t.Helper()
	var names []string
	err := d.List(bg, func(o dataplane.Object) error { names = append(names, o.Volume.Name); return nil })
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// holdNothingOver: in the directory are the volumes, a sidecar for each where those are used, and what is not ours.
func holdNothingOver(t *testing.T, d *Driver, volumes []string, keeper string) {
	t.Helper()
	want := append([]string{keeper}, volumes...)
	if d.marks == (sidecarMarks{}) {
		for _, name := range volumes {
			var st unix.Stat_t
			if err := unix.Stat(d.path(name), &st); err != nil {
				t.Fatal(err)
			}
			want = append(want, sidecarName(st.Ino))
		}
	}
	got := left(t, d)
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("left are %q, want %q", got, want)
	}
}

func contentOf(t *testing.T, d *Driver, name string) []byte {
	t.Helper()
	p, err := os.ReadFile(d.path(name))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestKilledAnywhereIsFoundByTheNextStart: New, and not only the call made again, cleans up.
func TestKilledAnywhereIsFoundByTheNextStart(t *testing.T) {
	for _, m := range []marks{xattrMarks{}, sidecarMarks{}} {
		for _, step := range []string{"created", "sized", "marked", "synced"} {
			d, _ := prepareCrash(t, m, "keeper")
			crash(t, d, "create", step)
			if n := len(left(t, d)); n < 3 {
				t.Fatalf("%T %s: nothing was left over: %v", m, step, left(t, d))
			}
			_ = d.Close()
			holdNothingOver(t, open(t, d.config.Directory, m), []string{"volume-N"}, "keeper")
		}
	}
}

// TestCreateFailsClean: an error in the middle leaves what was there before.
func TestCreateFailsClean(t *testing.T) {
	everywhere(t, func(t *testing.T, d *Driver) {
		before := left(t, d)
		d.step = func(step string) {
			if step == "synced" { // somebody takes the name at the last instant
				if err := os.WriteFile(d.path("volume-new"), []byte("theirs"), 0o600); err != nil {
					t.Error(err)
				}
			}
		}
		if err := crashCalls["create"](d); !errors.Is(err, dataplane.ErrExists) {
			t.Errorf("got %v, want ErrExists", err)
		}
		after := left(t, d)
		if len(after) != len(before)+1 || string(contentOf(t, d, "volume-new")) != "theirs" {
			t.Errorf("left are %v, before %v", after, before)
		}
	})
}
