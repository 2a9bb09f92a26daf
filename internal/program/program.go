// Package program finds the programs that tests talk to.
package program

import (
	"os"
	"os/exec"
	"testing"
)

// Need is the path of a program. A test without it is skipped aloud; where CI is set, where tests must be complete, it
// fails.
func Need(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	need(t, name, err)
	return path
}

// NeedFile is Need for what is no program: a module that one loads, a header.
func NeedFile(t testing.TB, path string) {
	t.Helper()
	_, err := os.Stat(path)
	need(t, path, err)
}

func need(t testing.TB, name string, err error) {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatalf("%s is not installed, and CI is set: run make setup", name)
	default:
		t.Skipf("%s is not installed: run make setup", name)
	}
}
