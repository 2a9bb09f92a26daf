package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cvold/cvold/internal/program"
)

// installed is a copy of the unit that starts a program which exists everywhere.
func installed(t *testing.T) string {
	t.Helper()
	unit, err := os.ReadFile("cvold.service")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(unit), "ExecStart=/usr/bin/cvold", "ExecStart=/bin/true", 1)
	if text == string(unit) {
		t.Fatal("the unit does not start /usr/bin/cvold, which make install replaces")
	}
	path := filepath.Join(t.TempDir(), "cvold.service")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestUnitVerifies(t *testing.T) {
	out, err := exec.Command(program.Need(t, "systemd-analyze"), "verify", "--man=no", "--recursive-errors=no", installed(t)).CombinedOutput()
	if err != nil || strings.Contains(string(out), "cvold.service") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// TestUnitCheckBites holds TestUnitVerifies to its purpose: a misspelt key must be seen.
func TestUnitCheckBites(t *testing.T) {
	path := installed(t)
	unit, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(string(unit), "WatchdogSec=", "WatchDogSecs=", 1)
	if err := os.WriteFile(path, []byte(broken), 0o644); err != nil {
		t.Fatal(err)
	}
	out, _ := exec.Command(program.Need(t, "systemd-analyze"), "verify", "--man=no", "--recursive-errors=no", path).CombinedOutput()
	if !strings.Contains(string(out), "WatchDogSecs") {
		t.Errorf("a misspelt key was not seen:\n%s", out)
	}
}

// A mount namespace would hide the view from the host (systemd.exec(5)).
func TestUnitHasNoMountNamespace(t *testing.T) {
	unit, err := os.ReadFile("cvold.service")
	if err != nil {
		t.Fatal(err)
	}
	forbidden := []string{
		"ProtectSystem", "ProtectHome", "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs",
		"ProtectControlGroups", "ProtectProc", "ProcSubset", "ProtectHostname", "PrivateTmp", "PrivateDevices", "PrivateMounts",
		"PrivateUsers", "PrivateIPC", "MountFlags", "ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "ExecPaths",
		"NoExecPaths", "TemporaryFileSystem", "BindPaths", "BindReadOnlyPaths", "RootDirectory", "RootImage", "DynamicUser",
	}
	for line := range strings.Lines(string(unit)) {
		for _, key := range forbidden {
			if strings.HasPrefix(line, key+"=") {
				t.Errorf("%s gives the unit a mount namespace", key)
			}
		}
	}
}

func TestSysusers(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	lines, err := os.ReadFile("cvold.sysusers")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--root=" + root, "--inline"}
	for line := range strings.SplitSeq(string(lines), "\n") {
		if line != "" && line[0] != '#' {
			args = append(args, line)
		}
	}
	if out, err := exec.Command(program.Need(t, "systemd-sysusers"), args...).CombinedOutput(); err != nil {
		t.Fatalf("systemd-sysusers: %v\n%s", err, out)
	}
	group, err := os.ReadFile(filepath.Join(root, "etc/group"))
	if err != nil || !strings.HasPrefix(string(group), "cvold:") {
		t.Errorf("groups %q, %v", group, err)
	}
}
