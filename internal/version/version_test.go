package version

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

func TestDescribe(t *testing.T) {
	build := &debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}}
	build.Settings = []debug.BuildSetting{{Key: "vcs", Value: "git"}, {Key: "vcs.revision", Value: "abc"}}
	inTree := &debug.BuildInfo{Main: debug.Module{Version: devel}}
	tests := []struct {
		name            string
		version, commit string
		build           *debug.BuildInfo
		want            Info
	}{
		{"linker", "v2.0.0", "def", build, Info{Version: "v2.0.0", Commit: "def"}},
		{"go install", "", "", build, Info{Version: "v1.2.3", Commit: "abc"}},
		{"linker knows the version only", "v2.0.0", "", build, Info{Version: "v2.0.0", Commit: "abc"}},
		{"plain build in the tree", "", "", inTree, Info{Version: unknown, Commit: unknown}},
		{"no build info", "", "", nil, Info{Version: unknown, Commit: unknown}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.want.Go = runtime.Version()
			if got := describe(test.version, test.commit, test.build); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestGetIsNeverEmpty(t *testing.T) {
	if i := Get(); i.Version == "" || i.Commit == "" || i.Go == "" || i.Version != Version() || i.Commit != Commit() {
		t.Errorf("got %+v", i)
	}
}

// TestLinker builds a program with the flags of the Makefile: renaming a variable here must not go unnoticed there.
func TestLinker(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	flags := "-X github.com/cvold/cvold/internal/version.version=v9.8.7 " +
		"-X github.com/cvold/cvold/internal/version.commit=fedcba"
	if out, err := exec.Command("go", "build", "-ldflags", flags, "-o", program, "./testdata/print").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(program).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.TrimSpace(string(out)), "v9.8.7 fedcba"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, variable := range []string{"internal/version.version=", "internal/version.commit="} {
		if !strings.Contains(string(makefile), variable) {
			t.Errorf("the Makefile does not set %s", variable)
		}
	}
}
